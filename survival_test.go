package deepseek_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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

// crowd is a number of callers that call again and again.
type crowd struct {
	callers  int
	stream   bool
	deadline time.Duration // of each call
	pause    time.Duration // of a caller after a failed call

	seq                       atomic.Int64
	started, answered, missed atomic.Int64
	mu                        sync.Mutex
	failures                  map[string]int
	answers                   []time.Duration // when, since start
}

// run has the crowd call until the time is up, and waits for the last call.
func (c *crowd) run(client *http.Client, url string, d time.Duration) {
	c.failures = map[string]int{}
	start := time.Now()
	var wg sync.WaitGroup
	for range c.callers {
		wg.Go(func() {
			for time.Since(start) < d {
				c.started.Add(1)
				err := c.call(client, url)
				switch {
				case err == nil:
					c.answered.Add(1)
					c.mu.Lock()
					c.answers = append(c.answers, time.Since(start))
					c.mu.Unlock()
				default:
					if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, deepseek.ErrQueueFull) {
						c.missed.Add(1)
					}
					c.mu.Lock()
					text := err.Error()
					c.failures[text[:min(len(text), 60)]]++
					c.mu.Unlock()
					time.Sleep(c.pause)
				}
			}
		})
	}
	wg.Wait()
}

func (c *crowd) call(client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.deadline)
	defer cancel()
	body := fmt.Sprintf(`{"model":"deepseek-flash","messages":[{"role":"user","content":"Hi"}],"thinking":{"type":"disabled"},"stream":%t}`, c.stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Seq", fmt.Sprint(c.seq.Add(1)))
	req.Header.Set("X-Start", fmt.Sprint(time.Now().UnixNano()))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, data)
	}
	if c.stream && !strings.HasSuffix(string(data), "data: [DONE]\n\n") {
		return errors.New("stream without its end")
	}
	return nil
}

// memory starts a fake server in memory and a client over our transport.
func memory(t *testing.T, opts []deepseektest.Option, more ...deepseek.Option) (*deepseektest.Server, *http.Client, *deepseek.Transport) {
	srv := deepseektest.NewMemoryServer(opts...)
	base := srv.Transport()
	client, err := deepseek.NewHTTPClient(append([]deepseek.Option{
		deepseek.WithAPIKeys("sk-one"), deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(base),
	}, more...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		base.CloseIdleConnections()
		srv.Close()
	})
	return srv, client, client.Transport.(*deepseek.Transport)
}

// 1,000 callers, and an upstream that takes 20 at a time and that nobody has
// told of: the limit is found at once and used to the full, hardly any attempt
// is refused, and everybody is served in turn.
func TestUnknownLimitIsLearnedAndUsedFairly(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		t.Run(map[bool]string{false: "told by the 429", true: "not told"}[hidden], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { learnAndShare(t, hidden) })
		})
	}
}

func learnAndShare(t *testing.T, hidden bool) {
	const limit = 20
	length := racedetector.Less(10*time.Minute, 3*time.Minute)
	srv, client, _ := memory(t, []deepseektest.Option{
		deepseektest.WithAccount(deepseektest.Account{
			Name: "acct", Keys: []string{"sk-one"}, Balance: 1e9, Limits: map[string]int{"deepseek-flash": limit}, HideLimit: hidden,
		}),
		deepseektest.WithPace(deepseektest.Pace{Headers: 50 * time.Millisecond, FirstToken: time.Second, Token: 250 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithAnswerLength(0, 12),
	})
	crowd := &crowd{callers: racedetector.Less(1000, 300), stream: true, deadline: 5 * time.Minute, pause: time.Second}

	var used, samples float64 // after the first ten seconds
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		time.Sleep(10 * time.Second)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				used += float64(srv.InFlight("sk-one", "deepseek-flash"))
				samples++
			}
		}
	})
	go func() {
		time.Sleep(length)
		close(stop)
	}()
	crowd.run(client, srv.URL, length)
	sampler.Wait()

	requests, refused, worst := srv.Requests(), 0, 0
	seen := map[string]bool{}
	var order []int64
	var first time.Time
	burst := 0
	for i, r := range requests {
		if i == 0 {
			first = r.Time
		}
		if r.Status == http.StatusTooManyRequests {
			refused++
			if r.Time.Sub(first) < 5*time.Second {
				burst++
			}
			continue
		}
		if seq := r.Header.Get("X-Seq"); !seen[seq] {
			seen[seq] = true
			var began int64 // those that began in the same instant have no order
			_, _ = fmt.Sscan(r.Header.Get("X-Start"), &began)
			order = append(order, began)
		}
	}
	// How many later comers were served before each.
	for i, n := range order {
		overtaken := 0
		for _, earlier := range order[max(0, i-2000):i] {
			if earlier > n {
				overtaken++
			}
		}
		worst = max(worst, overtaken)
	}
	share := used / samples / limit
	t.Logf("answered %d of %d, missed %d, attempts %d, 429s %d (%d in the first 5 s), capacity used %.4f, worst overtaking %d, failures %v",
		crowd.answered.Load(), crowd.started.Load(), crowd.missed.Load(), len(requests), refused, burst, share, worst, crowd.failures)
	require.GreaterOrEqual(t, share, 0.95)
	// To find the limit out is the same for a short time as for a long one.
	require.Less(t, float64(refused), racedetector.Less(0.05, 0.08)*float64(len(requests)))
	require.Equal(t, crowd.started.Load(), crowd.answered.Load()+crowd.missed.Load(), "answered, or ended by the call's own deadline: %v", crowd.failures)
	require.LessOrEqual(t, worst, 2*limit, "no caller is overtaken by more than were on their way")
}

// A minute without a server, under the same load: hardly more is sent than the
// calls there are, and when it is back it is found at once and not run over.
func TestFullOutageIsNotMadeWorseAndEndsSoon(t *testing.T) {
	for name, down := range map[string]deepseektest.Reply{
		"503": deepseektest.ServiceUnavailable(), "reset": deepseektest.ResetBeforeHeaders(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { outage(t, down) })
		})
	}
}

func outage(t *testing.T, down deepseektest.Reply) {
	const limit = 20
	from, to := time.Minute, 2*time.Minute
	var mu sync.Mutex
	var states []deepseek.BreakerEvent
	var opened time.Duration
	srv, client, _ := memory(t, []deepseektest.Option{
		deepseektest.WithAccount(deepseektest.Account{
			Name: "acct", Keys: []string{"sk-one"}, Balance: 1e9, Limits: map[string]int{"deepseek-flash": limit},
		}),
		deepseektest.WithPace(deepseektest.Pace{Headers: 50 * time.Millisecond, FirstToken: time.Second, Token: 250 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithAnswerLength(0, 12),
	}, deepseek.WithObserver(deepseek.Observer{Breaker: func(e deepseek.BreakerEvent) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, e)
		opened = max(opened, e.OpenFor)
	}}))
	start := time.Now()
	srv.Timeline(deepseektest.Phase{From: from, To: to, Reply: down})
	crowd := &crowd{callers: racedetector.Less(1000, 300), stream: true, deadline: 5 * time.Minute, pause: 20 * time.Second}
	var before, after int64
	go func() {
		time.Sleep(from)
		before = crowd.started.Load()
		time.Sleep(to - from)
		after = crowd.started.Load()
	}()
	crowd.run(client, srv.URL, 4*time.Minute)

	sent, spike := 0, 0
	var firstAnswer time.Duration
	for _, r := range srv.Requests() {
		switch at := r.Time.Sub(start); {
		case at >= from && at < to:
			sent++
		case at >= to:
			spike = max(spike, r.InFlight)
			if r.Status == http.StatusTooManyRequests {
				spike = max(spike, limit+1)
			}
		}
	}
	for _, at := range crowd.answers {
		if at > to && (firstAnswer == 0 || at < firstAnswer) {
			firstAnswer = at
		}
	}
	calls := after - before
	t.Logf("calls started in the outage %d, attempts %d, breaker open for up to %s in a row, first answer %s after its end, most in flight after it %d, answered %d, failures %v, %d breaker changes",
		calls, sent, opened, firstAnswer-to, spike, crowd.answered.Load(), crowd.failures, len(states))
	require.LessOrEqual(t, float64(sent), 1.2*float64(calls)+60)
	require.Positive(t, firstAnswer)
	require.LessOrEqual(t, firstAnswer-to, opened+6*time.Second, "one interval of the breaker, and the call itself")
	require.LessOrEqual(t, spike, limit+1, "no second spike")
}
