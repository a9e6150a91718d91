package deepseek

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// apiKey is a key. The header values are made once and shared by all requests.
type apiKey struct {
	fingerprint string
	bearer      []string // "Bearer " + the key
	plain       []string // the key

	// By cause, until when it is put aside (nanoseconds since 1970); a success
	// ends both. One cause never shortens another's time.
	unauthorizedUntil atomic.Int64
	forbiddenUntil    atomic.Int64
}

func newKey(k string) *apiKey {
	return &apiKey{fingerprint: fingerprint(k), bearer: []string{"Bearer " + k}, plain: []string{k}}
}

func (k *apiKey) until() int64 { return max(k.unauthorizedUntil.Load(), k.forbiddenUntil.Load()) }

func (k *apiKey) state(now time.Time) (State, int64) {
	switch t := now.UnixNano(); {
	case k.unauthorizedUntil.Load() > t:
		return StateUnauthorized, k.unauthorizedUntil.Load()
	case k.forbiddenUntil.Load() > t:
		return StateCooling, k.forbiddenUntil.Load()
	}
	return StateActive, 0
}

// keyring is an account's keys and which of them are worth taking.
type keyring struct {
	keys  []*apiKey
	ready readySet
	thaw  atomic.Int64 // the next time at which one put aside is due to come back
}

func newKeyring(keys []*apiKey) *keyring {
	r := &keyring{keys: keys, ready: newReadySet(len(keys))}
	for i := range keys {
		r.ready.set(i)
	}
	r.thaw.Store(farFuture)
	return r
}

// thawDue has the keys looked at again whose time aside is over.
func (r *keyring) thawDue(t int64) {
	r.thaw.Store(farFuture)
	for i, k := range r.keys {
		if until := k.until(); until > t {
			lower(&r.thaw, until)
		} else {
			r.ready.set(i)
		}
	}
}

// restore ends what a key was put aside for. It reports whether it was, once.
func (k *apiKey) restore() bool {
	if k.until() == 0 { // as mostly
		return false
	}
	unauthorized, forbidden := k.unauthorizedUntil.Swap(0), k.forbiddenUntil.Swap(0)
	return unauthorized != 0 || forbidden != 0
}

// keysOf are the keys that other has, with what is known of those that are here
// too.
func (r *keyring) keysOf(other *keyring) []*apiKey {
	known := make(map[string]*apiKey, len(r.keys))
	for _, k := range r.keys {
		known[k.plain[0]] = k
	}
	keys := slices.Clone(other.keys)
	for i, k := range keys {
		keys[i] = cmp.Or(known[k.plain[0]], k)
	}
	return keys
}
