// Batch has a thousand prompts answered, as many at a time as the account has room for,
// and shows how far it is and what it has cost.
//
//	go run ./examples/batch
//
// Ctrl-C ends it; what is answered by then stays answered. Without DEEPSEEK_API_KEY it
// talks to a fake DeepSeek with faults, whose account has room for 40 calls; with it,
// it asks only 20 things.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	api := fake.Unless(os.Getenv, fakeAccount, fakePace)
	defer api.Close()
	prompts := make([]string, 1000)
	if api.Server == nil {
		prompts = prompts[:20] // which cost real money
	}
	for i := range prompts {
		prompts[i] = fmt.Sprintf("In one sentence: what is the tide at gauge %d good for?", i+1)
	}
	if err := run(ctx, os.Stdout, prompts, api.Options...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var (
	fakeAccount = deepseektest.WithAccount(deepseektest.Account{
		Name: "fake", Keys: []string{"sk-fake"}, Limits: map[string]int{deepseek.ModelFlash: 40},
	})
	fakePace = deepseektest.WithPace(deepseektest.Pace{FirstToken: 50 * time.Millisecond, Token: 5 * time.Millisecond})
)

// workers is how many prompts are begun at a time. It only has to be more than the
// account has room for, which nobody knows: those beyond that wait in the client.
const workers = 200

// result is what became of one prompt.
type result struct {
	text string
	err  error
}

func run(ctx context.Context, out io.Writer, prompts []string, opts ...deepseek.Option) error {
	client, err := deepseek.New(append(opts,
		// Nobody sits before a batch: it waits for room for longer than the default 10
		// minutes, and out an outage, or an account without money. Calls that find that
		// out may fail; the rest do not.
		deepseek.WithQueue(deepseek.Queue{MaxWait: 24 * time.Hour, Outages: true}),
	)...)
	if err != nil {
		return err
	}
	defer client.Transport().CloseIdleConnections()

	var done atomic.Int64
	progress := func() {
		s := client.Transport().Stats()
		fmt.Fprintf(out, "%4d of %d done, %d waiting for room, %v %s\n", done.Load(), len(prompts), s.Waiting, s.Spend.Amount, s.Currency)
	}
	over := make(chan struct{})
	var all, ticker sync.WaitGroup
	ticker.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				progress()
			case <-over:
				return
			}
		}
	})

	results := make([]result, len(prompts)) // in the order of the prompts
	next := make(chan int)
	for range min(workers, len(prompts)) {
		all.Go(func() {
			for i := range next {
				results[i] = ask(ctx, client, prompts[i])
				done.Add(1)
			}
		})
	}
	for i := range prompts {
		next <- i // after Ctrl-C the rest fails at once, each with its error
	}
	close(next)
	all.Wait()
	close(over)
	ticker.Wait()
	progress()
	return tell(out, results)
}

func ask(ctx context.Context, client *deepseek.Client, prompt string) result {
	answer, err := client.Chat(ctx, &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User(prompt)},
		Thinking: deepseek.ThinkingOff(),
	})
	if err != nil {
		return result{err: err}
	}
	return result{text: answer.Text()}
}

// tell sums up. A real program would write the answers somewhere, each as it comes.
func tell(out io.Writer, results []result) error {
	failed := 0
	var last error
	for _, r := range results {
		if r.err != nil {
			failed, last = failed+1, r.err
		}
	}
	fmt.Fprintf(out, "%d answered, %d failed\n", len(results)-failed, failed)
	if last != nil {
		return fmt.Errorf("%d of %d prompts have no answer; the last error: %w", failed, len(results), last)
	}
	return nil
}
