package conformance

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// framingTests are about how events are written.
func framingTests() (tests []test) {
	for _, c := range []struct {
		name   string
		f      deepseektest.Framing
		anyone bool // every door understands it
	}{
		{"lines end in LF", deepseektest.Framing{}, true},
		{"lines end in CRLF", deepseektest.Framing{LineEnd: "\r\n"}, true},
		{"lines end in CR", deepseektest.Framing{LineEnd: "\r"}, false},
		{"a byte order mark", deepseektest.Framing{BOM: true}, false},
		{"data of several lines", deepseektest.Framing{SplitData: true}, false},
		{"fragments of a byte", deepseektest.Framing{Fragment: 1}, true},
		{"fragments that end within a CRLF", deepseektest.Framing{LineEnd: "\r\n", Fragment: 1}, true},
		{"all of it", deepseektest.Framing{LineEnd: "\r", BOM: true, SplitData: true, Fragment: 3}, false},
	} {
		tests = append(tests, test{name: "framing: " + c.name, do: func(x *bench) {
			if !c.anyone && !x.door.Framing {
				x.Skip("the door does not understand it")
			}
			for _, queue := range []int{0, 2} {
				x.srv.Enqueue(deepseektest.Framed(c.f).And(deepseektest.Queued(queue, time.Second)))
				res, err := x.stream()
				x.whole(res, err)
				assert.NotZero(x, res.Completed, "usage")
			}
			x.srv.Enqueue(deepseektest.Framed(c.f).And(deepseektest.CutAfter(7)))
			res, err := x.stream()
			x.truncated(res, err)
			x.requests(3)
		}})
	}

	for _, c := range []struct {
		name   string
		reply  deepseektest.Reply
		usage  bool
		pieces int
	}{
		{"usage on the last chunk of content", deepseektest.Normal(), true, 0},
		{"usage on a chunk with empty choices", deepseektest.OpenAIUsageChunk(), true, 0},
		{"no usage", deepseektest.NoUsage(), false, 0},
	} {
		tests = append(tests, test{name: c.name, do: func(x *bench) {
			x.srv.Enqueue(c.reply)
			res, err := x.stream()
			x.whole(res, err)
			var prompt, completed int
			if c.usage {
				prompt, completed = x.posts()[0].Usage.Prompt, x.posts()[0].Usage.Completion
				assert.NotZero(x, prompt)
			}
			assert.Equal(x, prompt, res.Prompt, "prompt tokens")
			assert.Equal(x, completed, res.Completed, "completion tokens")
		}})
	}

	// Keep-alives, which DeepSeek's queue sends and go-openai takes 150 of.
	for _, n := range []int{149, 151, 1000} {
		tests = append(tests, test{name: fmt.Sprint(n, " keep-alives are nothing to anybody"), do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Queued(n, 500*time.Millisecond))
			x.whole(x.stream())
			x.requests(1)
		}})
	}
	var shown atomic.Int64
	busy := append(append([]any{filmRole, filmHello}, repeat(200, time.Second, keepAlive)...), filmWorld)
	busy = append(append(busy, repeat(200, time.Second, keepAlive)...), filmStop, keepAlive, filmDone)
	slow := deepseek.WithTimeouts(deepseek.Timeouts{BetweenData: 10 * time.Minute})
	tests = append(tests,
		test{name: "keep-alives between data are nothing to anybody", network: film(&shown, busy...), opts: []deepseek.Option{slow}, do: func(x *bench) {
			shown.Store(0)
			x.greeted(x.stream())
			x.settled(&shown)
		}},
		test{name: "comments within an event are nothing to anybody", network: film(&shown, ": a\n", strings.Replace(filmRole, "\n\n", "\n: b\n\n", 1), ": c\n"+filmHello,
			":\n:\n\n", filmWorld, filmStop, filmDone), do: func(x *bench) {
			shown.Store(0)
			x.greeted(x.stream())
			x.settled(&shown)
		}},
		test{name: "fields other than data are passed", network: film(&shown, "retry: 3000\n\n", "id: 7\nevent: message\n"+filmRole, filmHello, filmWorld, filmStop, filmDone), do: func(x *bench) {
			shown.Store(0)
			if x.door.Do == nil {
				x.greeted(x.stream())
				return
			}
			assert.Contains(x, x.read("/chat/completions", chatStreamBody), "id: 7\nevent: message\ndata: {")
			x.settled(&shown)
		}},
		test{name: "comments are left out of the bytes", network: film(&shown, keepAlive, filmRole, keepAlive, filmHello, filmWorld, ": x\n"+filmStop, keepAlive, filmDone), do: func(x *bench) {
			if x.door.Do == nil || x.door.Comments {
				x.Skip("the door hides the bytes, or passes comments on")
			}
			assert.Equal(x, filmRole+filmHello+filmWorld+filmStop+filmDone, x.read("/chat/completions", chatStreamBody))
		}},
		test{name: "comments are kept with WithStreamComments", opts: []deepseek.Option{deepseek.WithStreamComments()},
			network: film(&shown, keepAlive, filmRole, keepAlive, filmHello, filmWorld, ": x\n"+filmStop, keepAlive, filmDone), do: func(x *bench) {
				if x.door.Do == nil {
					x.greeted(x.stream()) // a few harm nobody
					return
				}
				// The first came before there was a response to put it in.
				assert.Equal(x, filmRole+keepAlive+filmHello+filmWorld+": x\n"+filmStop+keepAlive+filmDone, x.read("/chat/completions", chatStreamBody))
			}},
	)

	// Size.
	long := func(n int) deepseektest.Reply {
		return deepseektest.Say(strings.Repeat("all work and no play ", n/21+1)[:n]).And(deepseektest.Paced(deepseektest.Pace{TokenSize: n}))
	}
	return append(tests,
		test{name: "an event of 15 MiB", do: func(x *bench) {
			n := racedetector.Less(15<<20, 2<<20)
			x.srv.Enqueue(long(n))
			if x.door.Do != nil { // whose own way to read is slow
				assert.Greater(x, len(x.read("/chat/completions", chatStreamBody)), n)
				return
			}
			res, err := x.stream()
			require.NoError(x, err)
			assert.Len(x, res.Text, n)
			assert.Equal(x, "stop", res.Finish)
		}},
		test{name: "an event beyond 16 MiB is a clear error", do: func(x *bench) {
			if racedetector.On {
				x.Skip("it takes seconds, for one long copy")
			}
			x.srv.Enqueue(long(16 << 20))
			res, err := x.stream()
			x.cutShort(res, err)
			if !x.door.Remote {
				assert.Contains(x, err.Error(), "event too long: more than 16777216 bytes")
			}
			x.requests(1)
		}},
		test{name: "events of 1 KiB to 1 MiB", do: func(x *bench) {
			for n := 1 << 10; n <= 1<<20; n *= 4 {
				x.srv.Enqueue(long(n), long(n).And(deepseektest.Framed(deepseektest.Framing{Fragment: 1000})))
				for range 2 {
					res, err := x.stream()
					require.NoError(x, err)
					assert.Len(x, res.Text, n)
				}
			}
		}},
	)
}

// read sends a request through the door's Do and returns the whole of its
// answer's bytes.
func (x *bench) read(path, body string) string {
	x.Helper()
	resp, err := x.door.Do(x.post(path, body))
	require.NoError(x, err)
	defer resp.Body.Close()
	require.Equal(x, 200, resp.StatusCode)
	data, err := io.ReadAll(resp.Body)
	require.NoError(x, err)
	return string(bytes.Clone(data))
}
