package main

import (
	"context"
	"errors"
	"fmt"
	oldrand "math/rand"
	"math/rand/v2"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/jitter"
)

// run is one client's way through one scenario: what its callers got and what
// the server saw.
type run struct {
	s      *scenario
	client string
	start  time.Time

	calls  []callMade
	errors map[string]int // texts of errors, without their numbers

	sent      int // requests for an answer
	refused   int // of those, 429s
	inOutage  int // of those, sent while the server answered nobody
	prompts   int // tokens of the prompts of whole answers
	hits      int // of those, from the cache
	spent     float64
	perSecond []moment
}

// callMade is one call of a caller.
type callMade struct {
	start, took time.Duration
	outcome     outcome
}

type outcome uint8

const (
	valid  outcome = iota
	wrong          // a text that is not the answer, without an error
	failed         // an error
)

// moment is what was in flight in a second, by account.
type moment struct{ inFlight, limit []int }

// perform plays the scenario with a new server and a new client in a bubble of
// their own, where time is virtual.
func perform(t *testing.T, s *scenario, c contender, seed uint64) (*run, error) {
	// With several processors, goroutines that wake at the same moment run in an
	// order that is never the same.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer jitter.Seed(seed)()
	//lint:ignore SA1019 openai-go draws from the global source, which has no other way to be seeded
	oldrand.Seed(int64(seed))
	r := &run{s: s, client: c.name, errors: make(map[string]int)}
	var err error
	synctest.Test(t, func(*testing.T) { err = r.perform(c, seed) })
	return r, err
}

func (r *run) perform(c contender, seed uint64) error {
	s := r.s
	r.start = time.Now()
	w := &world{run: r, seed: seed, asked: make(map[string]int)}
	srv := w.serve()
	defer srv.Close()
	base := srv.Transport()
	base.DisableCompression = true
	cl, err := c.open(s.site(srv.URL, base, seed))
	if err != nil {
		return err
	}
	defer cl.close()

	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() { r.watch(srv, stop) })
	r.crowd(cl, seed)
	close(stop)
	watcher.Wait()
	for i := range s.accounts {
		r.spent += srv.Spent(s.accounts[i].name)
	}
	return nil
}

// hitRate is the share of prompt tokens that hit the cache if one account
// without limits or faults takes all of the load.
func (s *scenario) hitRate(t *testing.T, seed uint64) (float64, error) {
	if !s.cached {
		return 0, nil
	}
	one := *s
	one.accounts, one.faults, one.outages = []account{{name: "one", limits: always(s.load.callers)}}, nil, nil
	r, err := perform(t, &one, bare, seed)
	if err != nil {
		return 0, err
	}
	return ratio(r.hits, r.prompts), nil
}

// site is what the scenario's clients are set up with.
func (s *scenario) site(url string, base *http.Transport, seed uint64) *site {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0x517e))
	st := &site{url: url, base: base, random: func(below time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.Int64N(int64(below)))
	}}
	sum := 0
	for i := range s.accounts {
		sum += s.accounts[i].limit(0)
	}
	for i := range s.accounts {
		a := &s.accounts[i]
		known := siteAccount{name: a.name, keys: a.keyNames(), limit: a.limit(0)}
		if s.uneven {
			known.limit = sum / len(s.accounts)
		}
		st.accounts = append(st.accounts, known)
	}
	return st
}

func (a *account) keyNames() (keys []string) {
	for i := range max(1, a.keys) {
		keys = append(keys, fmt.Sprintf("sk-%s-%d", a.name, i+1))
	}
	return keys
}

// crowd lets the callers call until the time is up, and waits for their last
// calls.
func (r *run) crowd(c client, seed uint64) {
	l := &r.s.load
	system, filler := l.systemPrompt(), prompt(l.said)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range l.callers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			says := talk{load: l, caller: i}
			time.Sleep(l.start(rng))
			for time.Since(r.start) < r.s.lasts {
				q := says.next(system, filler, rng.Float64() < l.streams)
				made := callMade{start: time.Since(r.start)}
				ctx, cancel := context.WithTimeout(context.Background(), l.deadline)
				text, err := c.do(ctx, q)
				cancel()
				made.took = time.Since(r.start) - made.start
				switch {
				case err != nil:
					made.outcome = failed
				case text != q.answer:
					made.outcome = wrong
				}
				mu.Lock()
				r.calls = append(r.calls, made)
				if err != nil {
					r.errors[kind(err)]++
				}
				mu.Unlock()
				if made.outcome == valid {
					says.heard(text)
					time.Sleep(l.wait(rng))
				} else {
					says.missed()
					time.Sleep(pause)
				}
			}
		})
	}
	wg.Wait()
}

// start draws when a caller comes: they do not all come at once.
func (l *load) start(rng *rand.Rand) time.Duration {
	return time.Duration(rng.Float64() * float64(l.think+time.Second))
}

var numbers = regexp.MustCompile(`[0-9a-f]{8}|\d+(\.\d+)?`)

// kind is what an error says, without what differs from call to call.
func kind(err error) string {
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "deadline: " + text
	}
	text = numbers.ReplaceAllString(text, "n")
	return text[:min(len(text), 160)]
}

// watch notes what is in flight, each second.
func (r *run) watch(srv *deepseektest.Server, stop chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		at := time.Since(r.start)
		if at > r.s.lasts {
			return
		}
		m := moment{make([]int, len(r.s.accounts)), make([]int, len(r.s.accounts))}
		for i := range r.s.accounts {
			a := &r.s.accounts[i]
			m.inFlight[i], m.limit[i] = srv.InFlight(a.name, ""), a.limit(at)
		}
		r.perSecond = append(r.perSecond, m)
	}
}

// world is the server of a run.
type world struct {
	run  *run
	seed uint64

	mu    sync.Mutex
	asked map[string]int // how often each question was, by id
}

func (w *world) serve() *deepseektest.Server {
	s := w.run.s
	opts := []deepseektest.Option{
		deepseektest.WithSeed(w.seed),
		deepseektest.WithPace(s.pace),
		deepseektest.WithAnswer(script),
		deepseektest.WithoutRecords(),
		deepseektest.WithObserver(w.ended),
		deepseektest.WithCache(deepseektest.Cache{Disabled: !s.cached}),
	}
	for i := range s.accounts {
		a := &s.accounts[i]
		opts = append(opts, deepseektest.WithAccount(deepseektest.Account{
			Name: a.name, Keys: a.keyNames(), Balance: plenty, HideLimit: a.hidden,
			Limits: map[string]int{model: a.limits[0].limit},
		}))
	}
	srv := deepseektest.NewMemoryServer(opts...)
	for i := range s.accounts {
		srv.Timeline(s.accounts[i].story(s.pace)...)
	}
	srv.Handle(w.decide)
	return srv
}

// plenty is a balance that no run spends.
const plenty = 1e9

// story is what happens to the account, for the server.
func (a *account) story(pace deepseektest.Pace) (phases []deepseektest.Phase) {
	at := func(t time.Duration, do func(*deepseektest.Server)) {
		phases = append(phases, deepseektest.Phase{From: t, Do: do})
	}
	for _, s := range a.limits[1:] {
		at(s.at, func(srv *deepseektest.Server) { srv.SetLimit(a.name, model, s.limit) })
	}
	if a.broke.to > 0 {
		at(a.broke.from, func(srv *deepseektest.Server) { srv.SetBalance(a.name, -1) })
		at(a.broke.to, func(srv *deepseektest.Server) { srv.SetBalance(a.name, plenty) })
	}
	if a.revoked.to > 0 {
		at(a.revoked.from, func(srv *deepseektest.Server) { srv.RevokeKey(a.keyNames()[0]) })
		at(a.revoked.to, func(srv *deepseektest.Server) { srv.RestoreKey(a.keyNames()[0]) })
	}
	if a.slow.to > 0 {
		slow := pace
		for _, d := range []*time.Duration{&slow.Headers, &slow.FirstToken, &slow.Token} {
			*d = time.Duration(float64(*d) * a.times)
		}
		at(a.slow.from, func(srv *deepseektest.Server) { srv.SetPace(a.name, &slow) })
		at(a.slow.to, func(srv *deepseektest.Server) { srv.SetPace(a.name, nil) })
	}
	return phases
}

// decide is what happens to a request.
func (w *world) decide(r *deepseektest.Request) *deepseektest.Reply {
	s := w.run.s
	at := r.Time.Sub(w.run.start)
	for i := range s.outages {
		if s.outages[i].has(at) {
			return &s.outages[i].reply
		}
	}
	if len(s.faults) == 0 || len(r.Messages) == 0 {
		return nil
	}
	// The dice belong to the question and to how often it was asked.
	id, _, _ := strings.Cut(r.LastUser(), "?")
	w.mu.Lock()
	w.asked[id]++
	n := w.asked[id]
	w.mu.Unlock()
	rng := rand.New(rand.NewPCG(w.seed, hash(id)+uint64(n)))
	if k := s.strikes(rng, at, r.Stream); k != nil {
		reply := k.reply(rng)
		return &reply
	}
	return nil
}

// ended takes a request down.
func (w *world) ended(d deepseektest.Request) {
	if d.Model == "" { // the balance, say
		return
	}
	r := w.run
	w.mu.Lock()
	defer w.mu.Unlock()
	r.sent++
	if d.Status == 429 {
		r.refused++
	}
	if r.s.down(d.Time.Sub(r.start)) {
		r.inOutage++
	}
	if d.Status == 200 && !d.Cut && !d.Left {
		r.prompts += d.Usage.Prompt
		r.hits += d.Usage.CacheHit
	}
}
