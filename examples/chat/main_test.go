package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

// desk is a chat with somebody at the keyboard.
type desk struct {
	t         *testing.T
	server    *deepseektest.Server
	keyboard  *io.PipeWriter
	interrupt chan os.Signal
	ended     chan struct{}

	mu     sync.Mutex
	screen strings.Builder
}

func (d *desk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.screen.Write(p)
}

// shown returns what was printed since the last time.
func (d *desk) shown() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := d.screen.String()
	d.screen.Reset()
	return text
}

// types a line and returns what is on the screen after a while.
func (d *desk) types(line string, after time.Duration) string {
	_, err := io.WriteString(d.keyboard, line+"\n")
	require.NoError(d.t, err)
	time.Sleep(after) // of the bubble's clock
	synctest.Wait()
	return d.shown()
}

// sit starts a chat in a bubble and has f work at it; the input ends with f.
func sit(t *testing.T, color bool, f func(d *desk)) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.Unless(func(string) string { return "" }, deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Reasoning: "Hmm.", Content: fmt.Sprintf("Answer to %s, after %d messages.", r.LastUser(), len(r.Messages))}
		}))
		defer api.Close()
		client, err := deepseek.New(api.Options...)
		require.NoError(t, err)

		in, keyboard := io.Pipe()
		d := &desk{t: t, server: api.Server, keyboard: keyboard, interrupt: make(chan os.Signal, 1), ended: make(chan struct{})}
		c := chat{client: client, out: d, color: color, interrupts: d.interrupt}
		go func() {
			defer close(d.ended)
			c.run(t.Context(), in)
			in.Close()
		}()
		synctest.Wait()
		require.Contains(t, d.shown(), "Ctrl-C stops an answer")
		f(d)
		keyboard.Close() // Ctrl-D
		<-d.ended
	})
}

const awhile = 30 * time.Second

func TestConversation(t *testing.T) {
	sit(t, false, func(d *desk) {
		first := d.types("one", awhile)
		require.Contains(t, first, "thinks: Hmm.\n\nAnswer to one, after 1 messages.\n(3 attempts: ")
		second := d.types("two", awhile)
		require.Equal(t, "thinks: Hmm.\n\nAnswer to two, after 3 messages.\n\n> ", second)

		requests := d.server.Requests()
		history := requests[len(requests)-1].Messages
		require.Equal(t, "Answer to one, after 1 messages.", history[1].Content)
		require.Equal(t, "Hmm.", history[1].ReasoningContent, "replayed whole")

		require.Contains(t, d.types("/reset", 0), "forgotten")
		require.Contains(t, d.types("three", awhile), "after 1 messages.")
		require.Equal(t, "\n> ", d.types("  ", 0), "nothing is sent for a blank line")
	})
}

func TestInterrupt(t *testing.T) {
	sit(t, false, func(d *desk) {
		d.types("warm up", awhile)
		d.types("/reset", 0)

		begun := d.types("one", 350*time.Millisecond)
		require.Contains(t, begun, "Answer", "it is being written")
		require.NotContains(t, begun, "messages.")
		d.interrupt <- os.Interrupt
		synctest.Wait()
		require.Contains(t, d.shown(), "[stopped]\n\n> ", "the answer stops, the program does not")
		requests := d.server.Requests()
		require.True(t, requests[len(requests)-1].Left, "nobody pays for the rest")

		require.Contains(t, d.types("two", awhile), "after 3 messages.", "what was said stays")

		d.interrupt <- os.Interrupt
		synctest.Wait()
		require.Contains(t, d.shown(), "Nothing to stop.")
	})
}

// A question that is stopped before its answer begins leaves no trace.
func TestInterruptBeforeAnswer(t *testing.T) {
	sit(t, false, func(d *desk) {
		d.server.Handle(func(*deepseektest.Request) *deepseektest.Reply { re := deepseektest.Hang(); return &re })
		d.types("one", 10*time.Second)
		d.interrupt <- os.Interrupt
		synctest.Wait()
		require.Contains(t, d.shown(), "[stopped]")
		d.server.Handle(func(*deepseektest.Request) *deepseektest.Reply { return nil })
		require.Contains(t, d.types("two", awhile), "after 1 messages.")
	})
}

func TestFailedAnswer(t *testing.T) {
	sit(t, true, func(d *desk) {
		d.types("one", awhile)
		d.server.Enqueue(deepseektest.CutAfter(4))
		require.Contains(t, d.types("two", awhile), "\x1b[31mdeepseek: answer truncated")
		d.server.Enqueue(deepseektest.ContentRisk())
		require.Contains(t, d.types("three", awhile), "Content Exists Risk")
		require.Contains(t, d.types("four", awhile), "\x1b[2mthinks: \x1b[0m\x1b[2mHmm.\x1b[0m\n\nAnswer to four", "and it goes on")
	})
}

func TestQuit(t *testing.T) {
	sit(t, false, func(d *desk) {
		_, err := io.WriteString(d.keyboard, "/quit\n")
		require.NoError(t, err)
		<-d.ended
	})
}
