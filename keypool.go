package deepseek

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Pool is a set of accounts that calls are spread over.
//
// A [Strategy] chooses among the accounts that have room. The limit, of requests
// in flight for an account and model, is learned (see [Account]). A key that is
// rejected (401) is put aside for 10 minutes, an account without money (402)
// until its balance says otherwise, or 5 minutes, but for what names no model and so
// costs nothing, such as the question for the balance; a key that is forbidden (403)
// for 30 seconds; the one model of an account that is told to come back later (429
// with Retry-After) for that long, at most 10 minutes. In all these cases the call
// goes on to another at once, if there is one.
//
// The balance of an account put aside for a 402 the pool asks for by itself, with GET
// /user/balance through the layers below: at most every 30 s and for at most 10 s,
// beside a call that other accounts serve, or before one that none can serve is
// refused. That counts as no attempt. A pool of [Endpoint.NewPool] asks only where
// the Dialect is DeepSeek's.
//
// Accounts and keys may be added, removed, disabled and enabled at any time; calls in
// flight end normally. A Pool is safe for concurrent use,
// and the cost of its choice does not depend on how many keys it has. It is made by
// [NewPool] or [Endpoint.NewPool]; the zero value is of no use.
type Pool struct {
	models   byModel[*modelPool]
	choosing atomic.Pointer[choosing] // a successor may change it

	prefix    string // of the names given by default; empty: "account-"
	auth      Auth
	noBalance bool // the host does not tell an account's balance

	accounts atomic.Pointer[[]*account] // replaced, never changed

	mu     sync.Mutex // held to change the pool
	named  int        // how many accounts were given a name by default
	byName map[string]*account
	byKey  map[string]*account

	replica *Replica // nil: its accounts are nobody else's; guarded by mu

	checkAt atomic.Int64 // when an account's balance is to be looked at; farFuture: never
}

// NewPool returns a pool of accounts that s chooses among; nil stands for
// [Affinity]. It refuses an account without a key, and one whose name or key is
// there already.
func NewPool(s Strategy, accounts ...Account) (*Pool, error) { return newPool(&Pool{}, s, accounts) }

// String is such as "pool[3]": how many accounts there are, and nothing of their keys.
func (p *Pool) String() string {
	return "pool[" + strconv.Itoa(len(*p.accounts.Load())) + "]"
}

// GoString is String, so that %#v tells no key either.
func (p *Pool) GoString() string { return p.String() }

func newPool(p *Pool, s Strategy, accounts []Account) (*Pool, error) {
	if s == nil {
		s = Affinity{}
	}
	p.choosing.Store(chosenBy(s))
	p.byName, p.byKey = map[string]*account{}, map[string]*account{}
	p.checkAt.Store(farFuture)
	all := make([]*account, 0, len(accounts))
	for _, a := range accounts {
		acct, err := p.enlist(a)
		if err != nil {
			return nil, err
		}
		all = append(all, acct)
	}
	p.accounts.Store(&all)
	return p, nil
}

// Middleware is the pool as a layer: it gives each call an account and key, and
// fails over. It sets the Authorization header, or x-api-key on the Anthropic
// paths, whatever the caller had put there. A call for which there is no room
// is refused with an error that matches [ErrQueueFull]; under a layer made by
// [NewQueue] it waits there. With no usable account at all it is refused with a
// [*NoAccountError]. Keys are sent to whatever place the request is for: put the
// layer of [NewOrigin] above.
func (p *Pool) Middleware() Middleware { return Chain(layer(p.do), layer(signing)) }

func (p *Pool) do(next http.RoundTripper, c *call, req *http.Request) (answer *http.Response, _ error) {
	f := accountFailover{pool: p, model: p.model(c.hostModel()), c: c, next: next, req: req}
	defer func() { f.end(answer) }()
	if c.isHedge() {
		f.had = append(f.had, c.of.to.slot) // which cannot change while there is a hedge
	}
	return f.run()
}

// model returns the accounts as they stand for one model.
func (p *Pool) model(model string) *modelPool {
	return p.models.get(model, func(model string) *modelPool {
		m := &modelPool{pool: p, model: model}
		m.thaw.Store(farFuture)
		m.bench.Store(newBench(m, nil, *p.accounts.Load()))
		return m
	})
}

// Add adds an account. The error is a [*ConfigError].
func (p *Pool) Add(a Account) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	acct, err := p.enlist(a)
	if err != nil {
		return err
	}
	p.setAccounts(append(slices.Clone(*p.accounts.Load()), acct))
	return nil
}

// enlist checks an account and takes down its name and keys. p.mu is held.
func (p *Pool) enlist(a Account) (*account, error) {
	name := a.Name
	if name == "" {
		name = p.nextName()
	}
	field := "Account " + strconv.Quote(name)
	switch {
	case len(a.Keys) == 0:
		return nil, badConfig(field+".Keys", "", "must hold at least one key")
	case a.MaxConcurrency < 0:
		return nil, badConfig(field+".MaxConcurrency", a.MaxConcurrency, "must not be negative")
	case a.Weight < 0:
		return nil, badConfig(field+".Weight", a.Weight, "must not be negative")
	case a.RequestsPerMinute < 0:
		return nil, badConfig(field+".RequestsPerMinute", a.RequestsPerMinute, "must not be negative")
	case a.TokensPerMinute < 0:
		return nil, badConfig(field+".TokensPerMinute", a.TokensPerMinute, "must not be negative")
	case p.byName[name] != nil:
		return nil, badConfig(field+".Name", name, "is taken by another account")
	}
	acct := &account{pool: p, name: name, max: a.MaxConcurrency, weight: cmp.Or(a.Weight, 1)}
	acct.quota.requestsPerMinute, acct.quota.tokensPerMinute = a.RequestsPerMinute, a.TokensPerMinute
	acct.hash = mix(uint64(crc32.Checksum([]byte(cmp.Or(a.Name, fingerprint(a.Keys[0]))), castagnoli)))
	keys := make([]*apiKey, len(a.Keys))
	for i, k := range a.Keys {
		if err := p.checkKey(fmt.Sprintf("%s.Keys[%d]", field, i), k); err != nil {
			for _, taken := range a.Keys[:i] {
				delete(p.byKey, taken)
			}
			return nil, err
		}
		p.byKey[k] = acct
		keys[i] = newKey(k)
	}
	acct.keys.Store(newKeyring(keys))
	acct.id = cmp.Or(a.Name, p.prefix+"#"+fingerprint(a.Keys[0]))
	acct.replica.Store(p.replica)
	p.byName[name] = acct
	return acct, nil
}

// nextName is the name of an account that has none. p.mu is held.
func (p *Pool) nextName() string {
	for {
		p.named++
		if name := cmp.Or(p.prefix, "account-") + strconv.Itoa(p.named); p.byName[name] == nil {
			return name
		}
	}
}

// checkKey refuses what cannot be a key, or is in the pool already. p.mu is held.
func (p *Pool) checkKey(field, k string) error {
	if strings.TrimSpace(k) == "" {
		return badConfig(field, "", "is empty")
	}
	for i := range len(k) {
		if k[i] <= ' ' || k[i] >= 0x7f {
			return badConfig(field, "", fmt.Sprintf("has a blank, control or non-ASCII character at position %d", i))
		}
	}
	if a := p.byKey[k]; a != nil {
		return badConfig(field, "#"+fingerprint(k), "is in account "+strconv.Quote(a.name)+" already")
	}
	return nil
}

// find returns the account of that name, or nil. p.mu is held.
func (p *Pool) find(name string) *account { return p.byName[name] }

// setAccounts replaces the set of accounts. p.mu is held.
func (p *Pool) setAccounts(accounts []*account) {
	p.accounts.Store(&accounts)
	p.models.each(func(m *modelPool) {
		m.bench.Store(newBench(m, m.bench.Load(), accounts))
		m.returned()
	})
}

// Remove removes an account. Its calls in flight end normally. The error is a
// [*ConfigError].
func (p *Pool) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.find(name)
	if a == nil {
		return unknownAccount(name)
	}
	a.disabled.Store(true)
	delete(p.byName, name)
	for _, k := range a.ring().keys {
		delete(p.byKey, k.plain[0])
	}
	p.setAccounts(slices.DeleteFunc(slices.Clone(*p.accounts.Load()), func(b *account) bool { return a == b }))
	return nil
}

// AddKey adds a key to an account. The error is a [*ConfigError].
func (p *Pool) AddKey(account, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.find(account)
	if a == nil {
		return unknownAccount(account)
	}
	if err := p.checkKey("key", key); err != nil {
		return err
	}
	p.byKey[key] = a
	a.setKeys(append(slices.Clone(a.ring().keys), newKey(key)))
	return nil
}

// RemoveKey removes a key, given as such or by fingerprint, from an account. An
// account without keys is not used. The error is a [*ConfigError].
func (p *Pool) RemoveKey(account, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.find(account)
	if a == nil {
		return unknownAccount(account)
	}
	key = strings.TrimPrefix(key, "#")
	var left []*apiKey
	for _, k := range a.ring().keys {
		if k.fingerprint != key && k.plain[0] != key {
			left = append(left, k)
			continue
		}
		delete(p.byKey, k.plain[0])
	}
	if len(left) == len(a.ring().keys) {
		return badConfig("key", "", "is not in account "+strconv.Quote(account))
	}
	a.setKeys(left)
	return nil
}

// Disable puts an account aside until Enable is called. Observers are not told. The
// error is a [*ConfigError].
func (p *Pool) Disable(account string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.find(account)
	if a == nil {
		return unknownAccount(account)
	}
	a.disabled.Store(true)
	return nil
}

// Enable makes an account usable at once, with all its keys, whatever put it
// or them aside. Observers are not told. The error is a [*ConfigError].
func (p *Pool) Enable(account string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.find(account)
	if a == nil {
		return unknownAccount(account)
	}
	a.enable()
	return nil
}

func unknownAccount(name string) error {
	return badConfig("account", strconv.Quote(name), "is not in the pool")
}

// farFuture stands for never in times kept as nanoseconds since 1970.
const farFuture = int64(1<<63 - 1)
