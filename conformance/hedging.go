package conformance

import (
	"context"
	"net/http"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// hedgingTests are for a second attempt beside one that is late. Answers come
// at once here, so that one of a few milliseconds is late.
func hedgingTests() (tests []test) {
	opts := []deepseek.Option{deepseek.WithHedging(deepseek.Hedging{MinSamples: 20, MaxShare: 1, MaxCost: 1})}
	late := func(d time.Duration) deepseektest.Reply {
		return deepseektest.Paced(deepseektest.Pace{FirstToken: d})
	}
	learn := func(x *bench, m mode) {
		x.Helper()
		for range 20 {
			x.whole(x.call(bg, m, Prompt{}))
		}
		x.srv.Reset()
		x.start = time.Now()
	}
	for _, m := range []mode{chat, stream} {
		row := func(name string, do func(x *bench)) {
			tests = append(tests, test{name: name + " " + m.String(), opts: opts, do: func(x *bench) {
				learn(x, m)
				do(x)
			}})
		}
		row("the hedge answers first", func(x *bench) {
			x.srv.Enqueue(deepseektest.Hang())
			x.whole(x.call(bg, m, Prompt{}))
			assert.Less(x, x.elapsed(), 10*time.Millisecond)
			x.requests(2)
			x.idle()
			assert.NotEqual(x, x.posts()[0].Account, x.posts()[1].Account)
			assert.True(x, x.posts()[0].Left, "the server noticed")
			x.untouched()
			if s, ok := x.stats(); ok {
				assert.Equal(x, int64(1), s.HedgesWon)
			}
		})
		row("the attempt answers first", func(x *bench) {
			x.srv.Enqueue(late(2*time.Millisecond), late(time.Minute))
			x.whole(x.call(bg, m, Prompt{}))
			assert.Less(x, x.elapsed(), 10*time.Millisecond)
			x.requests(2)
			x.idle()
			assert.True(x, x.posts()[1].Left, "the server noticed")
			x.untouched()
		})
		row("both fail", func(x *bench) {
			x.srv.Enqueue(deepseektest.ServiceUnavailable().And(deepseektest.Delayed(time.Second)), deepseektest.CutAfter(0))
			x.whole(x.call(bg, m, Prompt{}))
			x.requests(3)
			x.untouched()
		})
		row("what is wrong is told", func(x *bench) {
			x.srv.Enqueue(deepseektest.Status(http.StatusBadRequest).And(deepseektest.Delayed(time.Second)), deepseektest.Hang())
			res, err := x.call(bg, m, Prompt{})
			require.Error(x, err)
			assert.Equal(x, http.StatusBadRequest, res.Status)
			assert.Equal(x, time.Second, x.elapsed())
			x.requests(2)
			x.untouched()
		})
		if m == stream {
			row("a stream that breaks is not mended by the loser", func(x *bench) {
				x.srv.Enqueue(late(time.Minute), deepseektest.CutAfter(3))
				_, err := x.stream()
				x.is(err, deepseek.ErrTruncated)
			})
		}
		row("cancelled", func(x *bench) {
			if x.door.Remote {
				x.Skip("not through this door")
			}
			x.srv.Enqueue(deepseektest.Hang(), deepseektest.Hang())
			ctx, cancel := context.WithCancel(bg)
			defer cancel()
			time.AfterFunc(time.Second, cancel)
			_, err := x.call(ctx, m, Prompt{})
			require.ErrorIs(x, err, context.Canceled)
			assert.Equal(x, time.Second, x.elapsed())
			x.requests(2)
			x.untouched()
		})
	}
	return tests
}
