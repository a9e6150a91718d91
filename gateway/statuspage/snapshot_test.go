package statuspage_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/gateway/statuspage"
)

var twoAccounts = []deepseek.Account{{Name: "a", Keys: []string{keyA, keyA + "-2"}}, {Name: "b", Keys: []string{keyB}}}

func TestAllIsWell(t *testing.T) {
	setup{page: statuspage.Settings{Note: "a note", Version: "v1"}}.run(t, func(b *bench) {
		m := b.now()
		require.Equal(b, "good", m.Outlook.Level)
		require.Equal(b, "All is well", m.Outlook.Text)
		require.Empty(b, m.Outlook.Items)
		require.Empty(b, m.Circuits)
		require.Empty(b, m.Calls)
		require.Len(b, m.Series.Points, 299)
		require.Equal(b, "a note", m.About.Note)
		require.Equal(b, "v1", m.About.Version)
		require.NotEmpty(b, m.Edition)

		status, _ := b.ask(flash)
		require.Equal(b, http.StatusOK, status)
		time.Sleep(time.Second)
		m = b.now()
		require.Equal(b, "good", m.Outlook.Level)
		require.Equal(b, "closed", m.Circuits[0].State)
		require.Positive(b, m.Totals.Spent)
		c := m.Calls[0]
		require.Equal(b, "answered", c.Outcome)
		require.Equal(b, "deepseek-flash", c.Model)
		require.Equal(b, "/chat/completions", c.Path)
		require.Len(b, c.ID, 16)
		require.Positive(b, c.Output)
		require.InDelta(b, m.Totals.Spent, c.Cost, 1e-12)
		require.Equal(b, "ok", c.Trail[0].Kind)
		require.Equal(b, "main", c.Trail[0].Account)
	})
}

// What is put aside is told with its reason, since when, and until when.
func TestTrouble(t *testing.T) {
	// Answers take some time, in which an account's balance is looked at.
	pace := []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: 100 * time.Millisecond})}
	setup{accounts: twoAccounts, server: pace, opts: []deepseek.Option{deepseek.WithStrategy(deepseek.RoundRobin{})}}.run(t, func(b *bench) {
		start := time.Now()
		b.srv.RevokeKey(keyA)
		b.srv.SetBalance(keyB, -1)
		for range 4 {
			status, _ := b.ask(flash)
			require.Equal(b, http.StatusOK, status)
		}
		time.Sleep(90 * time.Second)
		b.srv.Enqueue(deepseektest.ServiceUnavailable())
		b.ask(flash)
		m := b.now()
		require.Equal(b, "warn", m.Outlook.Level)
		require.Equal(b, "Working, with trouble", m.Outlook.Text)
		fingerprint := m.Accounts[0].Keys[0].Key
		require.Equal(b, "Account b is out of balance (402)", m.Outlook.Items[0].Text)
		require.Equal(b, "Key #"+fingerprint+" of a is refused (401)", m.Outlook.Items[1].Text)
		require.Equal(b, "note", m.Outlook.Items[1].Level)
		for _, item := range m.Outlook.Items {
			assert.NotEmpty(b, item.Doing)
			assert.InDelta(b, start.UnixMilli(), item.Since, 5000, item.Text)
			assert.Greater(b, item.Until, m.Now, item.Text)
		}
		require.Equal(b, "out of balance", m.Accounts[1].State)
		require.Equal(b, "unauthorized", m.Accounts[0].Keys[0].State)
		require.Equal(b, "active", m.Accounts[0].State)
		require.InDelta(b, start.Add(10*time.Minute).UnixMilli(), m.Accounts[0].Keys[0].Until, 5000)
		last := m.Calls[len(m.Calls)-1]
		require.Equal(b, "fault", last.Trail[0].Kind)
		require.Equal(b, "ok", last.Trail[1].Kind)

		// The time of the end does not move from one look to the next.
		time.Sleep(3 * time.Second)
		require.Equal(b, m.Accounts, b.now().Accounts)

		b.srv.SetBalance(keyB, 100)
		time.Sleep(31 * time.Second)
		b.ask(flash) // which finds it out
		time.Sleep(2 * time.Second)
		m = b.now()
		require.Equal(b, "active", m.Accounts[1].State)
		require.Zero(b, m.Accounts[1].Since)
		require.Equal(b, "All is well", m.Outlook.Text, "with a key to replace")
		require.Contains(b, m.Journal[len(m.Journal)-1].Text, "account b is back (balance)")

		// Nobody tells when a time is up; a second trouble is another one, with a
		// beginning of its own.
		time.Sleep(10 * time.Minute)
		m = b.now()
		require.Equal(b, "active", m.Accounts[0].Keys[0].State)
		require.Zero(b, m.Accounts[0].Keys[0].Since)
		again := time.Now()
		for range 6 {
			b.ask(flash)
		}
		time.Sleep(2 * time.Second)
		m = b.now()
		require.Equal(b, "unauthorized", m.Accounts[0].Keys[0].State)
		require.InDelta(b, again.UnixMilli(), m.Accounts[0].Keys[0].Since, 5000)
	})
}

func TestOutage(t *testing.T) {
	setup{opts: []deepseek.Option{deepseek.WithBreaker(deepseek.Breaker{OpenFor: 30 * time.Second}), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2})}}.run(t, func(b *bench) {
		down := true
		b.srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
			if !down {
				return nil
			}
			r := deepseektest.ServiceUnavailable()
			return &r
		})
		for range 15 {
			b.ask(flash)
		}
		since := time.Now()
		time.Sleep(3 * time.Second)
		m := b.now()
		require.Equal(b, "bad", m.Outlook.Level)
		require.Equal(b, "Down", m.Outlook.Text)
		require.Contains(b, m.Outlook.Items[0].Text, "deepseek-flash at ")
		require.Contains(b, m.Outlook.Items[1].Text, "requests failed in the last minute")
		require.Equal(b, "open", m.Circuits[0].State)
		require.InDelta(b, since.UnixMilli(), m.Circuits[0].Since, 20_000)
		require.Greater(b, m.Circuits[0].Until, m.Now)
		require.LessOrEqual(b, m.Circuits[0].Until, m.Now+30_000)
		require.Equal(b, m.Circuits[0].Since, m.Outlook.Items[0].Since)
		require.Contains(b, m.Journal[len(m.Journal)-1].Text, "left alone for")

		down = false
		time.Sleep(2 * time.Minute)
		for range 80 {
			b.ask(flash)
		}
		time.Sleep(2 * time.Second)
		m = b.now()
		require.Equal(b, "closed", m.Circuits[0].State)
		require.Equal(b, "good", m.Outlook.Level)
		require.Contains(b, m.Journal[len(m.Journal)-1].Text, "is well again")
	})
}

// With several endpoints it is told what belongs to which.
func TestEndpoints(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		require.NoError(b, b.g.Reload(gateway.Settings{OnEnd: b.page.OnEnd}, deepseek.WithTransport(b.srv.Transport()), deepseek.WithObserver(b.page.Observer()),
			deepseek.WithEndpoints(
				deepseek.Endpoint{Name: "near", BaseURL: b.srv.URL, Accounts: []deepseek.Account{{Name: "a", Keys: []string{keyA}}}},
				deepseek.Endpoint{Name: "far", BaseURL: "https://far.example", Priority: 1, Accounts: []deepseek.Account{{Name: "b", Keys: []string{keyB}}}})))
		b.ask(flash)
		time.Sleep(time.Second)
		m := b.now()
		require.Equal(b, "2 endpoints", m.About.Upstream)
		require.Equal(b, "near", m.Accounts[0].Endpoint)
		require.Equal(b, "far", m.Accounts[1].Endpoint)
		require.Equal(b, "near", m.Circuits[0].Endpoint)
	})
}

func TestQueue(t *testing.T) {
	setup{opts: []deepseek.Option{deepseek.WithMaxConcurrency(2)}, server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Minute})}}.run(t, func(b *bench) {
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() { b.ask(flash) })
		}
		time.Sleep(20 * time.Second)
		m := b.now()
		require.EqualValues(b, 3, m.Totals.Waiting)
		require.EqualValues(b, 20_000, m.Totals.Longest)
		require.Equal(b, 2, m.Totals.InFlight)
		require.Equal(b, "3 calls wait for room", m.Outlook.Items[0].Text)
		require.Equal(b, "warn", m.Outlook.Level)
		require.InDelta(b, m.Now-20_000, m.Outlook.Items[0].Since, 1000)
		calls.Wait()
	})
}

// Requests end in more ways than one.
func TestRequests(t *testing.T) {
	key := gateway.NewKey()
	hostile := `<img src=x onerror=alert(1)>"'` + "\u2028" + strings.Repeat("long", 40)
	setup{gateway: gateway.Settings{Clients: []gateway.Client{{Name: "ci", Keys: []string{gateway.HashKey(key)}}}}}.run(t, func(b *bench) {
		ask := func(key, body string) {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, b.url+"/chat/completions", strings.NewReader(body))
			require.NoError(b, err)
			req.Header.Set("Authorization", "Bearer "+key)
			resp, err := b.client.Do(req)
			require.NoError(b, err)
			_ = resp.Body.Close()
			synctest.Wait()
		}
		ask("sk-nobody", flash)
		ask(key, flash)
		ask(key, `{"model": "`+strings.ReplaceAll(hostile, `"`, `\"`)+`", "messages": []}`)
		b.srv.Enqueue(deepseektest.CutAfter(2))
		resp, err := b.client.Do(func() *http.Request {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, b.url+"/chat/completions", strings.NewReader(strings.Replace(flash, `{`, `{"stream": true, `, 1)))
			require.NoError(b, err)
			req.Header.Set("Authorization", "Bearer "+key)
			return req
		}())
		require.NoError(b, err)
		time.Sleep(time.Second)
		_ = resp.Body.Close()
		b.srv.Enqueue(deepseektest.Repeat(10, deepseektest.ErrorObject200("what was asked is "+prompt))...)
		ask(key, flash)
		time.Sleep(time.Minute)
		w := b.watch()
		m := w.next()
		_ = w.body.Close()
		outcomes := []string{}
		for _, c := range m.Calls {
			outcomes = append(outcomes, c.Outcome)
		}
		require.Equal(b, []string{"refused", "answered", "rejected", "failed", "failed"}, outcomes)
		require.Equal(b, "invalid_api_key", m.Calls[0].Code)
		require.Empty(b, m.Calls[0].Trail)
		require.Equal(b, "ci", m.Calls[1].Client)
		require.Contains(b, m.Calls[3].Error, "truncated")
		require.True(b, strings.HasPrefix(m.Calls[2].Model, `<img src=x onerror=alert(1)>"'`), "as it is, for the page to show as text")
		require.Less(b, len(m.Calls[2].Model), 130)
		require.NotContains(b, w.raw.String(), "<img", "but never as markup in the stream")
		require.NotContains(b, w.raw.String(), "\u2028")
		require.Equal(b, "ci", m.Clients[0].Name)
		require.InDelta(b, m.Totals.Spent, m.Clients[0].Spent, 1e-9)
		for _, secret := range []string{keyA, key, gateway.HashKey(key), "sk-nobody", prompt, answer} {
			require.NotContains(b, w.raw.String(), secret)
		}
	})
}

// Requests are kept in bounds, those that went through trouble for longer.
func TestRequestsKept(t *testing.T) {
	setup{opts: []deepseek.Option{deepseek.WithoutBreaker()}}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.ServiceUnavailable())
		b.ask(flash)
		for range 120 {
			b.ask(flash)
		}
		m := b.now()
		require.Len(b, m.Calls, 51)
		require.Equal(b, "fault", m.Calls[0].Trail[0].Kind)
		require.EqualValues(b, 1, m.Calls[0].N)
		require.EqualValues(b, 121, m.Calls[50].N)
		b.srv.Enqueue(deepseektest.Repeat(700, deepseektest.ServiceUnavailable())...)
		for range 120 {
			b.ask(flash)
		}
		require.Len(b, b.now().Calls, 150)
	})
}

// An attempt whose answer breaks after its first data has failed too, whether or not
// another goes on with the answer.
func TestBrokenStreams(t *testing.T) {
	// As the points of the series have them.
	const answered, repaired, failed, faults, kinds = 0, 1, 2, 6, 7
	stream := strings.Replace(flash, "{", `{"stream": true, `, 1)
	for name, row := range map[string]struct {
		opts  []deepseek.Option
		reply deepseektest.Reply
		want  [kinds]int64
		trail []string
		items []string
	}{
		"continued": {opts: []deepseek.Option{deepseek.WithStreamResume()}, reply: deepseektest.CutAfter(3), want: [kinds]int64{repaired: 5, faults: 5},
			trail: []string{"fault", "ok"}, items: []string{"5 attempts failed at DeepSeek in the last minute"}},
		"cut": {reply: deepseektest.CutAfter(3), want: [kinds]int64{failed: 5, faults: 5},
			trail: []string{"fault"}, items: []string{"5 of 5 requests failed in the last minute"}},
		"stalled": {opts: []deepseek.Option{deepseek.WithTimeouts(deepseek.Timeouts{BetweenData: time.Second})}, reply: deepseektest.StallAfter(3), want: [kinds]int64{failed: 5, faults: 5},
			trail: []string{"fault"}, items: []string{"5 of 5 requests failed in the last minute"}},
		"never begun": {opts: []deepseek.Option{deepseek.WithoutRetry()}, reply: deepseektest.ServiceUnavailable(), want: [kinds]int64{failed: 5, faults: 5},
			trail: []string{"fault"}, items: []string{"5 of 5 requests failed in the last minute"}},
		"whole": {reply: deepseektest.Normal(), want: [kinds]int64{answered: 5}, trail: []string{"ok"}},
	} {
		t.Run(name, func(t *testing.T) {
			setup{opts: append(row.opts, deepseek.WithoutBreaker())}.run(t, func(b *bench) {
				for range 5 {
					b.srv.Enqueue(row.reply)
					b.ask(stream)
				}
				time.Sleep(2 * time.Second)
				m := b.now()
				var sum [kinds]int64
				for _, p := range m.Series.Points {
					for i, n := range p[:kinds] {
						sum[i] += n
					}
				}
				require.Equal(b, row.want, sum)
				var items []string
				for _, item := range m.Outlook.Items {
					items = append(items, item.Text)
				}
				require.Equal(b, row.items, items)
				var trail []string
				for _, a := range m.Calls[0].Trail {
					trail = append(trail, a.Kind)
					require.Equal(b, a.Kind == "fault" && name != "never begun", strings.HasPrefix(a.Error, "broke off after its first data: "), a.Error)
				}
				require.Equal(b, row.trail, trail)
			})
		})
	}
}

// An error that was told after a sign of life is shown by its own status.
func TestLateError(t *testing.T) {
	setup{gateway: gateway.Settings{KeepAlive: gateway.KeepAlive{WholeAfter: time.Second}}}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.Status(422).And(deepseektest.Delayed(5 * time.Second)))
		status, _ := b.ask(flash)
		require.Equal(b, http.StatusOK, status)
		time.Sleep(2 * time.Second)
		c := b.now().Calls[0]
		require.Equal(b, "rejected", c.Outcome)
		require.Equal(b, 422, c.Status)
	})
}

// What its client closes is nobody's fault.
func TestLeftStream(t *testing.T) {
	pace := []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Token: time.Second})}
	setup{server: pace, opts: []deepseek.Option{deepseek.WithStreamResume()}}.run(t, func(b *bench) {
		resp, err := b.client.Post(b.url+"/chat/completions", "application/json", strings.NewReader(strings.Replace(flash, "{", `{"stream": true, `, 1)))
		require.NoError(b, err)
		require.NoError(b, resp.Body.Close())
		time.Sleep(2 * time.Second)
		m := b.now()
		require.Equal(b, "client left", m.Calls[0].Outcome)
		require.Equal(b, "ok", m.Calls[0].Trail[0].Kind)
		for _, p := range m.Series.Points {
			require.Zero(b, p[6])
		}
	})
}

// After five minutes a second is forgotten, whether or not anything came since.
func TestSeries(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		total := func() (sum int64) {
			for _, p := range b.now().Series.Points {
				sum += p[0]
			}
			return sum
		}
		b.ask(flash)
		time.Sleep(time.Second)
		require.EqualValues(b, 1, total())
		time.Sleep(4 * time.Minute)
		b.ask(flash)
		time.Sleep(time.Second)
		require.EqualValues(b, 2, total())
		time.Sleep(time.Minute)
		require.EqualValues(b, 1, total())
		time.Sleep(10 * time.Minute)
		require.Zero(b, total())
	})
}

// A reload is survived: what was seen stays, and the new accounts are there.
func TestReload(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		w := b.watch()
		w.next()
		b.ask(flash)
		require.Len(b, w.next().Calls, 1)
		require.NoError(b, b.g.Reload(gateway.Settings{OnEnd: b.page.OnEnd}, deepseek.WithBaseURL(b.srv.URL), deepseek.WithTransport(b.srv.Transport()),
			deepseek.WithAccounts(deepseek.Account{Name: "main", Keys: []string{keyA}}, deepseek.Account{Name: "new", Keys: []string{keyB}}),
			deepseek.WithObserver(b.page.Observer())))
		b.ask(flash)
		m := w.next()
		require.Len(b, m.Calls, 1)
		names := []string{}
		for _, a := range m.Accounts {
			names = append(names, a.Name)
		}
		require.Contains(b, names, "new")
		require.Len(b, b.now().Calls, 2)
		require.NoError(b, w.body.Close())

		b.g.Drain()
		time.Sleep(time.Second)
		require.Equal(b, "Shutting down", b.now().Outlook.Items[0].Text)
	})
}
