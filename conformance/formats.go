package conformance

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// format is one of the forms that DeepSeek streams answers in.
type format struct {
	name, path, body string
	end              string // what its last event has in it
	bare             bool   // complete with a finish_reason alone
}

var formats = []format{
	{"chat", "/chat/completions", chatStreamBody, "data: [DONE]", true},
	{"prefix", "/beta/chat/completions", `{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"The","prefix":true}]}`, "data: [DONE]", true},
	{"FIM", "/beta/completions", `{"model":"deepseek-flash","stream":true,"prompt":"func add("}`, "data: [DONE]", true},
	{"responses", "/responses", `{"model":"deepseek-flash","stream":true,"input":"Hi"}`, `"type":"response.completed"`, true},
	{"anthropic", "/anthropic/v1/messages", `{"model":"deepseek-flash","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}`, `"type":"message_stop"`, false},
}

// formatTests are about the ends of streams in every format; only doors that
// take any request have them.
func formatTests() (tests []test) {
	for _, f := range formats {
		add := func(name string, do func(x *bench), opts ...deepseek.Option) {
			tests = append(tests, test{name: f.name + " " + name, opts: opts, do: func(x *bench) {
				if x.door.Do == nil {
					x.Skip("the door makes its own requests")
				}
				do(x)
			}})
		}
		one := deepseek.WithMaxConcurrency(1)

		add("is whole with its last event", func(x *bench) {
			body := x.read(f.path, f.body)
			events := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
			assert.Contains(x, events[len(events)-1], f.end)
			x.requests(1)
		})
		add("is over with its last event, whatever the connection does", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfterDone())
			assert.Contains(x, x.read(f.path, f.body), f.end)
			assert.LessOrEqual(x, x.elapsed(), 250*time.Millisecond)
			x.idle()
			x.read(f.path, f.body) // its place is free
		}, one)
		add("without its last event", func(x *bench) {
			x.srv.Enqueue(deepseektest.NoDone())
			body, err := x.try(f.path, f.body)
			if f.bare {
				require.NoError(x, err)
				return
			}
			x.brokenOff(err)
			assert.NotContains(x, body, f.end)
		})
		for name, reply := range map[string]func(int) deepseektest.Reply{
			"cut": deepseektest.CutAfter, "cut within a line": deepseektest.CutInsideEvent,
			"reset": deepseektest.ResetAfter, "reset within a line": deepseektest.ResetInsideEvent,
		} {
			add("is an error when "+name, func(x *bench) {
				for n := 1; n <= 16; n++ {
					x.srv.Enqueue(reply(n))
					body, err := x.try(f.path, f.body)
					x.brokenOff(err)
					assert.NotContains(x, body, f.end)
					assert.True(x, strings.HasSuffix(body, "\n\n"), "half an event: %q", body)
				}
				x.requests(16)
			}, deepseek.WithoutBreaker())
		}
		add("is tried again when cut before its first data", func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(0), deepseektest.ResetAfter(0), deepseektest.QueueTimeout(5, time.Second), deepseektest.ErrorInStream(0, "not yet"))
			assert.Contains(x, x.read(f.path, f.body), f.end)
			x.requests(5)
		})
		add("stalls by both clocks", func(x *bench) {
			for _, c := range []struct {
				reply deepseektest.Reply
				clock string
				after time.Duration
			}{
				{deepseektest.StallAfter(5), "silence", time.Minute},
				{deepseektest.StallKeepAlive(5, 10*time.Second), "between data", 2 * time.Minute},
			} {
				x.srv.Enqueue(c.reply)
				start := time.Now()
				_, err := x.try(f.path, f.body)
				x.stalled(err, c.clock, c.after)
				assert.InDelta(x, c.after, time.Since(start), float64(time.Millisecond))
			}
		})
		add("tells an error within it", func(x *bench) {
			x.srv.Enqueue(deepseektest.ErrorInStream(5, "the tide is out"))
			body, err := x.try(f.path, f.body)
			require.Error(x, err)
			assert.Contains(x, body, "the tide is out", "the event is passed on")
			if !x.door.Remote {
				var api *deepseek.APIError
				require.ErrorAs(x, err, &api)
				assert.Equal(x, "the tide is out", api.Message)
			}
		})
		add("may be left", func(x *bench) {
			x.srv.Enqueue(deepseektest.StallAfter(5))
			resp, err := x.door.Do(x.post(f.path, f.body))
			require.NoError(x, err)
			_, err = resp.Body.Read(make([]byte, 10))
			require.NoError(x, err)
			require.NoError(x, resp.Body.Close())
			x.untouched()
			x.read(f.path, f.body)
		}, one)
	}

	for reason, end := range map[string]string{"length": "response.incomplete", "content_filter": "response.incomplete", "aborted": "response.failed"} {
		tests = append(tests, test{name: "responses may end in " + end + " by " + reason, do: func(x *bench) {
			if x.door.Do == nil {
				x.Skip("the door makes its own requests")
			}
			x.srv.Enqueue(deepseektest.FinishAfter(5, reason))
			assert.Contains(x, x.read("/responses", `{"model":"deepseek-flash","stream":true,"input":"Hi"}`), `"type":"`+end+`"`)
			x.requests(1)
		}})
	}
	return tests
}

// try sends a request through the door's Do and returns what came of its
// answer, and how it ended.
func (x *bench) try(path, body string) (string, error) {
	x.Helper()
	resp, err := x.door.Do(x.post(path, body))
	require.NoError(x, err)
	defer resp.Body.Close()
	require.Equal(x, 200, resp.StatusCode)
	data, err := io.ReadAll(resp.Body)
	x.noKeys(err)
	return string(data), err
}

// brokenOff demands the error of a stream that is not whole.
func (x *bench) brokenOff(err error) {
	x.Helper()
	require.Error(x, err)
	assert.ErrorIs(x, err, io.ErrUnexpectedEOF)
	x.is(err, deepseek.ErrTruncated)
	assert.False(x, errors.Is(err, deepseek.ErrStalled))
}
