package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// fault is what becomes of some of the demo's requests.
type fault struct {
	share float64
	reply deepseektest.Reply
}

// faults are a bad day at DeepSeek's.
var faults = []fault{
	{0.10, deepseektest.ServiceUnavailable()},
	{0.05, deepseektest.ResetBeforeHeaders()},
	{0.05, deepseektest.DropAfter(0)}, // a 200 that dies before its first data
	{0.05, deepseektest.HTML(502)},
	{0.10, deepseektest.Queued(4, 500*time.Millisecond)}, // keep-alives, then the answer
}

// newFake is a fake DeepSeek with two accounts of small and different limits, one
// of whose keys was revoked.
func newFake() (*deepseektest.Server, deepseek.Option) {
	srv := deepseektest.NewMemoryServer(
		deepseektest.WithAccount(deepseektest.Account{
			Name: "harbour", Keys: []string{"sk-demo-harbour-1", "sk-demo-harbour-2"},
			Limits: map[string]int{deepseek.ModelFlash: 6, deepseek.ModelPro: 3},
		}),
		deepseektest.WithAccount(deepseektest.Account{
			Name: "lighthouse", Keys: []string{"sk-demo-lighthouse"}, Limits: map[string]int{deepseek.ModelFlash: 4, deepseek.ModelPro: 2},
		}),
		deepseektest.WithPace(deepseektest.Pace{Headers: 50 * time.Millisecond, FirstToken: 300 * time.Millisecond, Token: 25 * time.Millisecond, Jitter: 0.3}),
		deepseektest.WithoutRecords(),
	)
	srv.RevokeKey("sk-demo-harbour-2")
	srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
		if r.Method != "POST" {
			return nil
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
		),
	)
}

const demoText = `This is a demo: http://%[1]s leads to a fake DeepSeek inside this process, which
has its faults switched on. Every third request meets one, and gets its answer
all the same. Any key will do. Try, in another terminal:

  curl -N http://%[1]s/chat/completions -d '{"model": "deepseek-flash", "stream": true,
    "messages": [{"role": "user", "content": "Why do sea walls have curved faces?"}]}'

or any program that speaks to OpenAI:

  export OPENAI_BASE_URL=http://%[1]s/v1 OPENAI_API_KEY=any

The log below tells what each request went through. Ctrl-C ends it.

`

// serveDemo serves a fake DeepSeek.
func serveDemo(ctx context.Context, listen string, out, errs io.Writer) error {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("seawall: the demo listens on loopback only, such as 127.0.0.1:8080")
	}
	fake, options := newFake()
	defer fake.Close()
	c := gateway.DefaultConfig()
	c.Listen, c.Log.Format = listen, "text"
	s, err := newServer(c, errs, options)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, demoText, s.tcp.Addr())
	return s.serve(ctx)
}
