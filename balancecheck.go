package deepseek

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// balanceEvery is how often the balance of an account without money is looked at.
const (
	balanceEvery   = 30 * time.Second
	balanceTimeout = 10 * time.Second
)

// due takes the accounts whose balance is to be looked at now; nobody else gets
// the same ones until their next time.
func (p *Pool) due(now time.Time) (accounts []*account) {
	t := now.UnixNano()
	if t < p.checkAt.Load() {
		return nil
	}
	p.checkAt.Store(farFuture)
	for _, a := range *p.accounts.Load() {
		if a.brokeUntil.Load() == 0 || a.disabled.Load() {
			continue
		}
		at := a.checkAt.Load()
		if at <= t && a.checkAt.CompareAndSwap(at, now.Add(balanceEvery).UnixNano()) {
			accounts = append(accounts, a)
		}
		lower(&p.checkAt, a.checkAt.Load())
	}
	return accounts
}

// checkNow looks whether accounts without money have some again, for a call
// that no other account can serve. It reports whether any is back.
func (p *Pool) checkNow(c *call, next http.RoundTripper, req *http.Request) bool {
	found := false
	for _, a := range p.due(time.Now()) {
		found = a.hasMoney(c.Context, c.watch, next, req) || found
	}
	return found
}

// balanceCheck looks whether accounts have money again, beside a call that
// others serve. It does not outlive the call.
type balanceCheck struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is over
	kept   bool          // until the end of the response
}

func (p *Pool) checkBeside(c *call, next http.RoundTripper, req *http.Request) *balanceCheck {
	accounts := p.due(time.Now())
	if len(accounts) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(c.Context)
	k := &balanceCheck{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(k.done)
		// A base that panics has not told of any money. The call, which may be well
		// served, has nothing to do with it.
		defer func() { _ = recover() }()
		for _, a := range accounts {
			a.hasMoney(ctx, c.watch, next, req)
		}
	}()
	return k
}

// stop ends the check, once its base has noticed.
func (k *balanceCheck) stop() {
	k.cancel()
	<-k.done
}

// endWith lets the check go on to the end of the response.
func (k *balanceCheck) endWith(c *call, resp *http.Response) {
	if k == nil {
		return
	}
	if _, over := resp.Body.(*memBody); !over {
		k.kept = true
		atEnd(c, resp, finishFunc(k.stop))
	}
}

// end ends the check with the call.
func (k *balanceCheck) end() {
	if k != nil && !k.kept {
		k.stop()
	}
}

// finishFunc is a finisher that does not care how it ended.
type finishFunc func()

func (f finishFunc) finish(*call, verdict) { f() }

// hasMoney asks for the account's balance
// (https://api-docs.deepseek.com/api/get-user-balance), and takes the account
// back if it is good for calls.
func (a *account) hasMoney(ctx context.Context, w watchers, next http.RoundTripper, like *http.Request) bool {
	key, _ := a.pick(time.Now())
	if key == nil { // none that is not put aside, and the balance may be all the same
		keys := a.ring().keys
		if len(keys) == 0 {
			return false
		}
		key = keys[0]
	}
	ctx, cancel := context.WithTimeout(ctx, balanceTimeout)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodGet,
		URL:    balanceURL(like.URL),
		Host:   like.Host,
		Header: http.Header{"Accept": {"application/json"}},
	}).WithContext(ctx)
	resp, err := next.RoundTrip(a.pool.auth.sign(req, key))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var balance struct {
		Available bool `json:"is_available"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, maxErrorBody)).Decode(&balance) != nil || !balance.Available {
		return false
	}
	a.refilled(ctx, w, "balance")
	return true
}

// balanceURL is where an endpoint tells the balance, going by one of its URLs.
func balanceURL(u *url.URL) *url.URL {
	path := u.Path
	for _, known := range []string{"/anthropic/", "/beta/", "/v1/", "/chat/", "/completions", "/responses", "/models", "/files"} {
		if i := strings.Index(path, known); i >= 0 {
			path = path[:i]
		}
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(path, "/") + "/user/balance"}
}
