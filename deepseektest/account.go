package deepseektest

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// An Account is a DeepSeek account: what limits, balance and context cache
// belong to. Its keys are interchangeable.
type Account struct {
	// Name identifies the account in Requests and in the methods that take a
	// key. No other account may have it. The default is the first key.
	Name string
	// Keys are the API keys, at least one, and none of another account.
	Keys []string
	// Balance is in US dollars. Zero means 100; a negative balance is an
	// empty account, which gets 402.
	Balance float64
	// Limits holds the concurrency by model, whose name may be an alias. Models
	// that are missing have their published limit: 2500 flash, 500 pro.
	Limits map[string]int
	// LimitFor, if set, lowers the limit of a model by what is left of the
	// balance. It must not call the Server's methods: that would deadlock.
	LimitFor func(model string, balance float64) int
	// HideLimit leaves the numbers and the balance clause out of the 429.
	HideLimit bool
	// Pace, if set, is how long this account's answers take, instead of what
	// WithPace says.
	Pace *Pace
	// UserLimit, if positive, is a further limit per model and user_id, as
	// accounts with a raised quota have it. A request without one counts as
	// the user "".
	UserLimit int
}

// account is the live state of an Account. Guarded by Server.mu.
type account struct {
	Account
	balance float64
	spent   float64
	models  map[string]*gauge
	users   map[userModel]int
}

type gauge struct{ now, max int }

type userModel struct{ user, model string }

// addAccount panics if the account cannot be what was meant, as the methods do that
// are given a key, account or model that there is not.
func (s *Server) addAccount(a Account) *account {
	if len(a.Keys) == 0 || slices.Contains(a.Keys, "") {
		panic(fmt.Sprintf("deepseektest: account %q needs at least one key, and none that is empty", a.Name))
	}
	if a.Name == "" {
		a.Name = a.Keys[0]
	}
	if s.names[a.Name] != nil {
		panic(fmt.Sprintf("deepseektest: two accounts have the name %q", a.Name))
	}
	limits := make(map[string]int, len(a.Limits))
	for model, n := range a.Limits {
		id := s.canonical(model)
		if _, twice := limits[id]; twice {
			panic(fmt.Sprintf("deepseektest: account %q has two limits for %s, which has other names too", a.Name, id))
		}
		limits[id] = n
	}
	a.Keys = slices.Clone(a.Keys)
	a.Limits = limits
	acc := &account{
		Account: a,
		balance: a.Balance,
		models:  make(map[string]*gauge),
		users:   make(map[userModel]int),
	}
	if a.Balance == 0 {
		acc.balance = 100
	}
	for _, k := range a.Keys {
		if other := s.keys[k]; other != nil && other != acc {
			panic(fmt.Sprintf("deepseektest: accounts %q and %q have the same key %s", other.Name, a.Name, k))
		}
		s.keys[k] = acc
	}
	s.names[a.Name] = acc
	return acc
}

// authenticate returns the account of a key, nil if it has none.
func (s *Server) authenticate(key string) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == "" || s.revoked[key] {
		return nil
	}
	if acc := s.keys[key]; acc != nil {
		return acc
	}
	if s.open {
		return s.addAccount(Account{Keys: []string{key}})
	}
	return nil
}

// find returns the account of a key or name; mu is held. If every key is an
// account, it makes one.
func (s *Server) find(key string) *account {
	if acc := s.keys[key]; acc != nil {
		return acc
	}
	if acc := s.names[key]; acc != nil {
		return acc
	}
	if s.open && key != "" {
		return s.addAccount(Account{Keys: []string{key}})
	}
	panic("deepseektest: no account has the key or name " + key)
}

// canonical turns an alias into the id of its model. It panics if there is no such
// model.
func (s *Server) canonical(model string) string {
	m := s.cfg.model(model)
	if m == nil {
		panic(fmt.Sprintf("deepseektest: no model has the name %q; there are %s", model, s.cfg.modelNames()))
	}
	return m.ID
}

// SetLimit sets the concurrency of the account of a key (or account name)
// for a model. Requests in flight go on. An unknown key or model panics.
func (s *Server) SetLimit(key, model string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(key).Limits[s.canonical(model)] = n
}

// SetPace sets how long the answers of the account of a key (or account name)
// take from now on; nil is what WithPace says. Answers under way go on as they
// began. An unknown key panics.
func (s *Server) SetPace(key string, p *Pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(key).Pace = p
}

// pace is how long the answers of an account take.
func (s *Server) pace(acc *account) Pace {
	s.mu.Lock()
	defer s.mu.Unlock()
	if acc.Pace != nil {
		return *acc.Pace
	}
	return s.cfg.pace
}

// SetBalance sets the balance, in US dollars, of the account of a key (or
// account name). At zero and below its requests get 402. An unknown key
// panics.
func (s *Server) SetBalance(key string, usd float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.find(key).balance = usd
}

// Balance returns what is left of the account of a key (or account name). An
// unknown key panics.
func (s *Server) Balance(key string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key).balance
}

// Spent returns what the account of a key (or account name) has paid for
// answers, in US dollars. An unknown key panics.
func (s *Server) Spent(key string) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(key).spent
}

// RevokeKey makes one key invalid: its requests get 401. Other keys of its
// account are unaffected, and so are requests in flight. An unknown key panics.
func (s *Server) RevokeKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known(key)
	s.revoked[key] = true
}

// RestoreKey undoes RevokeKey. An unknown key panics.
func (s *Server) RestoreKey(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known(key)
	delete(s.revoked, key)
}

// known panics if no account has the key; mu is held. The name of an account is
// none of its keys.
func (s *Server) known(key string) {
	if s.keys[key] == nil && (!s.open || key == "") {
		panic("deepseektest: no account has the key " + key)
	}
}

// InFlight returns the requests in flight of the account of a key (or account
// name). An empty model means all models. An unknown key or model panics.
func (s *Server) InFlight(key, model string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	acc := s.find(key)
	if model == "" {
		var n int
		for _, g := range acc.models {
			n += g.now
		}
		return n
	}
	if g := acc.models[s.canonical(model)]; g != nil {
		return g.now
	}
	return 0
}

// MaxInFlight returns the most requests that the account of a key (or account
// name) ever had in flight for a model. Requests that were refused, by the Server
// or with a status from 400 to 499 by a Reply, do not count. An unknown key or
// model panics.
func (s *Server) MaxInFlight(key, model string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.find(key).models[s.canonical(model)]; g != nil {
		return g.max
	}
	return 0
}

func (acc *account) gauge(model string) *gauge {
	g := acc.models[model]
	if g == nil {
		g = new(gauge)
		acc.models[model] = g
	}
	return g
}

func (acc *account) limit(m *Model) int {
	n, ok := acc.Limits[m.ID]
	if !ok {
		n = m.Concurrency
	}
	if acc.LimitFor != nil {
		n = min(n, acc.LimitFor(m.ID, acc.balance))
	}
	return n
}

// admit takes a slot for a request and returns how many are taken, or says why
// not. Without force it obeys the balance and the limits. mu is held.
func (s *Server) admit(acc *account, m *Model, user string, force bool) (int, *apiError) {
	g := acc.gauge(m.ID)
	if !force {
		if acc.balance <= 0 {
			return 0, errBalance()
		}
		if limit := acc.limit(m); g.now >= limit {
			if acc.HideLimit {
				return 0, errConcurrency()
			}
			return 0, errConcurrencyOf(g.now+1, limit)
		}
		if n := acc.users[userModel{user, m.ID}]; acc.UserLimit > 0 && n >= acc.UserLimit {
			return 0, errConcurrency()
		}
	}
	g.now++
	g.max = max(g.max, g.now)
	if acc.UserLimit > 0 {
		acc.users[userModel{user, m.ID}]++
	}
	return g.now, nil
}

// release gives a slot back and charges for what was produced.
func (s *Server) release(acc *account, m *Model, user string, cost float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	acc.gauge(m.ID).now--
	acc.balance -= cost
	acc.spent += cost
	if acc.UserLimit > 0 {
		k := userModel{user, m.ID}
		if acc.users[k]--; acc.users[k] <= 0 {
			delete(acc.users, k)
		}
	}
}

// balanceBody is the answer of GET /user/balance.
func (s *Server) balanceBody(acc *account) []byte {
	s.mu.Lock()
	balance := acc.balance
	s.mu.Unlock()
	amount := money(balance)
	return fmt.Appendf(nil, `{"is_available":%t,"balance_infos":[{"currency":"USD","total_balance":%q,"granted_balance":"0.00","topped_up_balance":%q}]}`,
		balance > 0, amount, amount)
}

func money(usd float64) string {
	return fmt.Sprintf("%.2f", math.Floor(max(usd, 0)*100+1e-6)/100)
}

// maskKey shows the end of a key as the 401 text does.
func maskKey(key string) string {
	if len(key) > 4 {
		key = key[len(key)-4:]
	}
	return "****" + strings.ToValidUTF8(key, "")
}
