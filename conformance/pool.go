package conformance

import (
	"fmt"
	"sync"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// poolTests are about accounts and keys.
func poolTests() []test {
	slow := deepseektest.Paced(deepseektest.Pace{FirstToken: time.Second})
	return []test{
		{name: "load is spread over accounts", do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply { return &slow })
			x.crowd(40, func(i int) { x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)})) })
			for _, a := range x.accounts {
				assert.GreaterOrEqual(x, x.srv.MaxInFlight(a.Name, deepseek.ModelFlash), 5, "account %s", a.Name)
			}
		}},
		{name: "the keys of an account take turns", do: func(x *bench) {
			for i := range 40 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
			}
			used := map[string]int{}
			for _, p := range x.posts() {
				used[p.Key]++
			}
			assert.Len(x, used, 3, "keys used")
		}},
		{name: "a conversation stays on its account", do: func(x *bench) {
			for i := range 20 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("conversation ", i)}))
			}
			p := x.posts()
			moved := 0
			for i := 0; i < len(p); i += 2 {
				if p[i].Account != p[i+1].Account {
					moved++
				}
			}
			assert.Zero(x, moved, "of 20 conversations, moved for no reason")
		}},
		{name: "a failing account that answers quickly attracts no load", do: func(x *bench) {
			x.srv.SetLimit("a", deepseek.ModelFlash, 0)
			x.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
				if r.Account == "a" {
					re := deepseektest.RateLimitedPlain()
					return &re
				}
				return &slow
			})
			for range 20 {
				x.crowd(10, func(int) { x.whole(x.chat()) })
			}
			assert.Less(x, x.srv.Count(429), 100, "refused attempts for 200 calls")
			a, ok := x.account("a")
			if ok {
				for _, k := range a.Keys {
					assert.Equal(x, deepseek.StateActive, k.State, "a 429 is nothing against a key")
				}
			}
		}},
		{name: "a longer cooldown is not overwritten by a shorter one", single: true, opts: []deepseek.Option{deepseek.WithoutRetry()}, do: func(x *bench) {
			if x.door.Retries > 0 {
				x.Skip("the door retries by itself")
			}
			no := func(after string, d time.Duration) deepseektest.Reply {
				return deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter(after), deepseektest.Delayed(d))
			}
			x.srv.Enqueue(no("50", time.Second), no("5", 2*time.Second))
			x.crowd(2, func(int) {
				_, err := x.chat()
				assert.Error(x, err)
			})
			s, ok := x.limit("solo")
			a, _ := x.account("solo")
			if ok {
				assert.InDelta(x, 49, max(s.For, a.For).Seconds(), 2)
			}
		}},
		{name: "Retry-After of a 429 is waited for", single: true, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("20")))
			x.whole(x.chat())
			x.requests(2)
			assert.GreaterOrEqual(x, x.elapsed(), 20*time.Second)
			assert.LessOrEqual(x, x.elapsed(), 25*time.Second)
		}},
		{name: "a 429 with nothing left says so", single: true, opts: []deepseek.Option{deepseek.WithQueue(deepseek.Queue{MaxWait: 3 * time.Second})}, do: func(x *bench) {
			x.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
				re := deepseektest.RateLimited(1)
				return &re
			})
			res, err := x.chat()
			require.Error(x, err)
			if res.Status == 0 {
				x.is(err, deepseek.ErrQueueFull)
				assert.Contains(x, err.Error(), "room")
			}
		}},
		{name: "a key that was rejected is tried again after ten minutes", do: func(x *bench) {
			x.srv.RevokeKey(x.accounts[0].Keys[0])
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			assert.Equal(x, 1, x.srv.Count(401), "tries of the bad key")
			x.srv.RestoreKey(x.accounts[0].Keys[0])
			x.srv.Reset()
			time.Sleep(9 * time.Minute)
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts() {
				assert.NotEqual(x, x.accounts[0].Keys[0], p.Key, "used too soon")
			}
			time.Sleep(2 * time.Minute)
			used := false
			for i := range 24 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts() {
				used = used || p.Key == x.accounts[0].Keys[0]
			}
			assert.True(x, used, "tried again")
		}},
		{name: "an account without money comes back with money", do: func(x *bench) {
			x.srv.SetBalance("a", -1)
			for i := range 12 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			assert.Equal(x, 1, x.srv.Count(402), "tries of the empty account")
			if a, ok := x.account("a"); ok {
				assert.Equal(x, deepseek.StateOutOfBalance, a.State)
			}
			x.srv.SetBalance("a", 50)
			x.srv.Reset()
			time.Sleep(6 * time.Minute)
			for i := range 24 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if a, ok := x.account("a"); ok {
				assert.Equal(x, deepseek.StateActive, a.State)
			}
			used := false
			for _, p := range x.posts() {
				used = used || p.Account == "a"
			}
			assert.True(x, used, "used again")
		}},
		{name: "an account without money is not hammered", do: func(x *bench) {
			x.srv.SetBalance("a", -1)
			for i := range 60 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			// In an hour: the first, and at most one probe each 5 minutes.
			assert.LessOrEqual(x, x.srv.Count(402), 14)
		}},
		{name: "the last account without money comes back too", single: true, do: func(x *bench) {
			x.srv.SetBalance("solo", -1)
			res, err := x.chat()
			require.Error(x, err)
			assert.Equal(x, 402, res.Status)
			x.srv.SetBalance("solo", 10)
			time.Sleep(6 * time.Minute)
			var ok bool
			for range 5 {
				if res, err = x.chat(); err == nil {
					ok = true
					break
				}
				time.Sleep(time.Second)
			}
			assert.True(x, ok, "%v", err)
		}},
		{name: "accounts and keys come and go", do: func(x *bench) {
			if x.door.Transport == nil {
				x.Skip("the door hides the pool")
			}
			pool := x.door.Transport.Pool()
			// A call in flight on an account that is removed ends normally.
			x.srv.Enqueue(slow)
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.stream()) })
			synctest.Wait()
			on := x.posts()[0].Account
			require.NoError(x, pool.Remove(on))
			wg.Wait()
			for i := range 10 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint(i)}))
			}
			for _, p := range x.posts()[1:] {
				assert.NotEqual(x, on, p.Account, "removed")
			}
			rest := map[string]string{"a": "b", "b": "a"}[on]
			require.NoError(x, pool.Disable(rest))
			_, err := x.chat()
			x.is(err, deepseek.ErrNoAccount)
			require.NoError(x, pool.Enable(rest))
			x.whole(x.chat())
			for _, a := range x.accounts {
				if a.Name == on {
					require.NoError(x, pool.Add(deepseek.Account{Name: on, Keys: a.Keys}))
				}
			}
			before := len(x.posts())
			for i := range 20 {
				x.whole(x.call(bg, chat, Prompt{Text: fmt.Sprint("again ", i)}))
			}
			used := false
			for _, p := range x.posts()[before:] {
				used = used || p.Account == on
			}
			assert.True(x, used, "added again")
			err = pool.Add(deepseek.Account{Name: on, Keys: []string{secret + "-new"}})
			require.Error(x, err, "a name twice")
			x.noKeys(err)
			err = pool.RemoveKey(rest, secret+"-unknown")
			require.Error(x, err)
			x.noKeys(err)
		}},
		{name: "a waiting call takes an account that is added", single: true, do: func(x *bench) {
			if x.door.Transport == nil {
				x.Skip("the door hides the pool")
			}
			x.srv.SetLimit("solo", deepseek.ModelFlash, 1)
			x.srv.Enqueue(deepseektest.RateLimited(1))
			x.whole(x.chat())
			done := x.occupy()
			var wg sync.WaitGroup
			wg.Go(func() { x.whole(x.chat()) })
			time.Sleep(time.Second)
			s, _ := x.stats()
			assert.EqualValues(x, 1, s.Waiting)
			require.NoError(x, x.door.Transport.Pool().AddKey("solo", secret+"-second"))
			x.srv.Enqueue(deepseektest.Normal())
			require.NoError(x, x.door.Transport.Pool().Add(deepseek.Account{Name: "new", Keys: []string{x.extraKey()}}))
			wg.Wait()
			assert.Less(x, x.elapsed(), 30*time.Second)
			done()
		}, server: []deepseektest.Option{deepseektest.WithAccount(deepseektest.Account{Name: "new", Keys: []string{secret + "-new-44444444"}})}},
		{name: "rate limit", opts: []deepseek.Option{deepseek.WithRateLimit(2, 3)}, do: func(x *bench) {
			x.crowd(9, func(i int) { x.whole(x.call(bg, mode(i%2 == 0), Prompt{})) })
			assert.InDelta(x, 3, x.elapsed().Seconds(), 0.6, "9 calls at 2 a second after a burst of 3")
			x.requests(9)
		}},
	}
}

func (x *bench) extraKey() string { return secret + "-new-44444444" }
