package conformance

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// sample is what one attempt is for the breaker.
type sample uint8

const (
	success sample = iota
	failure
	ignored
	broken // first data is a success, the break afterwards a failure
)

// row is a row of the table of outcomes: what one attempt comes to, and what
// that means for the call, the breaker, and the account and key.
type row struct {
	name    string
	modes   []mode             // default both
	reply   deepseektest.Reply // of the attempt
	base    func() error       // instead: what the network says to the attempt
	status  int                // the caller gets this response
	err     error              // the caller gets this error
	stalled bool               // which is a timeout
	after   bool               // after some data
	retried bool               // or: the caller gets the whole answer of a second attempt
	where   place              // of the second attempt
	wait    [2]time.Duration   // until the second attempt, or the end of the call
	sample  sample
	key     deepseek.State // of the key that was used; default active
	account deepseek.State // of its account
	limit   int            // learned; 0 means untouched
	last    row1           // what the caller gets if every attempt ends so
}

// row1 is what is left when all attempts fail alike.
type row1 struct {
	status   int    // the real last response; 0 means an error
	loose    bool   // a 200 that is no answer: that or an error, but never a whole answer
	finish   string // of such a 200, which tells the caller enough
	attempts int    // with MaxAttempts 4
	none     bool   // not applicable
}

type place uint8

const (
	anywhere place = iota
	otherKey
	otherAccount
)

var bothModes = []mode{chat, stream}

func rows() []row {
	backoff := [2]time.Duration{0, 500 * time.Millisecond}
	at := func(d time.Duration) [2]time.Duration { return [2]time.Duration{d, d + 500*time.Millisecond} }
	list := []row{{name: "complete", reply: deepseektest.Normal(), status: 200, sample: success}}
	for _, code := range []int{400, 404, 413, 422, 405, 410, 418} {
		list = append(list, row{name: fmt.Sprint(code), reply: deepseektest.Status(code).And(deepseektest.WithHeader("X-Custom", "kept")), status: code, sample: success})
	}
	list = append(list,
		row{name: "401", reply: deepseektest.Unauthorized(), retried: true, where: otherKey, sample: ignored,
			key: deepseek.StateUnauthorized, last: row1{status: 401, attempts: 3}},
		row{name: "402", reply: deepseektest.InsufficientBalance(), retried: true, where: otherAccount, sample: ignored,
			account: deepseek.StateOutOfBalance, last: row1{status: 402, attempts: 2}},
		row{name: "403", reply: deepseektest.Status(403), retried: true, where: otherKey, sample: ignored,
			key: deepseek.StateCooling, last: row1{status: 403, attempts: 2}},
		row{name: "429 with number", reply: deepseektest.RateLimited(20), retried: true, where: otherAccount, sample: ignored,
			limit: 19, last: row1{status: 429, attempts: 4}},
		row{name: "429 plain", reply: deepseektest.RateLimitedPlain(), retried: true, where: otherAccount, sample: ignored,
			limit: -1, last: row1{status: 429, attempts: 4}},
		row{name: "429 with Retry-After", reply: deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("30")), retried: true,
			where: otherAccount, sample: ignored, limit: -1, account: deepseek.StateCooling, last: row1{none: true}},
	)
	for _, code := range []int{408, 409, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529} {
		list = append(list, row{name: fmt.Sprint(code), reply: deepseektest.Status(code).And(deepseektest.WithHeader("X-Custom", "kept")),
			retried: true, wait: backoff, sample: failure, last: row1{status: code, attempts: 4}})
	}
	gone := row1{attempts: 4}
	opErr := func(err error) func() error {
		return func() error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	}
	list = append(list,
		row{name: "dial failure", base: opErr(syscall.ECONNREFUSED), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "dns failure", base: func() error {
			return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "api", IsNotFound: true}}
		}, retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "TLS timeout", base: func() error { return tlsTimeout{} }, retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "reset before headers", reply: deepseektest.ResetBeforeHeaders(), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "EOF before headers", reply: deepseektest.CloseBeforeHeaders(), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "no headers (FirstData)", reply: deepseektest.Hang(), retried: true, wait: at(10 * time.Minute), sample: failure, last: gone},
		row{name: "silence before data", reply: deepseektest.StallAfter(0), retried: true, wait: at(time.Minute), sample: failure, last: gone},
		row{name: "keep-alives without data (FirstData)", reply: deepseektest.StallKeepAlive(0, 10*time.Second), retried: true,
			wait: at(10 * time.Minute), sample: failure, last: gone},
		row{name: "queue timeout", reply: deepseektest.QueueTimeout(50, 10*time.Second), retried: true,
			wait: at(500 * time.Second), sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "HTML 200", reply: deepseektest.HTML200(), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "HTML 502", reply: deepseektest.HTML(502), retried: true, wait: backoff, sample: failure, last: row1{status: 502, attempts: 4}},
		row{name: "empty 200", reply: deepseektest.EmptyBody200(), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "error object 200", modes: []mode{chat}, reply: deepseektest.ErrorObject200("oops"), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "JSON cut short", modes: []mode{chat}, reply: deepseektest.TruncatedJSON(), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "JSON cut, EOF", modes: []mode{chat}, reply: deepseektest.CutAfter(5), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "JSON cut, drop", modes: []mode{chat}, reply: deepseektest.DropAfter(5), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "JSON cut, reset", modes: []mode{chat}, reply: deepseektest.ResetAfter(5), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "JSON cut, silence", modes: []mode{chat}, reply: deepseektest.StallAfter(5), retried: true, wait: at(time.Minute), sample: failure, last: gone},

		row{name: "stream EOF before data", modes: []mode{stream}, reply: deepseektest.CutAfter(0), retried: true, wait: backoff, sample: failure, last: row1{attempts: 4, loose: true}},
		row{name: "stream drop before data", modes: []mode{stream}, reply: deepseektest.DropAfter(0), retried: true, wait: backoff, sample: failure, last: gone},
		row{name: "stream reset before data", modes: []mode{stream}, reply: deepseektest.ResetAfter(0), retried: true, wait: backoff, sample: failure, last: gone},
		// The role alone is data: the caller has seen it.
		row{name: "stream reset after the role", modes: []mode{stream}, reply: deepseektest.ResetInsideEvent(0), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream EOF after the role", modes: []mode{stream}, reply: deepseektest.CutInsideEvent(0), err: io.ErrUnexpectedEOF, after: true, sample: broken},

		row{name: "stream EOF after data", modes: []mode{stream}, reply: deepseektest.CutAfter(5), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream drop after data", modes: []mode{stream}, reply: deepseektest.DropAfter(5), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream reset after data", modes: []mode{stream}, reply: deepseektest.ResetAfter(5), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream EOF inside event", modes: []mode{stream}, reply: deepseektest.CutInsideEvent(5), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream reset inside event", modes: []mode{stream}, reply: deepseektest.ResetInsideEvent(5), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream reset inside rune", modes: []mode{stream}, reply: deepseektest.ResetInsideRune(2), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream junk after data", modes: []mode{stream}, reply: deepseektest.JunkAfter(5, "\n502 Bad Gateway\n"), err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream silence after data", modes: []mode{stream}, reply: deepseektest.StallAfter(5), err: deepseek.ErrStalled, stalled: true,
			after: true, wait: at(time.Minute), sample: broken},
		row{name: "stream keep-alives after data", modes: []mode{stream}, reply: deepseektest.StallKeepAlive(5, 10*time.Second), err: deepseek.ErrStalled, stalled: true,
			after: true, wait: at(2 * time.Minute), sample: broken},
		row{name: "stream cut inside tool arguments", modes: []mode{stream}, reply: deepseektest.Give(tooled).And(deepseektest.CutInsideToolArguments()),
			err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream reset inside tool arguments", modes: []mode{stream}, reply: deepseektest.Give(tooled).And(deepseektest.ResetInsideToolArguments()),
			err: io.ErrUnexpectedEOF, after: true, sample: broken},
		row{name: "stream error object after data", modes: []mode{stream}, reply: deepseektest.ErrorInStream(5, "oops"), err: errAny, after: true, sample: broken},
	)
	for _, reason := range []string{"insufficient_system_resource", "aborted"} {
		list = append(list,
			row{name: reason + " stream", modes: []mode{stream}, reply: deepseektest.FinishAfter(5, reason), err: io.ErrUnexpectedEOF, after: true, sample: broken},
			row{name: reason + " chat", modes: []mode{chat}, reply: deepseektest.FinishAfter(5, reason), retried: true, wait: backoff, sample: failure,
				last: row1{attempts: 4, loose: true, finish: reason}},
		)
	}
	list = append(list,
		row{name: "certificate error", base: func() error {
			return &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
		}, err: errAny, sample: ignored},
		row{name: "unknown authority", base: func() error { return x509.UnknownAuthorityError{} }, err: errAny, sample: ignored},
	)
	return list
}

// errAny stands for any error.
var errAny = errors.New("any error")

// tooled is an answer with a tool call.
var tooled = deepseektest.Answer{
	Content:   "Let me look.",
	ToolCalls: []deepseektest.ToolCall{{Name: "get_weather", Arguments: `{"city": "Beijing", "unit": "celsius", "days": 14}`}},
}

type tlsTimeout struct{}

func (tlsTimeout) Error() string   { return "net/http: TLS handshake timeout" }
func (tlsTimeout) Timeout() bool   { return true }
func (tlsTimeout) Temporary() bool { return true }

// outcomes are the tests of the table: each row once (what becomes of the call),
// with every attempt alike (what the caller gets in the end), and for what it is
// to the breaker.
func outcomes() (tests []test) {
	for _, r := range rows() {
		if r.modes == nil {
			r.modes = bothModes
		}
		for _, m := range r.modes {
			tests = append(tests, r.once(m))
			if !r.last.none && r.retried {
				tests = append(tests, r.always(m))
			}
			tests = append(tests, r.sampled(m))
		}
	}
	return append(tests, givingUp()...)
}

// failing is a network that fails the first n attempts, or all if n is negative.
func failing(cause func() error, n int64, count *atomic.Int64) func(*deepseektest.Server) http.RoundTripper {
	return func(srv *deepseektest.Server) http.RoundTripper {
		real := srv.Transport()
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPost {
				if i := count.Add(1); n < 0 || i <= n {
					if req.Body != nil {
						_ = req.Body.Close()
					}
					return nil, cause()
				}
			}
			return real.RoundTrip(req)
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// once is the row in a call that is otherwise healthy.
func (r row) once(m mode) test {
	c := test{name: r.name + " " + m.String()}
	var tries atomic.Int64
	if r.base != nil {
		n := int64(1)
		if !r.retried {
			n = -1
		}
		c.network = failing(r.base, n, &tries)
	}
	c.do = func(x *bench) {
		if r.base == nil {
			x.srv.Enqueue(r.reply)
		}
		res, err := x.call(bg, m, Prompt{})
		took := x.elapsed()
		switch {
		case r.retried:
			x.whole(res, err)
			r.placed(x)
		case r.status == 200:
			x.whole(res, err)
			x.requests(1)
		case r.status != 0:
			require.Error(x, err)
			assert.Equal(x, r.status, res.Status)
			assert.NotEmpty(x, res.Body, "the body")
			if !x.door.HidesHeader {
				assert.Equal(x, "kept", res.Header.Get("X-Custom"))
				assert.NotEmpty(x, res.Header.Get("X-Ds-Trace-Id"), "trace id")
			}
			x.requests(1)
			assert.Zero(x, took, "virtual time")
		default:
			r.erred(x, res, err)
		}
		if r.base == nil && r.wait[0] > 0 {
			assert.GreaterOrEqual(x, took, r.wait[0])
		}
		if r.base != nil && r.retried {
			assert.EqualValues(x, 2, tries.Load(), "attempts")
		}
		if r.wait[1] > 0 || r.retried {
			assert.LessOrEqual(x, took, r.wait[1])
		}
		x.breaker(deepseek.BreakerClosed)
		r.states(x)
	}
	return c
}

// placed demands the second attempt where it belongs.
func (r row) placed(x *bench) {
	x.Helper()
	if r.base != nil {
		x.requests(1)
		return
	}
	x.requests(2)
	p := x.posts()
	assert.Equal(x, string(p[0].Body), string(p[1].Body), "bodies of both attempts")
	switch r.where {
	case otherKey:
		assert.NotEqual(x, p[0].Key, p[1].Key, "key of the second attempt")
	case otherAccount:
		assert.NotEqual(x, p[0].Account, p[1].Account, "account of the second attempt")
	}
}

// erred demands the error, its kind, and what had arrived before it.
func (r row) erred(x *bench, res Result, err error) {
	x.Helper()
	require.Error(x, err)
	assert.NotErrorIs(x, err, context.Canceled)
	assert.NotErrorIs(x, err, context.DeadlineExceeded)
	if r.base == nil {
		x.requests(1)
	}
	switch {
	case r.err == errAny:
	case x.door.Remote && r.stalled:
		// A broken connection is all that is left of it.
	case x.door.Remote && r.after:
		assert.ErrorIs(x, err, io.ErrUnexpectedEOF)
	default:
		assert.ErrorIs(x, err, r.err)
		if r.after && !r.stalled {
			assert.ErrorIs(x, err, deepseek.ErrTruncated)
		}
	}
	if r.stalled && !x.door.Remote {
		var t interface{ Timeout() bool }
		if assert.ErrorAs(x, err, &t) {
			assert.True(x, t.Timeout(), "Timeout()")
		}
	}
	if r.after {
		assert.NotZero(x, res.Pieces, "what had arrived")
		assert.NotEqual(x, "stop", res.Finish)
	}
}

// states demands the states of the key and account that were used first.
func (r row) states(x *bench) {
	x.Helper()
	s, ok := x.stats()
	if !ok {
		return
	}
	wantKeys, wantAccounts, learned := map[deepseek.State]int{}, map[deepseek.State]int{}, 0
	for _, a := range s.Accounts {
		wantAccounts[a.State]++
		for _, k := range a.Keys {
			wantKeys[k.State]++
		}
		for _, l := range a.Models {
			if l.Limit < 2500 {
				learned++
				if r.limit > 0 {
					assert.Equal(x, r.limit, l.Limit, "learned limit of %s", a.Name)
				}
			}
			if r.account == deepseek.StateCooling {
				// A 429 cools the account for the model.
				wantAccounts[l.State]++
			}
		}
	}
	if r.key != "" {
		assert.Equal(x, 1, wantKeys[r.key], "keys in state %q: %+v", r.key, s.Accounts)
		assert.Equal(x, 2, wantKeys[deepseek.StateActive], "active keys: %+v", s.Accounts)
	} else if r.account == "" {
		assert.Equal(x, 3, wantKeys[deepseek.StateActive], "active keys: %+v", s.Accounts)
	}
	if r.account != "" {
		assert.Equal(x, 1, wantAccounts[r.account], "accounts in state %q: %+v", r.account, s.Accounts)
	} else if r.key == "" {
		assert.Equal(x, 2, wantAccounts[deepseek.StateActive], "active accounts: %+v", s.Accounts)
	}
	if r.limit != 0 {
		assert.Equal(x, 1, learned, "accounts with a lower limit: %+v", s.Accounts)
	} else {
		assert.Zero(x, learned, "accounts with a lower limit: %+v", s.Accounts)
	}
}

// always is the row when every attempt ends like it: the real last response, or
// an error, after as many attempts as are allowed and no more, whatever the SDK.
func (r row) always(m mode) test {
	var tries atomic.Int64
	c := test{name: r.name + " " + m.String() + " always", opts: []deepseek.Option{deepseek.WithRetry(deepseek.Retry{MaxAttempts: 4})}}
	if r.base != nil {
		c.network = failing(r.base, -1, &tries)
	}
	c.do = func(x *bench) {
		if r.base == nil {
			x.srv.Enqueue(deepseektest.Repeat(100, r.reply)...)
		}
		res, err := x.call(bg, m, Prompt{})
		if r.last.finish != "" && err == nil {
			assert.Equal(x, r.last.finish, res.Finish)
		} else {
			require.Error(x, err)
			assert.NotErrorIs(x, err, context.Canceled)
			assert.NotErrorIs(x, err, context.DeadlineExceeded)
			assert.NotErrorIs(x, err, deepseek.ErrCircuitOpen)
		}
		attempts := r.last.attempts
		if r.base == nil {
			tries.Store(int64(len(x.posts())))
		}
		switch {
		case r.last.status != 0:
			assert.Equal(x, r.last.status, res.Status, "status; %v", err)
			assert.NotEmpty(x, res.Body, "the body")
			if !x.door.HidesHeader && !x.door.Remote || x.door.Do != nil {
				assert.NotEmpty(x, res.Header.Get("X-Ds-Trace-Id"), "trace id")
				assert.Equal(x, "false", res.Header.Get("X-Should-Retry"))
			}
			assert.EqualValues(x, attempts, tries.Load(), "attempts")
		case r.last.loose && x.door.Retries > 0:
			// A response ends the call for the door, an error does not.
			assert.Contains(x, []int64{int64(attempts), int64(attempts * x.onceError())}, tries.Load(), "attempts")
		default:
			assert.EqualValues(x, attempts*x.onceError(), tries.Load(), "attempts")
		}
	}
	return c
}

// sampled finds out what the row is for the breaker: how many failures after
// two of it open the circuit.
func (r row) sampled(m mode) test {
	n := int64(0)
	var tries atomic.Int64
	c := test{name: r.name + " " + m.String() + " breaker", single: true, opts: []deepseek.Option{
		deepseek.WithoutRetry(),
		deepseek.WithBreaker(deepseek.Breaker{MinRequests: 4, FailureRatio: 0.59, Window: 48 * time.Hour, OpenFor: time.Hour}),
	}}
	if r.base != nil {
		n = 2
		c.network = failing(r.base, n, &tries)
	}
	c.do = func(x *bench) {
		if x.door.Transport == nil {
			x.Skip("the door hides the breaker")
		}
		if x.door.Retries > 0 {
			x.Skip("the door's own retries would count")
		}
		x.observe(r, m)
		if x.breakerState() == deepseek.BreakerClosed {
			// Keys and accounts are taken back by hand: later a balance would be asked
			// for beside the call, and could say at any moment that there is money.
			back := func() { require.NoError(x, x.door.Transport.Pool().Enable("solo")) }
			back()
			x.observe(r, m)
			back()
		}
		failures := 0
		for x.breakerState() == deepseek.BreakerClosed && failures < 10 {
			failures++
			x.srv.Enqueue(deepseektest.Status(500))
			_, err := x.chat()
			require.Error(x, err)
		}
		want := map[sample][]int{success: {3}, failure: {2}, ignored: {4}, broken: {1, 2}}[r.sample]
		assert.Contains(x, want, failures, "failures until open: 3 after a success, 2 (or 1) after a failure, 4 after what counts for nothing")
	}
	return c
}

// observe makes one call of the row.
func (x *bench) observe(r row, m mode) {
	x.Helper()
	if r.base == nil {
		x.srv.Enqueue(r.reply)
	}
	before := len(x.posts())
	_, err := x.call(bg, m, Prompt{})
	if r.status != 200 && r.last.finish == "" {
		require.Error(x, err)
	}
	if r.base == nil {
		require.Len(x, x.posts(), before+1, "requests of one call without retries")
	}
	require.Zero(x, x.srv.Pending())
}
