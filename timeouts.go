package deepseek

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Timeouts are the limits on how long an answer may make no progress. There is
// none on how long it may take in all: use the context's deadline for that.
//
// The zero value is the default; a negative value switches a clock off.
type Timeouts struct {
	// FirstData is the time from sending to the first data, keep-alive comments
	// and blank lines not counted. Default 10 minutes, after which DeepSeek
	// itself gives up on a queued request.
	FirstData time.Duration
	// BetweenData is the time from one piece of data to the next, comments and
	// blank lines not counted. After the finish_reason it is 15 s, and the answer then
	// ends without an error. Default 120 s.
	BetweenData time.Duration
	// Silence is the time without a single byte once the response has begun;
	// comments and blank lines count as life. Default 60 s.
	Silence time.Duration
}

const (
	clockFirstData   = "first data"
	clockBetweenData = "between data"
	clockSilence     = "silence"
)

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		switch {
		case *d == 0:
			*d = v
		case *d < 0:
			*d = forever
		}
	}
	def(&t.FirstData, 10*time.Minute)
	def(&t.BetweenData, 2*time.Minute)
	def(&t.Silence, time.Minute)
	return t
}

// afterFinish is how long a stream that has told its finish_reason may take to
// end, comments not counted: enough for a chunk with the usage; the answer itself
// is complete.
const afterFinish = 15 * time.Second

// clocks watch over one attempt. One timer serves them all: when it goes off it
// looks which clock is due, and is set anew if none is, never for longer than
// the shortest of them. So bytes and data cost a store each, and no timer is
// touched for them. Time that the caller takes between two reads counts for no
// clock.
type clocks struct {
	limits *Timeouts
	tempo  *tempo // nil: the clocks go by the limits alone
	cancel context.CancelCauseFunc
	start  moment

	// Since start, in nanoseconds.
	byteAt  atomic.Int64 // last byte; 0 before the response has begun
	dataAt  atomic.Int64 // last data; 0 before the first
	leftAt  int64        // when the reader last came back from a read; the reader's own
	unseen  atomic.Bool  // what comes is not looked at: there is no clock for data
	reading atomic.Bool  // somebody waits for the network
	parked  atomic.Bool  // the timer has gone off while nobody did, and is not set
	over    atomic.Bool  // the answer's finish has been told

	mu    sync.Mutex
	timer *time.Timer // nil once stopped; guarded by mu
}

func (k *clocks) begin(limits *Timeouts, p *tempo, cancel context.CancelCauseFunc) {
	k.limits, k.tempo, k.cancel, k.start = limits, p, cancel, clock()
	k.reading.Store(true)
	k.mu.Lock() // the timer's function may run before the timer is known here
	k.timer = time.AfterFunc(k.shortest(), k.check)
	k.mu.Unlock()
}

// shortest is the shortest of the clocks.
func (k *clocks) shortest() time.Duration {
	d := min(k.limits.FirstData, k.limits.BetweenData, k.limits.Silence)
	if k.tempo != nil {
		d = min(d, k.tempo.least)
	}
	return d
}

func (k *clocks) now() int64 { return k.at(clock()) }

// at is m as the clocks count.
func (k *clocks) at(m moment) int64 { return max(int64(m-k.start), 1) }

// responseBegan starts the silence clock: the headers are in. Somebody still
// waits for the network until the response is handed up.
func (k *clocks) responseBegan() {
	k.leftAt = k.now()
	k.byteAt.Store(k.leftAt)
}

// heard notes that the last read brought something.
func (k *clocks) heard() { k.byteAt.Store(k.now()) }

// data notes that the last read brought data.
func (k *clocks) data() {
	at := max(k.byteAt.Load(), 1)
	before := k.dataAt.Swap(at)
	if k.tempo != nil && before > 0 {
		k.tempo.gap(at - before)
	}
}

// onlySilence switches the data clocks off: what comes is not looked at.
func (k *clocks) onlySilence() {
	k.unseen.Store(true)
	k.data()
}

// finishing notes whether all that matters has come: another choice may begin when
// the first has finished.
func (k *clocks) finishing(over bool) {
	if k.over.Swap(over) != over && over {
		k.rearm()
	}
}

// due is the time, since start, at which the first clock runs out.
func (k *clocks) due() (at int64, clock string, limit time.Duration) {
	data := k.dataAt.Load()
	switch {
	case k.over.Load():
		return data + int64(afterFinish), clockBetweenData, afterFinish
	case data == 0:
		at, clock, limit = int64(k.limits.FirstData), clockFirstData, k.limits.FirstData
	case k.unseen.Load():
		at, clock, limit = int64(forever), clockBetweenData, forever
	default:
		clock, limit = clockBetweenData, k.tempo.between(k.limits.BetweenData)
		at = sum(data, limit)
	}
	if last := k.byteAt.Load(); last > 0 {
		if quiet := sum(last, k.limits.Silence); quiet < at {
			return quiet, clockSilence, k.limits.Silence
		}
	}
	return at, clock, limit
}

func sum(at int64, d time.Duration) int64 {
	if d == forever {
		return int64(forever)
	}
	return at + int64(d)
}

// check is the timer's function.
func (k *clocks) check() {
	k.mu.Lock()
	at, clock, limit := k.due()
	if k.timer == nil {
		k.mu.Unlock()
		return
	}
	k.parked.Store(true)
	if !k.reading.Load() { // the caller is busy: go on when it reads again
		k.mu.Unlock()
		return
	}
	k.parked.Store(false)
	if left := at - k.now(); left > 0 {
		// Whatever clock starts from now on is not due before the shortest of them.
		k.timer.Reset(min(time.Duration(left), k.shortest()))
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	early := clock == clockBetweenData && limit < k.limits.BetweenData && !k.over.Load()
	if early && !k.tempo.call() { // then it gets all the time there is
		k.rearm()
		return
	}
	k.cancel(&StallError{Clock: clock, After: limit})
}

// rearm sets the timer for the clock that is due first now.
func (k *clocks) rearm() {
	at, _, _ := k.due()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer == nil {
		return
	}
	left := min(max(time.Duration(at-k.now()), 0), k.shortest())
	k.timer.Reset(left)
}

func (k *clocks) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}

// leaves notes that the reader has no read under way.
func (k *clocks) leaves() {
	k.leftAt = k.now()
	k.waits(false)
}

// waits notes that somebody waits for the network, or no longer does.
func (k *clocks) waits(yes bool) {
	k.reading.Store(yes)
	if yes && k.parked.Swap(false) {
		k.rearm()
	}
}

// read reads from src, which is the response as it comes from the network.
func (k *clocks) read(src io.Reader, p []byte) (int, error) {
	// What the caller took since the last read is nobody's silence.
	now := k.now()
	if away := now - k.leftAt; away > 0 {
		if last := k.byteAt.Load(); last > 0 {
			k.byteAt.Store(last + away)
		}
		if last := k.dataAt.Load(); last > 0 {
			k.dataAt.Store(last + away)
		}
	}
	k.waits(true)
	n, err := src.Read(p)
	k.leaves()
	if n > 0 {
		k.byteAt.Store(k.leftAt)
	}
	return n, err
}
