package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// Open makes a door to srv. The options hold everything: where the server is,
// how it is reached, and the accounts.
type Open func(t *testing.T, srv *deepseektest.Server, opts ...deepseek.Option) Door

// Run tests the whole contract through the door that open makes, once for each
// test.
func Run(t *testing.T, open func(t *testing.T, srv *deepseektest.Server, opts ...deepseek.Option) Door) {
	groups := []struct {
		name  string
		tests []test
	}{
		{"", outcomes()},
		{"retry", retryTests()},
		{"limits", limitTests()},
		{"breaker", breakerTests()},
		{"resume", resumeTests()},
		{"hedging", hedgingTests()},
		{"streams", streamTests()},
		{"endpoints", endpointTests()},
	}
	for _, g := range groups {
		run := func(t *testing.T) {
			for _, c := range g.tests {
				t.Run(c.name, func(t *testing.T) { c.run(t, open) })
			}
		}
		if g.name == "" {
			run(t)
			continue
		}
		t.Run(g.name, run)
	}
}

// test is one bubble.
type test struct {
	name    string
	server  []deepseektest.Option
	single  bool // one account with one key instead of two accounts and three keys
	spare   bool // a second endpoint, for when the server cannot
	opts    []deepseek.Option
	network func(srv *deepseektest.Server) http.RoundTripper
	do      func(x *bench)
}

func (c test) run(t *testing.T, open Open) {
	skipped := false
	synctest.Test(t, func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		accounts := allAccounts[:2]
		if c.single {
			accounts = allAccounts[2:]
		}
		server := []deepseektest.Option{deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer { return answer })}
		var ours []deepseek.Account
		for _, a := range accounts {
			server = append(server, deepseektest.WithAccount(a))
			ours = append(ours, deepseek.Account{Name: a.Name, Keys: a.Keys})
		}
		srv := deepseektest.NewMemoryServer(append(server, c.server...)...)
		t.Cleanup(srv.Close)
		var base http.RoundTripper = srv.Transport()
		if c.network != nil {
			base = c.network(srv)
		}
		opts := []deepseek.Option{
			deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(base), deepseek.WithAccounts(ours...),
		}
		x := &bench{T: t, srv: srv, accounts: accounts, start: time.Now()}
		if c.spare {
			x.spare, opts = withSpare(srv, base, ours)
			t.Cleanup(x.spare.Close)
		}
		x.door = open(t, srv, append(opts, c.opts...)...)
		defer func() {
			for _, s := range x.streams {
				_ = s.Close()
			}
			time.Sleep(5 * time.Second) // net/http's servers linger
		}()
		c.do(x)
		x.idle()
	})
	if skipped { // a bubble keeps that to itself
		t.SkipNow()
	}
}

// secret is in every key, and must not be in anything that is printed.
const secret = "sk-conformance"

var allAccounts = []deepseektest.Account{
	{Name: "a", Keys: []string{secret + "-a1-77777777", secret + "-a2-88888888"}},
	{Name: "b", Keys: []string{secret + "-b1-99999999"}},
	{Name: "solo", Keys: []string{secret + "-s1-55555555"}},
}

var answer = deepseektest.Answer{
	Reasoning: "Let me think about this for quite a while.",
	Content:   "The whole answer, with ünïcödé and 世界 in it, and a number: 42.",
}

var quiet = log.New(io.Discard, "", 0)

func jsonUnmarshal(raw string, v any) error { return json.Unmarshal([]byte(raw), v) }

// bench is a test with its server and door.
type bench struct {
	*testing.T
	srv      *deepseektest.Server
	spare    *deepseektest.Server // nil: there is none
	door     Door
	accounts []deepseektest.Account
	start    time.Time

	mu      sync.Mutex
	streams []Stream
}

var bg = context.Background()

// mode is one of the two ways to ask.
type mode bool

const (
	chat   mode = false
	stream mode = true
)

func (m mode) String() string {
	if m == stream {
		return "stream"
	}
	return "chat"
}

// call makes a call and checks what holds for every one.
func (x *bench) call(ctx context.Context, m mode, p Prompt) (Result, error) {
	x.Helper()
	var res Result
	var err error
	if m == chat {
		res, err = x.door.Chat(ctx, p)
	} else {
		var s Stream
		if s, res, err = x.open(ctx, p); err == nil {
			err = readAll(s, &res)
		}
	}
	x.noKeys(err)
	if err != nil {
		assert.False(x, res.Clean, "an error and a clean end")
	}
	return res, err
}

func (x *bench) chat() (Result, error)   { x.Helper(); return x.call(bg, chat, Prompt{}) }
func (x *bench) stream() (Result, error) { x.Helper(); return x.call(bg, stream, Prompt{}) }

func (x *bench) noKeys(err error) {
	x.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
			if format == "%#v" && e != err {
				continue
			}
			assert.False(x, hasKey(fmt.Sprintf(format, e)), "a key in %s of %T", format, e)
		}
	}
}

// open makes a streamed call. The stream is closed, for its connection's sake,
// after the test has seen that all was given back without that.
func (x *bench) open(ctx context.Context, p Prompt) (Stream, Result, error) {
	s, res, err := x.door.Open(ctx, p)
	if err != nil {
		x.noKeys(err)
		return nil, res, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.streams = append(x.streams, s)
	return s, Result{Status: http.StatusOK, Header: res.Header}, nil
}

// whole demands the whole answer.
func (x *bench) whole(res Result, err error) {
	x.Helper()
	require.NoError(x, err)
	assert.Equal(x, answer.Content, res.Text)
	assert.Equal(x, answer.Reasoning, res.Reasoning)
	assert.Equal(x, "stop", res.Finish)
	assert.True(x, res.Clean, "clean end")
}

// posts are the requests for an answer.
func (x *bench) posts() []deepseektest.Request {
	var list []deepseektest.Request
	for _, r := range x.srv.Requests() {
		if r.Method == http.MethodPost {
			list = append(list, r)
		}
	}
	return list
}

// requests demands how many requests the server saw.
func (x *bench) requests(n int) {
	x.Helper()
	var seen []string
	for _, r := range x.posts() {
		seen = append(seen, fmt.Sprintf("%s %d at %s", r.Account, r.Status, r.Time.Sub(x.start)))
	}
	require.Len(x, seen, n, "requests: %q", seen)
}

// onceError is how many times a call that ends in a Go error enters the
// transport.
func (x *bench) onceError() int { return 1 + x.door.Retries }

func (x *bench) elapsed() time.Duration { return time.Since(x.start) }

func (x *bench) stats() (deepseek.Stats, bool) {
	if x.door.Transport == nil {
		return deepseek.Stats{}, false
	}
	return x.door.Transport.Stats(), true
}

// idle demands that everything is given back.
func (x *bench) idle() {
	x.Helper()
	synctest.Wait()
	for _, a := range x.accounts {
		assert.Zero(x, x.srv.InFlight(a.Name, ""), "in flight at the server, account %s", a.Name)
	}
	if x.spare != nil {
		assert.Zero(x, x.spare.InFlight(spareAccount.Name, ""), "in flight at the other endpoint")
	}
	s, ok := x.stats()
	if !ok {
		return
	}
	assert.False(x, hasKey(fmt.Sprintf("%+v %#v", s, s)), "a key in Stats")
	assert.Zero(x, s.InFlight, "Stats.InFlight")
	assert.Zero(x, s.Waiting, "Stats.Waiting")
	for _, a := range s.Accounts {
		for _, m := range a.Models {
			assert.Zero(x, m.InFlight, "permits out, account %s model %s", a.Name, m.Model)
		}
	}
}

// breaker demands the circuit's state; a circuit nobody has used is closed.
func (x *bench) breaker(want deepseek.BreakerState) {
	x.Helper()
	s, ok := x.stats()
	if !ok {
		return
	}
	got := deepseek.BreakerClosed
	for _, b := range s.Breakers {
		if b.Model == deepseek.ModelFlash {
			got = b.State
		}
	}
	assert.Equal(x, want, got, "breaker")
}

func (x *bench) breakerState() deepseek.BreakerState {
	s, _ := x.stats()
	for _, b := range s.Breakers {
		if b.Model == deepseek.ModelFlash {
			return b.State
		}
	}
	return deepseek.BreakerClosed
}

// account returns the state of an account, if the door shows it.
func (x *bench) account(name string) (deepseek.AccountStats, bool) {
	s, _ := x.stats()
	for _, a := range s.Accounts {
		if a.Name == name {
			return a, true
		}
	}
	return deepseek.AccountStats{}, false
}

// limit returns the learned limit of an account for the flash model.
func (x *bench) limit(name string) (deepseek.SlotStats, bool) {
	a, _ := x.account(name)
	for _, m := range a.Models {
		if m.Model == deepseek.ModelFlash {
			return m, true
		}
	}
	return deepseek.SlotStats{}, false
}

// is demands an error of the transport's own, as far as the door lets it through.
func (x *bench) is(err, target error) {
	x.Helper()
	require.Error(x, err)
	if !x.door.Remote {
		assert.ErrorIs(x, err, target)
	}
}

// with is append without an alias.
func with[T any](a []T, b ...T) []T { return append(a[:len(a):len(a)], b...) }
