// Chat is a conversation in a terminal.
//
//	go run ./examples/chat
//
// Ctrl-C stops an answer, Ctrl-D or /quit ends the program, /reset begins anew.
// Without DEEPSEEK_API_KEY it talks to a fake DeepSeek with faults.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func main() {
	api := fake.Unless(os.Getenv)
	defer api.Close()
	if api.Server != nil {
		fmt.Println("No DEEPSEEK_API_KEY: this is a fake DeepSeek inside this process, with its faults switched on.")
	}
	client, err := deepseek.New(api.Options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)

	c := chat{client: client, out: os.Stdout, color: inColor(os.Stdout), interrupts: interrupts}
	c.run(context.Background(), os.Stdin)
}

// chat is one conversation at a time.
type chat struct {
	client     *deepseek.Client
	out        io.Writer
	color      bool
	interrupts <-chan os.Signal

	history []deepseek.Message
}

// run reads lines and answers them until there are no more.
func (c *chat) run(ctx context.Context, in io.Reader) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := read(ctx, in)

	c.print("Ctrl-C stops an answer, Ctrl-D or /quit ends, /reset forgets.\n")
	for {
		c.print("\n%s ", c.paint("1", ">"))
		select {
		case <-c.interrupts:
			c.print("\n%s", c.dim("Nothing to stop. Ctrl-D ends."))
		case line, more := <-lines:
			switch line = strings.TrimSpace(line); {
			case !more || line == "/quit":
				c.print("\n")
				return
			case line == "/reset":
				c.history = nil
				c.print("%s\n", c.dim("forgotten"))
			case line != "":
				c.answer(ctx, line)
			}
		}
	}
}

// answer asks and shows the answer as it is written, until it is whole or
// stopped. What was said stays in the history; a question that got no answer
// does not.
func (c *chat) answer(ctx context.Context, question string) {
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-c.interrupts:
			stop()
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer stop() // first

	messages := append(slices.Clip(c.history), deepseek.User(question))
	stream, err := c.client.ChatStream(ctx, &deepseek.ChatRequest{Messages: messages})
	if err != nil {
		c.failed(ctx, err)
		return
	}
	thinking := false
	for chunk, err := range stream.Chunks() {
		if err != nil {
			c.failed(ctx, err)
			break
		}
		if text := chunk.Reasoning(); text != "" {
			if !thinking {
				thinking = true
				c.print("%s", c.dim("thinks: "))
			}
			c.print("%s", c.dim(text))
		}
		if text := chunk.Text(); text != "" {
			if thinking {
				thinking = false
				c.print("\n\n")
			}
			c.print("%s", text)
		}
	}
	c.print("\n")

	// The message is kept whole, its reasoning included: DeepSeek may want it.
	answer := stream.Response()
	if answer.Text() != "" {
		c.history = append(messages, answer.Message())
	}
	if len(answer.Attempts) > 1 {
		c.print("%s\n", c.dim("("+answer.Attempts.String()+")"))
	}
}

func (c *chat) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		c.print("\n%s", c.dim("[stopped]"))
		return
	}
	c.print("\n%s", c.paint("31", err.Error()))
}

// read sends the lines of in until they end, or the context does.
func read(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(in)
		s.Buffer(nil, 1<<20) // a long paste is one line
		for s.Scan() {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func (c *chat) print(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

func (c *chat) dim(text string) string { return c.paint("2", text) }

func (c *chat) paint(code, text string) string {
	if !c.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// inColor is whether f is a terminal whose user has nothing against colours
// (https://no-color.org).
func inColor(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
