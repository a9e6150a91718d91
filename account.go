package deepseek

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Account is a DeepSeek account: what limits, balance and context cache belong
// to. Its keys are interchangeable; more of them add no capacity.
type Account struct {
	// Name is what errors, logs and statistics call it. Default "account-1" and so on,
	// at an [Endpoint] "NAME-1".
	Name string
	// Keys are its API keys, at least one. They are never printed.
	Keys []string
	// MaxConcurrency is how many calls it may have in flight for each model, at first
	// and at most: 429s lower that, and answers raise it again. Default 0: learn. Then
	// it is 64 at first, doubled each 0.5 s up to the number that DeepSeek publishes
	// (2500 for deepseek-flash, 500 for the others), and follows what the server says.
	MaxConcurrency int
	// Weight is its share of the load beside other accounts. Default 1.
	Weight int
	// RequestsPerMinute and TokensPerMinute are caps on what it may use in any
	// minute, all models together, for hosts that have such; DeepSeek has none.
	// Calls wait for room in them, or are refused if their deadline is nearer.
	// Tokens are those of prompt and answer: guessed from the request's size when
	// a call is sent, and corrected when the answer tells. Default 0: no cap.
	RequestsPerMinute int
	TokensPerMinute   int
}

// String names the account and the fingerprints of its keys.
func (a Account) String() string {
	prints := make([]string, len(a.Keys))
	for i, k := range a.Keys {
		prints[i] = "#" + fingerprint(k)
	}
	return a.Name + "[" + strings.Join(prints, " ") + "]"
}

// GoString is String, so that %#v tells no key either.
func (a Account) GoString() string { return a.String() }

// LogValue is String, for log/slog.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// MarshalJSON has the fingerprints in place of the keys: what is written as JSON is
// mostly a log. There is no way back from it.
func (a Account) MarshalJSON() ([]byte, error) {
	type account Account
	told := account(a)
	told.Keys = make([]string, len(a.Keys))
	for i, k := range a.Keys {
		told.Keys[i] = "#" + fingerprint(k)
	}
	return json.Marshal(told)
}

// fingerprint names a key without telling anything of it.
func fingerprint(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

// State is what an account or key is fit for.
type State string

// The states of accounts and keys.
const (
	StateActive       State = "active"
	StateCooling      State = "cooling"        // told to come back later (429, 403)
	StateOutOfBalance State = "out of balance" // 402
	StateUnauthorized State = "unauthorized"   // 401; an account: all its keys
	StateOnTrial      State = "on trial"       // one call finds out whether it is fit again
	StateDisabled     State = "disabled"       // by hand
)

// How long keys and accounts are put aside, by cause.
const (
	keyOffFor     = 10 * time.Minute // 401
	keyCoolFor    = 30 * time.Second // 403
	accountOffFor = 5 * time.Minute  // 402
	maxCooldown   = 10 * time.Minute // whatever a Retry-After says
)

// lower moves a time back, never forward.
func lower(a *atomic.Int64, t int64) {
	for {
		old := a.Load()
		if t >= old || a.CompareAndSwap(old, t) {
			return
		}
	}
}

// later moves a time forward, never back. It reports whether it has.
func later(a *atomic.Int64, t int64) bool {
	for {
		old := a.Load()
		if t <= old {
			return false
		}
		if a.CompareAndSwap(old, t) {
			return true
		}
	}
}

// account is one account of a pool: its keys and what is known of its money.
type account struct {
	pool   *Pool
	name   string
	id     string // what other replicas know it by
	hash   uint64 // its place among others, the same in every process
	max    int
	weight int
	quota  quota

	disabled atomic.Bool
	// brokeUntil is when an account without money is tried again; 0 if it has some.
	brokeUntil atomic.Int64
	trial      atomic.Int32 // whether, that time being over, a call finds out: trialNone and so on
	checkAt    atomic.Int64 // when the balance may be asked for again

	keys   atomic.Pointer[keyring] // replaced, never changed
	cursor atomic.Uint32

	replica atomic.Pointer[Replica] // who is told what happens to it; nil: nobody

	mu    sync.Mutex
	slots []*slot // of all models; guarded by mu
}

// How an account without money comes to its trial, see [StateOnTrial].
const (
	trialNone     = iota // it has money
	trialDue             // a call is to find out
	trialUnderWay        // one is doing so
)

func (a *account) ring() *keyring {
	if r := a.keys.Load(); r != nil {
		return r
	}
	return &keyring{}
}

// setKeys replaces the keys.
func (a *account) setKeys(keys []*apiKey) {
	a.keys.Store(newKeyring(keys))
	a.back()
}

// pick returns the next usable key, or nil and when there will be one.
func (a *account) pick(now time.Time) (*apiKey, int64) {
	r, t := a.ring(), now.UnixNano()
	if len(r.keys) == 0 {
		return nil, farFuture
	}
	if t >= r.thaw.Load() {
		r.thawDue(t)
	}
	start := int(a.cursor.Add(1)) % len(r.keys)
	for i := r.ready.next(start); i >= 0; i = r.ready.next(start) {
		until := r.keys[i].until()
		if until <= t {
			return r.keys[i], 0
		}
		r.ready.clear(i)
		if r.keys[i].until() < until { // it was accepted meanwhile
			r.ready.set(i)
			continue
		}
		lower(&r.thaw, until)
	}
	return nil, r.thaw.Load()
}

// state is what the account is fit for, models aside.
func (a *account) state(now time.Time) (State, int64) {
	t := now.UnixNano()
	switch until := a.brokeUntil.Load(); {
	case a.disabled.Load():
		return StateDisabled, farFuture
	case until > t:
		return StateOutOfBalance, until
	case a.trial.Load() != trialNone:
		return StateOnTrial, 0
	}
	r := a.ring()
	state, soonest := StateUnauthorized, farFuture
	for _, k := range r.keys {
		s, until := k.state(now)
		switch s {
		case StateActive:
			return StateActive, 0
		case StateCooling:
			state = StateCooling
		}
		soonest = min(soonest, until)
	}
	return state, soonest
}

// keyAside puts a key aside.
func (a *account) keyAside(c *call, k *apiKey, o outcome, now time.Time) {
	e := CooldownEvent{Account: a.name, Key: k.fingerprint}
	until := &k.unauthorizedUntil
	e.State, e.Cause, e.For = StateUnauthorized, cause401, keyOffFor
	if o == forbidden {
		until = &k.forbiddenUntil
		e.State, e.Cause, e.For = StateCooling, cause403, keyCoolFor
	}
	was, _ := k.state(now)
	if later(until, now.Add(e.For).UnixNano()) {
		a.tell(SharedFact{Key: k.fingerprint, Cause: e.Cause, For: e.For})
		if was != e.State {
			c.watch.cooldown(c.Context, e)
		}
	}
}

// keyWorked takes in that a key was accepted.
func (a *account) keyWorked(c *call, k *apiKey) {
	if !k.restore() {
		return
	}
	a.keyBack(k)
	a.tell(SharedFact{Key: k.fingerprint, Cause: cause401}, SharedFact{Key: k.fingerprint, Cause: cause403})
	c.watch.cooldown(c.Context, CooldownEvent{Account: a.name, Key: k.fingerprint, State: StateActive, Cause: "success"})
}

// keyBack has a key taken again that was put aside.
func (a *account) keyBack(k *apiKey) {
	r := a.ring()
	if i := slices.Index(r.keys, k); i >= 0 {
		r.ready.set(i)
	}
	a.back()
}

// ranOut puts the account aside for want of money.
func (a *account) ranOut(c *call, now time.Time) {
	later(&a.checkAt, now.Add(balanceEvery).UnixNano())
	if a.broke(c.Context, c.watch, cause402, accountOffFor, now) {
		a.tell(SharedFact{Cause: cause402, For: accountOffFor})
	}
}

// broke puts the account aside for as long, unless it is for longer already.
func (a *account) broke(ctx context.Context, w watchers, cause string, d time.Duration, now time.Time) bool {
	was, _ := a.state(now)
	a.trial.Store(trialDue) // to begin once the time is over
	longer := later(&a.brokeUntil, now.Add(d).UnixNano())
	if longer && was != StateOutOfBalance {
		w.cooldown(ctx, CooldownEvent{Account: a.name, State: StateOutOfBalance, Cause: cause, For: d})
		a.back() // who waits for it, or for what its trial comes to, is to know
	}
	if !a.pool.noBalance {
		lower(&a.pool.checkAt, a.checkAt.Load())
	}
	return longer
}

// refilled takes the account back: it has money.
func (a *account) refilled(ctx context.Context, w watchers, cause string) {
	if a.restore(ctx, w, cause) {
		a.tell(SharedFact{Cause: cause402})
	}
}

// restore ends a lack of money. It reports whether there was one.
func (a *account) restore(ctx context.Context, w watchers, cause string) bool {
	if a.brokeUntil.Swap(0) == 0 && a.trial.Load() == trialNone {
		return false
	}
	a.trial.Store(trialNone)
	w.cooldown(ctx, CooldownEvent{Account: a.name, State: StateActive, Cause: cause})
	a.back()
	return true
}

// enable takes the account and its keys back, whatever put them aside.
func (a *account) enable() {
	a.disabled.Store(false)
	a.brokeUntil.Store(0)
	a.trial.Store(trialNone)
	r := a.ring()
	news := []SharedFact{{Cause: cause402}}
	for i, k := range r.keys {
		k.restore()
		r.ready.set(i)
		news = append(news, SharedFact{Key: k.fingerprint, Cause: cause401}, SharedFact{Key: k.fingerprint, Cause: cause403})
	}
	a.back()
	a.mu.Lock()
	slots := slices.Clone(a.slots)
	a.mu.Unlock()
	for _, s := range slots {
		s.warm()
		news = append(news, SharedFact{Model: s.model.model, Cause: cause429})
	}
	a.tell(news...)
}

// back has the account looked at again in every model.
func (a *account) back() {
	a.mu.Lock()
	slots := slices.Clone(a.slots)
	a.mu.Unlock()
	for _, s := range slots {
		s.offer()
	}
}
