package conformance

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// clockTests are about the two clocks: silence, which any byte ends, and data,
// which only data does.
func clockTests() (tests []test) {
	once := deepseek.WithoutRetry()
	slow := func(p deepseektest.Pace) deepseektest.Reply { return deepseektest.Paced(p) }

	// What every clock allows.
	for _, c := range []struct {
		name  string
		modes []mode
		reply deepseektest.Reply
		took  time.Duration
	}{
		{"keep-alives just in time for the silence clock", bothModes, deepseektest.Queued(10, 59*time.Second), 590 * time.Second},
		{"first data just in time", bothModes, deepseektest.Queued(599, time.Second), 599 * time.Second},
		{"headers just in time for first data", bothModes, deepseektest.Delayed(599 * time.Second), 599 * time.Second},
		{"data just in time for the silence clock", []mode{stream}, deepseektest.PauseAfter(5, 59*time.Second), 59 * time.Second},
		{"a stream of hours", []mode{stream}, slow(deepseektest.Pace{Token: 59 * time.Second, TokenSize: 1}), 100 * 59 * time.Second},
	} {
		for _, m := range c.modes {
			tests = append(tests, test{name: c.name + " " + m.String(), do: func(x *bench) {
				x.srv.Enqueue(c.reply)
				x.whole(x.call(bg, m, Prompt{}))
				assert.GreaterOrEqual(x, x.elapsed(), c.took)
				x.requests(1)
			}})
		}
	}
	var shown atomic.Int64
	tests = append(tests,
		test{name: "comments just in time between data", network: film(&shown, filmRole, filmHello, 59*time.Second, keepAlive, 59*time.Second, filmWorld, filmStop, filmDone),
			do: func(x *bench) {
				shown.Store(0)
				x.greeted(x.stream())
				x.settled(&shown)
			}},
		test{name: "the reader's own time counts for no clock", network: film(&shown, filmRole, 330*time.Second, filmHello, 330*time.Second, filmWorld, filmStop, filmDone),
			do: func(x *bench) {
				if x.door.Remote {
					x.Skip("the proxy reads on by itself")
				}
				shown.Store(0)
				s, res, err := x.open(bg, Prompt{})
				require.NoError(x, err)
				err = readAll(lazy{s, 5 * time.Minute}, &res)
				x.greeted(res, err)
				x.settled(&shown)
			}},
		test{name: "a reader that takes hours", do: func(x *bench) {
			s, res, err := x.open(bg, Prompt{})
			require.NoError(x, err)
			err = readAll(lazy{s, 5 * time.Minute}, &res)
			x.whole(res, err)
			assert.Greater(x, x.elapsed(), 2*time.Hour)
			x.requests(1)
		}},
	)

	// What they do not.
	short := deepseek.WithTimeouts(deepseek.Timeouts{FirstData: 9 * time.Second, BetweenData: 5 * time.Second, Silence: 3 * time.Second})
	for _, c := range []struct {
		name  string
		modes []mode
		opts  []deepseek.Option
		reply deepseektest.Reply
		clock string
		after time.Duration
		data  bool // some data comes first
	}{
		{"no headers", bothModes, nil, deepseektest.Hang(), "first data", 10 * time.Minute, false},
		{"headers only", []mode{stream}, nil, deepseektest.StallAfter(0), "silence", time.Minute, false},
		{"keep-alives only", bothModes, nil, deepseektest.StallKeepAlive(0, 10*time.Second), "first data", 10 * time.Minute, false},
		{"silence after data", []mode{stream}, nil, deepseektest.StallAfter(5), "silence", time.Minute, true},
		{"silence within an answer", []mode{chat}, nil, deepseektest.StallAfter(5), "silence", time.Minute, false},
		{"keep-alives after data", []mode{stream}, nil, deepseektest.StallKeepAlive(5, 10*time.Second), "between data", 2 * time.Minute, true},
		{"blank lines within an answer", []mode{chat}, nil, deepseektest.StallKeepAlive(5, 10*time.Second), "between data", 2 * time.Minute, false},
		{"no headers, own limit", bothModes, []deepseek.Option{short}, deepseektest.Hang(), "first data", 9 * time.Second, false},
		{"keep-alives only, own limit", bothModes, []deepseek.Option{short}, deepseektest.StallKeepAlive(0, time.Second), "first data", 9 * time.Second, false},
		{"silence, own limit", []mode{stream}, []deepseek.Option{short}, deepseektest.StallAfter(5), "silence", 3 * time.Second, true},
		{"keep-alives after data, own limit", []mode{stream}, []deepseek.Option{short}, deepseektest.StallKeepAlive(5, time.Second), "between data", 5 * time.Second, true},
	} {
		for _, m := range c.modes {
			tests = append(tests, test{name: "stall: " + c.name + " " + m.String(), opts: with(c.opts, once), do: func(x *bench) {
				x.srv.Enqueue(deepseektest.Repeat(1+x.door.Retries, c.reply)...)
				ctx, cancel := context.WithTimeout(bg, 3*time.Hour) // should no clock run
				defer cancel()
				res, err := x.call(ctx, m, Prompt{})
				x.stalled(err, c.clock, c.after)
				if c.data {
					assert.NotZero(x, res.Pieces, "what had arrived")
					assert.Equal(x, 1, len(x.posts()), "attempts after data")
				}
				if c.data || x.door.Retries == 0 {
					assert.InDelta(x, c.after, x.elapsed(), float64(time.Millisecond))
				}
				x.idle()
				assert.True(x, x.posts()[0].Left, "the server was left")
			}})
		}
	}
	return append(tests,
		test{name: "clocks switched off leave the deadline", opts: []deepseek.Option{deepseek.WithTimeouts(deepseek.Timeouts{FirstData: -1, BetweenData: -1, Silence: -1})}, do: func(x *bench) {
			for _, r := range []deepseektest.Reply{deepseektest.Hang(), deepseektest.StallAfter(0), deepseektest.StallAfter(5), deepseektest.StallKeepAlive(5, time.Minute)} {
				x.srv.Enqueue(r)
				ctx, cancel := context.WithTimeout(bg, 3*time.Hour)
				start := time.Now()
				_, err := x.call(ctx, stream, Prompt{})
				cancel()
				require.ErrorIs(x, err, context.DeadlineExceeded)
				assert.NotErrorIs(x, err, deepseek.ErrStalled)
				assert.Equal(x, 3*time.Hour, time.Since(start))
			}
			x.untouched()
		}},
	)
}

// lazy is a stream whose reader has other things to do.
type lazy struct {
	Stream
	pause time.Duration
}

func (l lazy) Next() (Piece, error) {
	time.Sleep(l.pause)
	return l.Stream.Next()
}

// stalled demands a stall error: of its own type, a timeout, and nobody's
// cancellation.
func (x *bench) stalled(err error, clock string, after time.Duration) {
	x.Helper()
	require.Error(x, err)
	assert.NotErrorIs(x, err, context.Canceled)
	assert.NotErrorIs(x, err, context.DeadlineExceeded)
	if x.door.Remote {
		return // a bad gateway, or a broken connection
	}
	assert.ErrorIs(x, err, deepseek.ErrStalled)
	var stall *deepseek.StallError
	if assert.ErrorAs(x, err, &stall) {
		assert.Equal(x, clock, stall.Clock)
		assert.Equal(x, after, stall.After)
	}
	var timeout net.Error
	if assert.ErrorAs(x, err, &timeout) {
		assert.True(x, timeout.Timeout(), "Timeout()")
	}
}
