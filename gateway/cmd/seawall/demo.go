package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/loopback"
)

// fault is what becomes of some of the demo's requests.
type fault struct {
	share float64
	reply deepseektest.Reply
}

// faults are a bad day at DeepSeek's, though not so bad that by chance half of 20
// calls fail, which would open the breaker.
var faults = []fault{
	{0.06, deepseektest.ServiceUnavailable()},
	{0.04, deepseektest.ResetBeforeHeaders()},
	{0.03, deepseektest.DropAfter(0)}, // a 200 that dies before its first data
	{0.03, deepseektest.HTML(502)},
	{0.10, deepseektest.Queued(4, 500*time.Millisecond)}, // keep-alives, then the answer
}

// At the fake, deepseek-v4-pro is down for a while in each such period, and one account
// has money in every other.
const (
	downEvery = 90 * time.Second
	downFrom  = 45 * time.Second
	downUntil = 60 * time.Second
	topUp     = 3 * time.Minute
)

// newFake is a fake DeepSeek with accounts of small and different limits. A key of
// the first was revoked, and the last runs out of money now and then.
func newFake() (*deepseektest.Server, deepseek.Option) {
	srv := deepseektest.NewMemoryServer(
		deepseektest.WithAccount(deepseektest.Account{
			Name: "harbour", Keys: []string{"sk-demo-harbour-1", "sk-demo-harbour-2"},
			Limits: map[string]int{deepseek.ModelFlash: 6, deepseek.ModelPro: 3},
		}),
		deepseektest.WithAccount(deepseektest.Account{
			Name: "lighthouse", Keys: []string{"sk-demo-lighthouse"}, Limits: map[string]int{deepseek.ModelFlash: 4, deepseek.ModelPro: 2},
		}),
		deepseektest.WithAccount(deepseektest.Account{
			Name: "breakwater", Keys: []string{"sk-demo-breakwater"}, Limits: map[string]int{deepseek.ModelFlash: 2, deepseek.ModelPro: 1}, Balance: -1,
		}),
		deepseektest.WithPace(deepseektest.Pace{Headers: 50 * time.Millisecond, FirstToken: 300 * time.Millisecond, Token: 25 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithoutRecords(),
	)
	srv.RevokeKey("sk-demo-harbour-2")
	start := time.Now()
	var rich atomic.Bool
	srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
		if r.Method != "POST" {
			return nil
		}
		since := time.Since(start)
		if has := since/topUp%2 == 1; rich.Swap(has) != has {
			srv.SetBalance("breakwater", map[bool]float64{true: 10, false: -1}[has])
		}
		if at := since % downEvery; r.Model == deepseek.ModelPro && at >= downFrom && at < downUntil {
			down := deepseektest.ServiceUnavailable()
			return &down
		}
		dice := rand.Float64()
		for _, f := range faults {
			if dice -= f.share; dice < 0 {
				return &f.reply
			}
		}
		return nil
	})
	return srv, deepseek.WithOptions(
		deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(srv.Transport()),
		deepseek.WithAccounts(
			deepseek.Account{Name: "harbour", Keys: []string{"sk-demo-harbour-1", "sk-demo-harbour-2"}},
			deepseek.Account{Name: "lighthouse", Keys: []string{"sk-demo-lighthouse"}},
			deepseek.Account{Name: "breakwater", Keys: []string{"sk-demo-breakwater"}},
		),
	)
}

const demoText = `This is a demo: http://%[1]s leads to a fake DeepSeek inside this process, which
has its faults switched on. Every fourth request meets one, and gets its answer
all the same. Any key will do. Try, in another terminal:

  curl -N http://%[1]s/chat/completions -d '{"model": "deepseek-flash", "stream": true,
    "messages": [{"role": "user", "content": "Why do sea walls have curved faces?"}]}'

or any program that speaks to OpenAI:

  export OPENAI_BASE_URL=http://%[1]s/v1 OPENAI_API_KEY=any

What happens is shown live on the status page: %[2]s
%[3]s
The log below tells what each request went through. Ctrl-C ends it.

`

// What is told of the demo's own traffic, and of there being none.
const (
	demoTraffic = "It has traffic to look at that the demo makes itself; --quiet switches that off.\n"
	demoNote    = "This is a demo: a fake DeepSeek inside the gateway's own process, with its faults switched on. " +
		"Once in a while deepseek-v4-pro is down, and an account runs out of money. "
	demoNoteTraffic = "The traffic is the demo's own, beside what you send; --quiet switches it off."
)

// serveDemo serves a fake DeepSeek, with some traffic unless it is to be quiet.
func serveDemo(ctx context.Context, listen string, quiet bool, out, errs io.Writer) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || !loopback.IsHost(host) {
		return errors.New("seawall: the demo listens on loopback only, such as 127.0.0.1:8080")
	}
	fake, options := newFake()
	defer fake.Close()
	c := gateway.DefaultConfig()
	c.Listen, c.Log.Format = listen, "text"
	c.Status.Listen = net.JoinHostPort(host, next(port))
	x := special{note: demoNote, options: []deepseek.Option{options}}
	told := ""
	if !quiet {
		x.note += demoNoteTraffic
		x.log = func(h slog.Handler) slog.Handler { return othersOnly{h} }
		told = demoTraffic
	}
	s, err := newServer(c, errs, x)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, demoText, s.tcp.Addr(), s.status.url(false), told)
	if !quiet {
		var done sync.WaitGroup
		defer done.Wait()
		done.Go(func() { traffic(ctx, s.gateway) })
	}
	return s.serve(ctx)
}

// next is the port after one; any, if it is any.
func next(port string) string {
	n, err := strconv.Atoi(port)
	if err != nil || n == 0 || n == 65535 {
		return "0"
	}
	return strconv.Itoa(n + 1)
}
