package conformance

import (
	"encoding/json"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// endTests are about what counts as the end of a stream, and what does not.
func endTests() (tests []test) {
	never := deepseek.WithoutBreaker() // many breaks in a row are wanted here

	// Cuts, at every token there is. With n beyond the last one only the
	// finish_reason is missing.
	for _, c := range []struct {
		name  string
		reply func(n int) deepseektest.Reply
	}{
		{"a clean EOF", deepseektest.CutAfter},
		{"a clean EOF within a line", deepseektest.CutInsideEvent},
		{"a lost connection", deepseektest.DropAfter},
		{"a reset", deepseektest.ResetAfter},
		{"a reset within a line", deepseektest.ResetInsideEvent},
		{"a reset within a character", deepseektest.ResetInsideRune},
		{"a proxy's last words", func(n int) deepseektest.Reply { return deepseektest.JunkAfter(n, "\n502 Bad Gateway\n") }},
		{"a proxy's page", func(n int) deepseektest.Reply {
			return deepseektest.JunkAfter(n, "<html>\n<body>upstream timed out</body>\n</html>\n")
		}},
	} {
		tests = append(tests, test{name: c.name + " is no end", opts: []deepseek.Option{never}, do: func(x *bench) {
			for n := 1; n <= 32; n++ {
				x.srv.Enqueue(c.reply(n))
				res, err := x.stream()
				x.truncated(res, err)
			}
			x.requests(32)
		}})
	}
	for name, reply := range map[string]deepseektest.Reply{
		"a clean EOF": deepseektest.CutInsideToolArguments(), "a reset": deepseektest.ResetInsideToolArguments(),
	} {
		tests = append(tests, test{name: name + " within tool arguments is no end", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Give(tooled).And(reply))
			res, err := x.stream()
			x.cutShort(res, err)
			want := tooled.ToolCalls[0].Arguments
			assert.NotEmpty(x, res.Tools)
			assert.NotEqual(x, want, res.Tools)
			assert.True(x, strings.HasPrefix(want, res.Tools), "arguments: %q", res.Tools)
			assert.False(x, json.Valid([]byte(res.Tools)), "a tool call that could be run: %q", res.Tools)
		}})
	}

	// What the server ends itself.
	for _, reason := range []string{"insufficient_system_resource", "aborted"} {
		for name, reply := range map[string]deepseektest.Reply{
			"after some data":  deepseektest.FinishAfter(5, reason),
			"after the answer": deepseektest.FinishReason(reason),
		} {
			tests = append(tests, test{name: reason + " " + name + " is an error", do: func(x *bench) {
				x.srv.Enqueue(reply)
				res, err := x.stream()
				x.requests(1)
				assert.NotEmpty(x, res.Reasoning, "what had arrived")
				x.cutShort(res, err)
				if !x.door.Remote {
					assert.Contains(x, err.Error(), reason)
				}
			}})
		}
		tests = append(tests, test{name: reason + " before any data is tried again", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Body(200, "text/event-stream", strings.Replace(filmStop, "stop", reason, 1)+filmDone))
			x.whole(x.stream())
			x.requests(2)
		}})
	}
	for _, m := range bothModes {
		for _, reason := range []string{"length", "content_filter", "flux_capacitor"} {
			tests = append(tests, test{name: "finish_reason " + reason + " is the caller's " + m.String(), do: func(x *bench) {
				x.srv.Enqueue(deepseektest.FinishReason(reason))
				res, err := x.call(bg, m, Prompt{})
				require.NoError(x, err)
				assert.Equal(x, reason, res.Finish)
				assert.Equal(x, answer.Content, res.Text)
				assert.True(x, res.Clean)
				x.requests(1)
				x.untouched()
			}})
		}
	}

	tests = append(tests,
		test{name: "an error object after data is an error that tells it", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.ErrorInStream(5, "the tide is out"))
			res, err := x.stream()
			require.Error(x, err)
			assert.Contains(x, err.Error(), "the tide is out")
			assert.NotEmpty(x, res.Reasoning, "what had arrived")
			x.requests(1)
		}},
		test{name: "an error object before data is tried again", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.ErrorInStream(0, "the tide is out"), deepseektest.Queued(3, time.Second).And(deepseektest.ErrorInStream(0, "and still is")))
			x.whole(x.stream())
			x.requests(3)
		}},
		test{name: "an error object after keep-alives keeps its text", opts: []deepseek.Option{deepseek.WithoutRetry()}, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.Repeat(1+x.door.Retries, deepseektest.Queued(3, time.Second).And(deepseektest.ErrorInStream(0, "the tide is out")))...)
			_, err := x.stream()
			require.Error(x, err)
			if !x.door.Remote { // a bad gateway
				assert.Contains(x, err.Error(), "the tide is out")
			}
		}},
		test{name: "finish_reason and EOF without [DONE] is the end", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.NoDone())
			x.whole(x.stream())
			x.requests(1)
			x.untouched()
		}},
		test{name: "[DONE] without finish_reason is the end", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.NoFinish())
			res, err := x.stream()
			require.NoError(x, err)
			assert.Equal(x, answer.Content, res.Text)
			assert.Empty(x, res.Finish, "none is made up")
			assert.True(x, res.Clean)
			x.requests(1)
		}},
	)

	// What comes after the finish_reason takes nothing away from the answer.
	for _, c := range []struct {
		name  string
		after []any
		took  time.Duration
	}{
		{"a reset", []any{errFilmReset}, 0},
		{"a lost connection", []any{io.ErrUnexpectedEOF}, 0},
		{"half an event", []any{`data: {"id":"u","cho`}, 0},
		{"silence", []any{filmForever}, 15 * time.Second},
		{"keep-alives", repeat(100, time.Second, keepAlive), 15 * time.Second},
		{"a late [DONE]", []any{3 * time.Second, filmDone}, 3 * time.Second},
	} {
		var shown atomic.Int64
		tests = append(tests, test{name: c.name + " after the finish_reason", network: film(&shown, append([]any{filmRole, filmHello, filmWorld, filmStop}, c.after...)...), do: func(x *bench) {
			shown.Store(0)
			x.greeted(x.stream())
			assert.LessOrEqual(x, x.elapsed(), c.took+5*time.Second)
			x.settled(&shown)
		}})
	}
	var shown atomic.Int64
	return append(tests, test{name: "usage that comes late", network: film(&shown, filmRole, filmHello, filmWorld, filmStop, 8*time.Second, filmUsage, filmDone), do: func(x *bench) {
		shown.Store(0)
		res, err := x.stream()
		x.greeted(res, err)
		assert.Equal(x, []int{3, 2}, []int{res.Prompt, res.Completed}, "tokens")
		x.settled(&shown)
	}})
}

func repeat(n int, parts ...any) (all []any) {
	for range n {
		all = append(all, parts...)
	}
	return all
}

// cutShort demands the error of an answer that is not whole.
func (x *bench) cutShort(res Result, err error) {
	x.Helper()
	require.Error(x, err)
	assert.False(x, res.Clean, "a clean end")
	assert.ErrorIs(x, err, io.ErrUnexpectedEOF)
	x.is(err, deepseek.ErrTruncated)
	assert.NotErrorIs(x, err, deepseek.ErrStalled)
	if x.door.Do == nil && x.door.URL == "" {
		var cut *deepseek.TruncatedError
		if assert.ErrorAs(x, err, &cut) {
			assert.Equal(x, res.Text, cut.Response.Text(), "the error carries what arrived")
			assert.Equal(x, res.Reasoning, cut.Response.Reasoning())
		}
	}
}

// truncated demands that, and that what arrived is a beginning of the answer.
func (x *bench) truncated(res Result, err error) {
	x.Helper()
	x.cutShort(res, err)
	assert.NotZero(x, res.Pieces)
	assert.Empty(x, res.Finish)
	for _, part := range [][2]string{{answer.Reasoning, res.Reasoning}, {answer.Content, res.Text}} {
		assert.True(x, utf8.ValidString(part[1]) && strings.HasPrefix(part[0], part[1]), "arrived: %q", part[1])
	}
	if res.Text != "" {
		assert.Equal(x, answer.Reasoning, res.Reasoning, "content before the thinking was over")
	}
}
