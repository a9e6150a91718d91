package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// givingUp is the last row of the table: the caller cancels, or its deadline
// passes. What becomes of the breaker is tested with a half-open one.
func givingUp() (tests []test) {
	for _, m := range bothModes {
		phases := []struct {
			name  string
			reply deepseektest.Reply
		}{
			{"before headers", deepseektest.Hang()},
			{"in the queue", deepseektest.Queued(60, time.Second)},
			{"before data", deepseektest.StallAfter(0)},
			{"after data", deepseektest.StallAfter(5)},
		}
		for _, ph := range phases {
			tests = append(tests, test{name: "cancelled " + ph.name + " " + m.String(), do: func(x *bench) {
				x.srv.Enqueue(ph.reply)
				ctx, cancel := context.WithCancel(bg)
				time.AfterFunc(1500*time.Millisecond, cancel)
				_, err := x.call(ctx, m, Prompt{})
				require.Error(x, err)
				assert.ErrorIs(x, err, context.Canceled)
				assert.NotErrorIs(x, err, context.DeadlineExceeded)
				assert.Equal(x, 1500*time.Millisecond, x.elapsed())
				x.requests(1)
				x.untouched()
				x.idle()
				assert.True(x, x.posts()[0].Left, "the server noticed")
			}})
			tests = append(tests, test{name: "deadline passed " + ph.name + " " + m.String(), do: func(x *bench) {
				x.srv.Enqueue(ph.reply)
				ctx, cancel := context.WithTimeout(bg, 1500*time.Millisecond)
				defer cancel()
				_, err := x.call(ctx, m, Prompt{})
				require.Error(x, err)
				assert.ErrorIs(x, err, context.DeadlineExceeded)
				assert.Equal(x, 1500*time.Millisecond, x.elapsed())
				x.requests(1)
				x.untouched()
			}})
		}
		tests = append(tests,
			test{name: "cancelled before the call " + m.String(), do: func(x *bench) {
				ctx, cancel := context.WithCancel(bg)
				cancel()
				_, err := x.call(ctx, m, Prompt{})
				assert.ErrorIs(x, err, context.Canceled)
				x.requests(0)
				x.untouched()
			}},
			test{name: "cancelled by a cause " + m.String(), do: func(x *bench) {
				x.srv.Enqueue(deepseektest.Hang())
				ctx, cancel := context.WithCancelCause(bg)
				cause := errors.New("the user has left")
				time.AfterFunc(time.Second, func() { cancel(cause) })
				_, err := x.call(ctx, m, Prompt{})
				require.Error(x, err)
				if x.door.Remote { // net/http itself tells the cause alone
					return
				}
				assert.ErrorIs(x, err, context.Canceled)
				if !x.door.HidesCause {
					assert.ErrorIs(x, err, cause)
				}
			}},
		)
	}
	tests = append(tests, test{name: "cancelled is excluded", single: true,
		opts: []deepseek.Option{deepseek.WithoutRetry(), deepseek.WithBreaker(deepseek.Breaker{MinRequests: 4, FailureRatio: 0.59, Window: time.Hour})},
		do: func(x *bench) {
			if x.door.Retries > 0 || x.door.Transport == nil {
				x.Skip("not through this door")
			}
			for range 10 {
				x.srv.Enqueue(deepseektest.Hang())
				ctx, cancel := context.WithTimeout(bg, time.Second)
				_, err := x.call(ctx, chat, Prompt{})
				cancel()
				require.Error(x, err)
			}
			failures := 0
			for x.breakerState() == deepseek.BreakerClosed && failures < 20 {
				failures++
				x.srv.Enqueue(deepseektest.Status(500))
				_, err := x.chat()
				require.Error(x, err)
			}
			assert.Equal(x, 4, failures, "failures until open: cancelled calls count for nothing")
		}})
	return tests
}

// untouched demands that nothing was held against anybody.
func (x *bench) untouched() {
	x.Helper()
	x.idle()
	x.breaker(deepseek.BreakerClosed)
	s, _ := x.stats()
	for _, a := range s.Accounts {
		assert.Equal(x, deepseek.StateActive, a.State, a.Name)
		for _, k := range a.Keys {
			assert.Equal(x, deepseek.StateActive, k.State, a.Name)
		}
		for _, m := range a.Models {
			assert.Equal(x, 2500, m.Limit, "limit of %s", a.Name)
		}
	}
}
