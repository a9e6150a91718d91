package deepseek

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sharing says how a [Replica] shares with others.
type Sharing struct {
	// State is where they meet. There is no default.
	State SharedState
	// Lease is how long a replica's permits are kept for it when it is not heard
	// of any more. Default 5 s; at least 100 ms. It should be the same for all.
	Lease time.Duration
	// Interval is how often it tells of itself, and how long an answer may take.
	// Default: a tenth of the lease; at most a quarter.
	Interval time.Duration
	// Replicas is how many there are believed to be until that is known. It
	// matters only to one that is started while State cannot be reached. Default 1.
	Replicas int
}

const defaultLease = 5 * time.Second

func (s Sharing) withDefaults() (Sharing, error) {
	s.Lease = cmp.Or(s.Lease, defaultLease)
	s.Interval = cmp.Or(s.Interval, s.Lease/10)
	s.Replicas = cmp.Or(s.Replicas, 1)
	switch {
	case s.State == nil:
		return s, badConfig("Sharing.State", "nil", "must not be nil")
	case s.Lease < 100*time.Millisecond:
		return s, badConfig("Sharing.Lease", s.Lease, "must be at least 100ms")
	case s.Interval < 0 || s.Interval > s.Lease/4:
		return s, badConfig("Sharing.Interval", s.Interval, "must be between 0 and a quarter of the lease")
	case s.Replicas < 0:
		return s, badConfig("Sharing.Replicas", s.Replicas, "must not be negative")
	}
	return s, nil
}

// Replica is a transport's part in what several share, for [WithSharedState]:
//
//   - The limit of an account's model is learned by all together, and divided
//     among those that use it, by what they have in flight and waiting. Each has
//     its permits for itself, so that no call asks anybody for one; they are
//     divided anew within about two intervals of a change. Every replica may have
//     one call in flight without asking. So at most the limit is in flight, plus
//     one for each replica.
//   - A replica that is not heard of for as long as the lease loses its permits
//     to the others.
//   - Keys and accounts that are put aside by one (401, 402, 403, 429 with
//     Retry-After) are put aside by all, and come back for all.
//
// One that cannot reach the state for as long as the lease goes on by itself,
// with an equal share: the limit, as far as it learns, divided by the number of
// replicas that it last knew of; of what it had it gives up what is beyond that at
// once, and takes what is missing after another lease. It tells the observers,
// and [Stats]. When the state is back it reports what it holds, and they agree
// again. No call fails, and none waits, for what the state does or does not.
//
// A Replica runs in the background until it is closed. Its methods are safe for
// concurrent use. It is made by [NewReplica]; the zero value is of no use.
type Replica struct {
	policy Sharing
	name   string

	asks   chan struct{} // that an exchange be soon
	urgent atomic.Bool
	alone  atomic.Int64 // how many share equally, as they cannot be asked; 0: they can
	stop   context.CancelFunc
	done   chan struct{}
	lost   *time.Timer // the lease ends

	mu          sync.Mutex
	owner       *counts // of the transport and its successors
	pools       []*Pool
	watch       watchers
	active      []*slot // those that are reported
	news        map[factName]time.Time
	connected   bool
	replicas    int
	heard       time.Time // when the last exchange that succeeded began
	err         error     // of the last one, if it failed
	before      int       // how many replicas there were before the state was lost,
	beforeUntil time.Time // which counts until all have had the time to come back
	exchanges   int64
	failures    int64
	announced   *SharingEvent // the last; nil: there was none
	joined      bool          // it has accounts that it was not told of

	// The loop's own.
	seq   uint64
	epoch string
	after int64
}

// NewReplica begins to take part. Close ends that.
func NewReplica(s Sharing) (*Replica, error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &Replica{
		policy: s, name: rand.Text(), asks: make(chan struct{}, 1), stop: stop, done: make(chan struct{}),
		news: map[factName]time.Time{}, replicas: s.Replicas,
	}
	r.lost = time.AfterFunc(s.Lease, r.leaseOver)
	go r.run(ctx)
	return r, nil
}

// Close gives all permits back to the others, in at most an interval, and goes on
// as one that cannot reach the state. It is for when the transport has no more
// calls.
func (r *Replica) Close() error {
	r.stop()
	<-r.done
	return nil
}

// claim makes r that of a transport and its successors. A nil one is nobody's.
func (r *Replica) claim(owner *counts) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner != nil && r.owner != owner {
		return badConfig("SharedState", r.name, "is another transport's")
	}
	r.owner = owner
	return nil
}

// release makes r nobody's again.
func (r *Replica) release() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owner, r.pools, r.watch = nil, nil, nil
}

// join makes r, which the transport has claimed, what its pools share by; nil: they
// share with nobody.
func (r *Replica) join(t *Transport) {
	if r == nil {
		for _, e := range t.endpoints {
			e.pool.share(nil)
		}
		return
	}
	r.mu.Lock()
	r.joined = true
	r.watch = t.options.observers
	r.pools = r.pools[:0:0]
	for _, e := range t.endpoints {
		r.pools = append(r.pools, e.pool)
	}
	pools := r.pools
	r.mu.Unlock()
	for _, p := range pools {
		p.share(r)
	}
	r.tellAll()
	r.announce()
}

// announce tells the observers how it stands, if that is news. Before the transport
// has joined there are none.
func (r *Replica) announce() {
	r.mu.Lock()
	e := SharingEvent{Connected: r.connected, Replicas: r.replicas}
	old := r.announced
	if r.pools == nil || r.exchanges+r.failures == 0 || old != nil && old.Connected == e.Connected && old.Replicas == e.Replicas {
		r.mu.Unlock()
		return
	}
	if !e.Connected {
		e.Err = cmp.Or(r.err, errNotHeard)
	}
	r.announced = &e
	watch := r.watch
	r.mu.Unlock()
	watch.sharing(e)
}

// share has the pool's accounts shared by r; nil: by nobody any more.
func (p *Pool) share(r *Replica) {
	p.mu.Lock()
	p.replica = r
	accounts := *p.accounts.Load()
	p.mu.Unlock()
	for _, a := range accounts {
		if a.replica.Swap(r) == r {
			continue
		}
		a.mu.Lock()
		slots := slices.Clone(a.slots)
		a.mu.Unlock()
		for _, s := range slots {
			s.mu.Lock()
			if s.shared.replica != r {
				s.join(r)
				s.reached()
			}
			s.mu.Unlock()
			s.offer()
		}
	}
}

// enlist has a slot reported from now on.
func (r *Replica) enlist(s *slot) {
	r.mu.Lock()
	r.active = append(r.active, s)
	r.mu.Unlock()
	r.wake(true)
}

// wake has an exchange made before its time; urgent: at once.
func (r *Replica) wake(urgent bool) {
	if urgent {
		r.urgent.Store(true)
	}
	select {
	case r.asks <- struct{}{}:
	default:
	}
}

// cannotAsk is among how many a limit is to be divided as nobody can be asked; 0
// if they can.
func (r *Replica) cannotAsk() int { return int(r.alone.Load()) }

// How soon exchanges may follow each other, in parts of the interval.
const (
	soon   = 4
	atOnce = 20
)

func (r *Replica) run(ctx context.Context) {
	defer close(r.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			r.leave()
			return
		case <-r.asks:
			gap := r.policy.Interval / soon
			if r.urgent.Load() {
				gap = r.policy.Interval / atOnce
			}
			if wait := time.Until(last.Add(gap)); wait > 0 {
				// It stays asked for; what is more urgent may still come.
				timer.Reset(wait)
				if r.waits(ctx, timer, last) {
					continue
				}
			}
		case <-timer.C:
		}
		r.urgent.Store(false)
		last = time.Now()
		r.exchange(ctx)
		timer.Reset(r.policy.Interval)
	}
}

// waits waits for the timer, or for something more urgent. It reports whether
// the loop has to look around instead of making an exchange.
func (r *Replica) waits(ctx context.Context, timer *time.Timer, last time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return true
		case <-timer.C:
			return false
		case <-r.asks:
			if r.urgent.Load() {
				timer.Reset(max(0, time.Until(last.Add(r.policy.Interval/atOnce))))
			}
		}
	}
}

// slotsAtOnce is how many slots a report is of at most.
const slotsAtOnce = 256

// asked is a slot that a report is of.
type asked struct {
	*slot
	changes uint64
	done    bool
}

// exchange tells of all active slots, and takes in what there is to know.
func (r *Replica) exchange(ctx context.Context) {
	r.mu.Lock()
	active := slices.Clone(r.active)
	r.mu.Unlock()
	for first := true; first || len(active) > 0; first = false {
		n := min(len(active), slotsAtOnce)
		if !r.exchangeSlots(ctx, active[:n]) {
			return
		}
		active = active[n:]
	}
}

// exchangeSlots tells of some slots. It reports whether it succeeded.
func (r *Replica) exchangeSlots(ctx context.Context, slots []*slot) bool {
	began := time.Now()
	r.seq++
	report := &SharedReport{Replica: r.name, Seq: r.seq, Lease: r.policy.Lease, Epoch: r.epoch, After: r.after}
	told := r.takeNews(report, began)
	these := make([]asked, len(slots))
	for i, s := range slots {
		one, changes, done := s.report(began, r.policy.Lease)
		these[i] = asked{s, changes, done}
		report.Slots = append(report.Slots, one)
	}
	ctx, cancel := context.WithTimeout(ctx, r.policy.Interval)
	defer cancel()
	view, err := r.ask(ctx, report)
	if err != nil {
		r.failed(ctx, err)
		return false
	}
	r.succeeded(view, told, began)
	watch := r.watchers()
	var left []*slot
	for i, s := range these {
		if s.done && s.left() {
			left = append(left, s.slot)
			continue
		}
		if e := s.agree(&view.Slots[i], s.changes); e != nil {
			watch.limit(context.Background(), *e)
		}
	}
	r.forget(left)
	r.learn(view.Facts, watch)
	if r.epoch != view.Epoch {
		r.epoch = view.Epoch
		r.tellAll() // it may know nothing of it
	}
	r.after = view.At
	if len(view.Facts) >= maxFacts {
		r.wake(true) // there may be more
	}
	return true
}

// ask makes the exchange and checks what it brings.
func (r *Replica) ask(ctx context.Context, report *SharedReport) (view *SharedView, err error) {
	defer func() {
		if p := recover(); p != nil {
			view, err = nil, fmt.Errorf("deepseek: the shared state panicked: %v", p)
		}
	}()
	view, err = r.policy.State.Exchange(ctx, report)
	if err == nil {
		err = view.check(report)
	}
	return view, err
}

var errSharedView = errors.New("deepseek: what the shared state returned makes no sense")

// mostPermits is more than any limit is.
const mostPermits = 100_000_000

// check refuses what cannot be an answer to a report.
func (v *SharedView) check(report *SharedReport) error {
	within := func(n, least int) bool { return n >= least && n <= mostPermits }
	if v == nil || v.Epoch == "" || !within(v.Replicas, 1) || len(v.Slots) != len(report.Slots) || v.At < 0 {
		return errSharedView
	}
	for i := range v.Slots {
		s, asked := &v.Slots[i], &report.Slots[i]
		if !within(s.Limit.Limit, 1) || !within(s.Limit.RefusedAt, 0) || s.Limit.Version < 1 || !within(s.Share, 0) ||
			s.Share > max(asked.Ask, asked.Held) {
			return errSharedView
		}
		for _, o := range s.Others {
			if !within(o.Want, 0) || !within(o.Peak, 0) {
				return errSharedView
			}
		}
	}
	return nil
}

// takeNews puts the news into a report, and returns what it has put there.
func (r *Replica) takeNews(report *SharedReport, now time.Time) map[factName]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	report.Replicas = r.known(now)
	if r.joined {
		r.joined, report.After = false, 0
	}
	told := make(map[factName]time.Time)
	for n, until := range r.news {
		if !until.IsZero() && !until.After(now) { // it has ended by itself: to say so would end what others know
			delete(r.news, n)
			continue
		}
		if len(told) == maxFacts {
			r.wake(true)
			break
		}
		told[n] = until
		report.News = append(report.News, SharedFact{
			Account: n.account, Key: n.key, Model: n.model, Cause: n.cause, For: max(0, until.Sub(now)),
		})
	}
	return told
}

// tell has the others told what has happened to the account.
func (a *account) tell(facts ...SharedFact) {
	r := a.replica.Load()
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	for _, f := range facts {
		f.Account = a.id
		until := time.Time{} // it is over
		if f.For > 0 {
			until = now.Add(f.For)
		}
		r.news[f.name()] = until
	}
	r.mu.Unlock()
	r.wake(true)
}

// succeeded notes an exchange, of which told were the news.
func (r *Replica) succeeded(v *SharedView, told map[factName]time.Time, began time.Time) {
	r.mu.Lock()
	for n, until := range told {
		if r.news[n].Equal(until) {
			delete(r.news, n)
		}
	}
	r.exchanges++
	if r.epoch != "" && r.epoch != v.Epoch {
		r.before, r.beforeUntil = r.known(began), began.Add(r.policy.Lease/2)
	}
	r.connected, r.replicas, r.heard, r.err = true, v.Replicas, began, nil
	r.lost.Reset(max(0, time.Until(began.Add(r.policy.Lease))))
	r.mu.Unlock()
	r.alone.Store(0)
	r.announce()
}

// known is how many replicas there are. A state that was lost has not heard of all
// of them at once. r.mu is held.
func (r *Replica) known(now time.Time) int {
	if now.Before(r.beforeUntil) {
		return max(r.before, r.replicas)
	}
	return r.replicas
}

// failed notes an exchange that failed. What has not been asked about before gets
// its equal share now.
func (r *Replica) failed(ctx context.Context, err error) {
	if context.Cause(ctx) == context.Canceled { // closed meanwhile
		return
	}
	r.mu.Lock()
	r.failures++
	r.err = err
	among := r.replicas
	active := slices.Clone(r.active)
	r.mu.Unlock()
	r.alone.Store(int64(among))
	for _, s := range active {
		s.mu.Lock()
		if s.shared.replica == r && !s.shared.heard {
			s.alone(among, true)
		}
		s.mu.Unlock()
		s.model.lane.room()
	}
	r.announce()
}

// leaseOver ends what was granted: others may have it by now. After another lease
// all have given up what was beyond their equal share, and it can be taken.
func (r *Replica) leaseOver() {
	now := time.Now()
	r.mu.Lock()
	over := now.Sub(r.heard)
	if over < r.policy.Lease { // heard of meanwhile
		r.mu.Unlock()
		return
	}
	first := r.connected || over < 2*r.policy.Lease
	r.connected = false
	if first {
		r.lost.Reset(max(time.Millisecond, r.heard.Add(2*r.policy.Lease).Sub(now)))
	}
	r.mu.Unlock()
	r.announce()
	r.goAlone(!first)
}

var errNotHeard = errors.New("deepseek: nothing was heard of the shared state in time")

// goAlone has all slots go by an equal share.
func (r *Replica) goAlone(grow bool) {
	r.mu.Lock()
	among := r.replicas
	slots := slices.Clone(r.active)
	r.mu.Unlock()
	r.alone.Store(int64(among))
	for _, s := range slots {
		s.mu.Lock()
		if s.shared.replica == r {
			s.alone(among, grow || !s.shared.heard)
		}
		s.mu.Unlock()
		s.model.lane.room()
	}
}

func (r *Replica) watchers() watchers {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.watch
}

// forget takes slots off those that are reported.
func (r *Replica) forget(slots []*slot) {
	if len(slots) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = slices.DeleteFunc(r.active, func(s *slot) bool { return slices.Contains(slots, s) })
}

// leave tells the others to go on without this one.
func (r *Replica) leave() {
	r.mu.Lock()
	r.lost.Stop()
	connected, n := r.connected, max(1, r.replicas)
	r.connected = false
	report := &SharedReport{Replica: r.name, Seq: r.seq + 1, Lease: r.policy.Lease, Leave: true, Replicas: n, Epoch: r.epoch, After: r.after}
	active := slices.Clone(r.active)
	r.mu.Unlock()
	r.goAlone(false)
	if !connected {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.policy.Interval)
	defer cancel()
	for len(active) > 0 || report.Slots == nil {
		report.Slots = []SharedSlot{}
		for _, s := range active[:min(len(active), slotsAtOnce)] {
			one, _, _ := s.report(time.Now(), r.policy.Lease)
			one.Held, one.Ask = 0, 0
			report.Slots = append(report.Slots, one)
		}
		active = active[len(report.Slots):]
		if _, err := r.ask(ctx, report); err != nil {
			return // the lease will tell them
		}
		report.Seq++
	}
}

// SharingStats is a [Replica] at one moment.
type SharingStats struct {
	Connected bool  // what it has was granted by the shared state
	Replicas  int   // that there are, or were when last heard of
	Exchanges int64 // reports that the shared state has taken in
	Failures  int64 // of further exchanges
	Err       error // of the last exchange, if it failed
}

func (r *Replica) stats() *SharingStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &SharingStats{Connected: r.connected, Replicas: r.replicas, Exchanges: r.exchanges, Failures: r.failures, Err: r.err}
}
