// Quickstart asks DeepSeek a question, prints the answer as it is written, and
// then tells what went wrong on the way and what was done about it.
//
//	go run ./examples/quickstart
//
// It needs no key: without DEEPSEEK_API_KEY it talks to a fake DeepSeek inside
// this process, which has its faults switched on (see fake.go). With a key it
// asks the real one.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Getenv, isTerminal(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const question = "Why do sea walls have curved faces?"

func run(ctx context.Context, out io.Writer, env func(string) string, terminal bool) error {
	p := &page{w: out, color: terminal && env("NO_COLOR") == ""}
	log := &logbook{page: p}
	opts := []deepseek.Option{deepseek.WithObserver(log.observer())}

	var fake *story
	if env("DEEPSEEK_API_KEY") == "" && env("DEEPSEEK_API_KEYS") == "" {
		fake = startStory()
		defer fake.server.Close()
		opts = append(opts, fake.options()...)
		p.print("No DEEPSEEK_API_KEY: this is a fake DeepSeek inside this process, with its faults switched on.\n")
	}
	client, err := deepseek.New(opts...)
	if err != nil {
		return err
	}
	defer client.Transport().CloseIdleConnections()

	p.title("A question")
	log.begin()
	err = ask(ctx, client, p)
	p.title("What happened meanwhile")
	log.timeline()
	if err != nil {
		return err
	}

	if fake != nil {
		fake.calm()
		p.title(fmt.Sprintf("%d questions at once, to an account that has room for %d", crowd, room))
		log.begin()
		if err := rush(ctx, client); err != nil {
			return err
		}
		log.sum()
	}

	p.title("The transport now")
	tellStats(p, client.Transport().Stats())
	return nil
}

// ask has one question answered, as any program would.
func ask(ctx context.Context, client *deepseek.Client, p *page) error {
	p.print("  %s\n\n  ", p.dim(question))
	stream, err := client.ChatStream(ctx, &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User(question)},
		Thinking: deepseek.ThinkingOff(),
	})
	if err != nil {
		p.print("%s\n", p.red("there is none"))
		return err
	}
	column := 0
	for chunk, err := range stream.Chunks() {
		if err != nil {
			p.print("\n  %s\n", p.red("it breaks off here"))
			return err
		}
		column = p.wrap(chunk.Text(), column)
	}
	p.print("\n")
	return nil
}

// rush has many questions answered at once.
func rush(ctx context.Context, client *deepseek.Client) error {
	var all sync.WaitGroup
	errs := make([]error, crowd)
	for i := range crowd {
		all.Go(func() {
			_, errs[i] = client.Chat(ctx, &deepseek.ChatRequest{
				Messages: []deepseek.Message{deepseek.User(fmt.Sprintf("How high is the tide at gauge %d?", i+1))},
				Thinking: deepseek.ThinkingOff(),
			})
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// isTerminal tells a terminal from a file or pipe, well enough for colours.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// seconds is a time as people read it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }
