package deepseek_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// oneAndAnother is a client of two endpoints, of which the second is for what the
// first cannot take.
func oneAndAnother(t *testing.T, opts ...deepseek.Option) (first *deepseektest.Server, client *deepseek.Client) {
	pace := deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Token: 400 * time.Millisecond})
	first, second := deepseektest.NewMemoryServer(pace), deepseektest.NewMemoryServer(pace)
	t.Cleanup(first.Close)
	t.Cleanup(second.Close)
	client, err := deepseek.New(append(opts,
		deepseek.WithEndpoints(
			deepseek.Endpoint{Name: "first", BaseURL: first.URL, Accounts: []deepseek.Account{{Name: "a", Keys: []string{"k1"}}}},
			deepseek.Endpoint{Name: "second", BaseURL: second.URL, Priority: 1, Accounts: []deepseek.Account{{Name: "b", Keys: []string{"k2"}}}}),
		deepseek.WithTransport(deepseektest.Network(first, second)))...)
	require.NoError(t, err)
	return first, client
}

// stream reads an answer to its end.
func stream(t *testing.T, client *deepseek.Client, question ...any) error {
	s, err := client.ChatStream(t.Context(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User(fmt.Sprint(question...) + "?")}})
	if err == nil {
		for _, err = range s.Chunks() {
		}
	}
	return err
}

// everySecond streams an answer a second, n in all, and returns how many broke.
func everySecond(t *testing.T, client *deepseek.Client, n int) int {
	var broken atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if stream(t, client, "q", i) != nil {
				broken.Add(1)
			}
		})
		time.Sleep(time.Second)
	}
	wg.Wait()
	return int(broken.Load())
}

// An endpoint whose streams all begin and none ends is as good as down, though each
// of them looks well at its first data.
func TestBreakerOpensOnStreamsThatAllBreakLate(t *testing.T) {
	if racedetector.On {
		t.Skip("thousands of streams show how many break: without the race detector")
	}
	for _, c := range []struct {
		name         string
		reply        deepseektest.Reply
		most, resume int // that break, of 540
	}{
		{"reset", deepseektest.ResetAfter(5), 120, 5},
		{"stall", deepseektest.StallAfter(5), 230, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			for most, opts := range map[int][]deepseek.Option{c.most: nil, c.resume: {deepseek.WithStreamResume()}} {
				synctest.Test(t, func(t *testing.T) {
					first, client := oneAndAnother(t, opts...)
					require.Zero(t, everySecond(t, client, 60))
					first.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &c.reply })
					require.LessOrEqual(t, everySecond(t, client, 540), most)
					first.Handle(nil)
					_ = everySecond(t, client, 60)
					before := first.Count(200)
					require.Zero(t, everySecond(t, client, 60))
					require.Equal(t, 60, first.Count(200)-before, "it is well again")
				})
			}
		})
	}
}

// The same with few calls, which are no share of a window: 20 in a row.
func TestBreakerOpensOnStreamsThatAllBreakOneByOne(t *testing.T) {
	for _, pause := range []time.Duration{0, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			first, client := oneAndAnother(t)
			cut := deepseektest.ResetAfter(5)
			first.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &cut })
			broken := 0
			for range 100 {
				if stream(t, client) != nil {
					broken++
				}
				time.Sleep(pause)
			}
			require.Less(t, broken, 80, "at a pause of %v", pause)
		})
	}
}

// What broke once and has gone well since says nothing of an outage.
func TestBreakerForgetsStreamsThatBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deepseektest.NewMemoryServer(deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Token: 5 * time.Second}))
		t.Cleanup(srv.Close)
		client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("k1"), deepseek.WithTransport(srv.Transport()), deepseek.WithoutRetry())
		require.NoError(t, err)
		srv.Enqueue(deepseektest.ResetAfter(2), deepseektest.ResetAfter(2))
		require.Error(t, stream(t, client))
		require.Error(t, stream(t, client))
		for range 20 {
			require.NoError(t, stream(t, client))
		}
		down := deepseektest.ServiceUnavailable()
		srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &down })
		for err := stream(t, client); !errors.Is(err, deepseek.ErrCircuitOpen); err = stream(t, client) {
		}
		srv.Handle(nil)
		require.LessOrEqual(t, everySecond(t, client, 120), 40, "it comes back as after any outage")
	})
}

// Streams that break all at once, because the server was restarted, are no reason to
// doubt those that begin afterwards.
func TestBreakerTrustsStreamsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var breakers []deepseek.BreakerEvent
		var mu sync.Mutex
		first, client := oneAndAnother(t, deepseek.WithObserver(deepseek.Observer{Breaker: func(e deepseek.BreakerEvent) {
			mu.Lock()
			defer mu.Unlock()
			breakers = append(breakers, e)
		}}))
		slow := deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second, Token: 20 * time.Second})
		cut := slow.And(deepseektest.ResetAfter(2))
		first.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &cut })
		var wg sync.WaitGroup
		for range 40 { // all at once, so they break at once
			wg.Go(func() {
				s, err := client.ChatStream(t.Context(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("q")}})
				require.NoError(t, err)
				for _, err = range s.Chunks() {
				}
				require.Error(t, err)
			})
		}
		time.Sleep(10 * time.Second)
		first.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
		wg.Wait()
		synctest.Wait()
		changes := func() []deepseek.BreakerEvent {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(breakers)
		}
		require.NotEmpty(t, changes())
		for all := changes(); all[len(all)-1].To != deepseek.BreakerClosed; all = changes() {
			require.Less(t, len(all), 10)
			time.Sleep(time.Second)
			wg.Go(func() {
				s, err := client.ChatStream(t.Context(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("q")}})
				require.NoError(t, err)
				for _, err = range s.Chunks() {
				}
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		wg.Wait()
	})
}
