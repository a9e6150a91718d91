package deepseek

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cache answers a request that was answered before, and makes one call of equal
// requests that are in flight at the same time.
//
// Requests are equal if they go to the same path and their bodies mean the same:
// the order of members, blanks, and the way strings are escaped do not matter;
// everything else does, the stream member and the user_id among it. So users
// that are told apart by user_id (chat, /responses) or metadata.user_id
// (Anthropic) share nothing. Requests are answered from the cache whatever their
// temperature: who wants several answers to one request sends it with
// [BypassCache], or the header "Cache-Control: no-store". Calls that are pinned by
// [OnEndpoint] share with those to the same endpoint; an answer of a model that took
// another's place is not kept, and shared only with calls of the same [FallBackTo].
//
// What is asked of a model is cached: POST to /chat/completions, /completions,
// /responses and /messages, with or without a prefix such as /beta. Only
// complete answers are kept, that is 200s that the layer of [NewGuard] found
// whole; those that end for the reasons length and content_filter are, because the
// same request would be cut there again. A stream is answered as the same
// stream, one event a read. A kept answer costs nothing: its usage is that of
// the call that brought it, and no [Meter] counts it again.
//
// Callers of a shared call get all of the answer from its beginning, as it
// comes. One that gives up does not affect the others; when all have, the call is
// ended. It runs with the values of the context of the caller that came first,
// and until the latest deadline of those that are there. If it fails, all get
// that error, or that response. The stream is read ahead of the quickest caller
// by 64 KiB at most.
//
// Responses tell what they are in the header Seawall-Cache: "hit", "miss" or
// "shared".
//
// The zero value is the default.
type Cache struct {
	// TTL is how long an answer is kept. Default 1 hour; negative: none is, but
	// equal requests in flight share a call.
	TTL time.Duration
	// MaxBytes bounds the default store; the answers used last stay in it.
	// Default 64 MiB.
	MaxBytes int64
	// MaxAnswer is the length of the longest answer that is kept. While it is
	// coming, a longer one can be joined up to this length only, and no more of
	// it is held than its callers have yet to read. Default 4 MiB, or MaxBytes if
	// that is less. A stream of DeepSeek's has some 300 bytes a token.
	MaxAnswer int
	// Store is where answers are kept. Default: in memory.
	Store Store
	// StoreTimeout bounds each use of Store. Default 1 s.
	StoreTimeout time.Duration
}

func (p Cache) withDefaults() (Cache, error) {
	switch {
	case p.MaxBytes < 0:
		return p, badConfig("Cache.MaxBytes", p.MaxBytes, "must not be negative")
	case p.MaxAnswer < 0:
		return p, badConfig("Cache.MaxAnswer", p.MaxAnswer, "must not be negative")
	case p.StoreTimeout < 0:
		return p, badConfig("Cache.StoreTimeout", p.StoreTimeout, "must not be negative")
	case p.Store != nil && p.MaxBytes != 0:
		return p, badConfig("Cache.MaxBytes", p.MaxBytes, "is for the default store only")
	}
	if p.TTL == 0 {
		p.TTL = time.Hour
	}
	if p.MaxBytes == 0 {
		p.MaxBytes = 64 << 20
	}
	if p.MaxAnswer == 0 {
		p.MaxAnswer = 4 << 20
		if p.Store == nil {
			p.MaxAnswer = int(min(int64(p.MaxAnswer), p.MaxBytes))
		}
	}
	if p.StoreTimeout == 0 {
		p.StoreTimeout = time.Second
	}
	return p, nil
}

// NewCache returns the layer that caches and shares answers. In addition to what
// [Cache] says, it tells requests apart by the key they come with, in the headers
// Authorization, X-Api-Key and Api-Key; [WithCache] does not, because there the key
// is the transport's.
func NewCache(p Cache) (Middleware, error) {
	k, err := newCache(p, true, "")
	if err != nil {
		return nil, err
	}
	return layer(k.do), nil
}

func newCache(p Cache, byKey bool, currency string) (*cache, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	k := &cache{policy: p, byKey: byKey, currency: currency, store: p.Store, flights: map[string]*flight{}}
	if k.store == nil {
		k.local = newMemoryStore(p.MaxBytes)
		k.store = k.local
	}
	return k, nil
}

type cache struct {
	policy   Cache
	byKey    bool
	currency string // of the savings; empty: they are not known
	store    Store
	local    *memoryStore // the store, if it is the default one

	mu      sync.Mutex
	flights map[string]*flight // those that can be joined; guarded by mu

	hits, misses, shared, faults atomic.Int64
	savedPrompt, savedOutput     atomic.Int64
	saved                        atomic.Int64 // Money
}

// CacheUse is what the response cache was for a call.
type CacheUse string

// The uses of the response cache. A call that it was not asked about has none.
const (
	CacheHit    CacheUse = "hit"    // answered from it
	CacheMiss   CacheUse = "miss"   // answered by the server
	CacheShared CacheUse = "shared" // answered by the server, in a call that another had begun
)

// cacheUse is a CacheUse in a byte.
type cacheUse uint8

const (
	cacheUnused cacheUse = iota
	cacheHit
	cacheMiss
	cacheShared
)

func (u cacheUse) public() CacheUse {
	return [...]CacheUse{"", CacheHit, CacheMiss, CacheShared}[u]
}

// cacheModeKey finds the cacheMode among a context's values.
type cacheModeKey struct{}

type cacheMode uint8

const (
	cacheNormally cacheMode = iota
	cacheRefresh
	cacheBypass
)

// BypassCache returns a context whose calls have nothing to do with the response
// cache: they are not answered from it, not kept, and not shared. It is the same
// as the header "Cache-Control: no-store" on a request.
func BypassCache(ctx context.Context) context.Context {
	return context.WithValue(ctx, cacheModeKey{}, cacheBypass)
}

// RefreshCache returns a context whose calls are not answered from the response
// cache, nor shared, but whose answers are kept in place of older ones. It is the
// same as the header "Cache-Control: no-cache" on a request.
func RefreshCache(ctx context.Context) context.Context {
	return context.WithValue(ctx, cacheModeKey{}, cacheRefresh)
}

// mode is how a request wants the cache, and the request without the header that
// says so, which is for us alone.
func (k *cache) mode(c *call, req *http.Request) (cacheMode, *http.Request) {
	mode, _ := c.Context.Value(cacheModeKey{}).(cacheMode)
	values := req.Header["Cache-Control"]
	if len(values) == 0 {
		return mode, req
	}
	asked := cacheNormally
	for directive := range strings.SplitSeq(strings.Join(values, ","), ",") {
		switch strings.ToLower(strings.TrimSpace(directive)) {
		case "no-store":
			asked = max(asked, cacheBypass)
		case "no-cache":
			asked = max(asked, cacheRefresh)
		}
	}
	if asked == cacheNormally {
		return mode, req
	}
	fresh := *req
	fresh.Header = maps.Clone(req.Header)
	delete(fresh.Header, "Cache-Control")
	return max(mode, asked), &fresh
}

func (k *cache) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost || !isGeneration(req.URL.Path) {
		return c.pass(next, req)
	}
	mode, req := k.mode(c, req)
	if mode != cacheBypass {
		if p := k.passenger(next, c, req, mode); p != nil {
			return p.answer(req)
		}
	}
	return c.pass(next, req)
}

// passenger puts a call on the flight of its key; nil if it has none.
func (k *cache) passenger(next http.RoundTripper, c *call, req *http.Request, mode cacheMode) *passenger {
	body := takeSniffer()
	defer giveSniffer(body)
	if !c.body.copyTo(body, req) {
		return nil
	}
	only, _ := c.Value(endpointKey{}).(string)
	place := [4 + len(keyHeaders)]string{originOf(req.URL), req.URL.EscapedPath(), req.URL.RawQuery, only}
	if k.byKey {
		for i, name := range keyHeaders {
			place[4+i] = req.Header.Get(name)
		}
	}
	key, ok := requestKey(body.Bytes(), place[:]...)
	if !ok {
		return nil
	}
	name := key
	if others, ok := c.Value(fallbackKey{}).([]string); ok { // who may not be answered by others
		name += fmt.Sprintf(" %q", others)
	}
	p, first := k.board(key, name, c, mode)
	if first {
		k.depart(p.flight, next, c, req, body.Bytes(), mode)
	}
	return p
}

// board joins the flight of that name, or makes one that is first's to start.
func (k *cache) board(key, name string, c *call, mode cacheMode) (p *passenger, first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if mode != cacheRefresh {
		if f := k.flights[name]; f != nil {
			if p := f.board(c, false); p != nil {
				return p, false
			}
		}
	}
	f := newFlight(k, key, name)
	if mode != cacheRefresh {
		k.flights[name] = f
	}
	return f.board(c, true), true
}

// gone takes a flight off those that can be joined.
func (k *cache) gone(f *flight) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.flights[f.name] == f {
		delete(k.flights, f.name)
	}
}

var errStorePanicked = errors.New("deepseek: the response cache's store panicked")

// depart finds the flight's answer in the store, or starts its call.
func (k *cache) depart(f *flight, next http.RoundTripper, c *call, req *http.Request, body []byte, mode cacheMode) {
	departed := false
	defer func() {
		if !departed { // somebody else may be waiting already
			f.land(errStorePanicked)
		}
	}()
	if mode != cacheRefresh && k.policy.TTL > 0 {
		if kept := k.lookup(c, f.key); kept != nil {
			departed = true
			f.kept = kept
			f.land(nil)
			return
		}
	}
	departed = true
	k.misses.Add(1)
	f.start(next, c, req, bytes.Clone(body))
}

// lookup asks the store.
func (k *cache) lookup(c *call, key string) *keptAnswer {
	ctx := c.Context
	if k.local == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.policy.StoreTimeout)
		defer cancel()
	}
	value, err := k.store.Get(ctx, key)
	if err == nil && value != nil {
		var kept *keptAnswer
		if kept, err = readKept(value); err == nil {
			return kept
		}
	}
	if err != nil && c.Context.Err() == nil {
		k.failed(c, "get", err)
	}
	return nil
}

// keep puts an answer into the store.
func (k *cache) keep(c *call, key string, kept *keptAnswer) {
	ctx := c.Context
	if k.local == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, k.policy.StoreTimeout)
		defer cancel()
	}
	if err := k.store.Set(ctx, key, kept.encode(), k.policy.TTL); err != nil {
		k.failed(c, "set", err)
	}
}

// failed reports that the store failed.
func (k *cache) failed(c *call, op string, err error) {
	k.faults.Add(1)
	c.watch.store(StoreErrorEvent{Context: c.Context, Model: c.model, Op: op, Err: err})
}

// spared counts what a caller got for nothing, and returns its price.
func (k *cache) spared(prompt, completion int, amount Money, currency string) Money {
	k.savedPrompt.Add(int64(prompt))
	k.savedOutput.Add(int64(completion))
	if currency != k.currency {
		return 0
	}
	k.saved.Add(int64(amount))
	return amount
}

// CacheStats is the response cache at one moment.
type CacheStats struct {
	Hits   int64 // calls answered from it
	Misses int64 // calls made upstream
	Shared int64 // calls that shared one with another

	Entries int   // answers kept; 0 if the store is not the default one
	Bytes   int64 // that they take

	StoreErrors int64 // failures of the store; the calls went on

	// What hits, and calls that shared one to its end, would have used and cost.
	SavedPromptTokens int64
	SavedOutputTokens int64
	Saved             Money
}

func (k *cache) stats() CacheStats {
	s := CacheStats{
		Hits: k.hits.Load(), Misses: k.misses.Load(), Shared: k.shared.Load(), StoreErrors: k.faults.Load(),
		SavedPromptTokens: k.savedPrompt.Load(), SavedOutputTokens: k.savedOutput.Load(), Saved: Money(k.saved.Load()),
	}
	if k.local != nil {
		s.Entries, s.Bytes = k.local.size()
	}
	return s
}
