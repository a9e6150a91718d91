package conformance

import (
	"context"
	"strings"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// resumeTests are about answers that go on after they broke.
func resumeTests() (tests []test) {
	on := []deepseek.Option{deepseek.WithStreamResume(), deepseek.WithoutBreaker()}
	faults := []struct {
		name  string
		reply func(n int) deepseektest.Reply
	}{
		{"clean end", deepseektest.CutAfter},
		{"end inside an event", deepseektest.CutInsideEvent},
		{"dropped", deepseektest.DropAfter},
		{"reset", deepseektest.ResetAfter},
		{"reset inside a rune", deepseektest.ResetInsideRune},
		{"stall", deepseektest.StallAfter},
		{"stall behind keep-alives", func(n int) deepseektest.Reply { return deepseektest.StallKeepAlive(n, 5*time.Second) }},
		{"junk", func(n int) deepseektest.Reply { return deepseektest.JunkAfter(n, "upstream timed out\n") }},
		{"error event", func(n int) deepseektest.Reply { return deepseektest.ErrorInStream(n, "overloaded") }},
		{"insufficient_system_resource", func(n int) deepseektest.Reply { return deepseektest.FinishAfter(n, "insufficient_system_resource") }},
		{"aborted", func(n int) deepseektest.Reply { return deepseektest.FinishAfter(n, "aborted") }},
	}
	for _, f := range faults {
		tests = append(tests, test{name: f.name + " at any token", opts: on, do: func(x *bench) {
			uncut, err := x.stream()
			x.whole(uncut, err)
			for n := 1; n <= uncut.Completed; n++ {
				x.srv.Enqueue(f.reply(n))
				res, err := x.stream()
				x.whole(res, err)
				assert.Equal(x, uncut.Completed, res.Completed, "completion tokens, broken after %d", n)
				assert.Greater(x, res.Prompt, uncut.Prompt, "the prompt is paid for twice")
				posts := x.posts()
				rest := posts[len(posts)-1]
				assert.Equal(x, "/beta/chat/completions", rest.Path)
				require.NotNil(x, rest.Prefix)
				assert.True(x, strings.HasPrefix(answer.Content, rest.Prefix.Content))
				x.idle()
			}
			x.requests(1 + 2*uncut.Completed)
		}})
	}
	tests = append(tests,
		test{name: "again and again", opts: on, do: func(x *bench) {
			for range 8 {
				x.srv.Enqueue(deepseektest.CutAfter(2))
			}
			res, err := x.stream()
			x.whole(res, err)
			x.requests(9)
		}},
		test{name: "through an outage", opts: on, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(9), deepseektest.ServiceUnavailable(), deepseektest.CloseBeforeHeaders(),
				deepseektest.RateLimitedPlain(), deepseektest.QueueTimeout(3, time.Second))
			res, err := x.stream()
			x.whole(res, err)
			x.requests(6)
		}},
		test{name: "to another account", opts: on, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(9), deepseektest.InsufficientBalance())
			res, err := x.stream()
			x.whole(res, err)
			posts := x.posts()
			require.Len(x, posts, 3)
			assert.Equal(x, posts[0].Account, posts[1].Account, "its context cache is there")
			assert.NotEqual(x, posts[1].Account, posts[2].Account)
		}},
		test{name: "stall is noticed early", opts: on,
			server: []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{Token: 50 * time.Millisecond})},
			do: func(x *bench) {
				x.srv.Enqueue(deepseektest.StallAfter(24))
				res, err := x.stream()
				x.whole(res, err)
				assert.Less(x, x.elapsed(), 15*time.Second)
			}},
		test{name: "refused by the server", opts: on, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(14), deepseektest.ContentRisk())
			res, err := x.stream()
			x.is(err, deepseek.ErrTruncated)
			assert.Equal(x, answer.Reasoning, res.Reasoning)
			assert.NotEmpty(x, res.Text)
			assert.True(x, strings.HasPrefix(answer.Content, res.Text))
			if !x.door.Remote {
				assert.ErrorContains(x, err, "Content Exists Risk")
			}
			x.requests(2)
		}},
		test{name: "cancelled on the way", opts: on, do: func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(9), deepseektest.Hang())
			ctx, cancel := context.WithCancel(bg)
			time.AfterFunc(5*time.Second, cancel)
			_, err := x.call(ctx, stream, Prompt{})
			assert.ErrorIs(x, err, context.Canceled)
			assert.Equal(x, 5*time.Second, x.elapsed())
			x.requests(2)
			x.idle()
		}},
		test{name: "not asked for", do: func(x *bench) {
			x.srv.Enqueue(deepseektest.CutAfter(9))
			_, err := x.stream()
			x.is(err, deepseek.ErrTruncated)
			x.requests(1)
		}},
		test{name: "length", opts: []deepseek.Option{deepseek.WithResume(deepseek.Resume{Length: true})}, do: func(x *bench) {
			for _, m := range bothModes {
				x.srv.Enqueue(deepseektest.FinishAfter(5, "length"), deepseektest.FinishAfter(14, "length"))
				x.whole(x.call(bg, m, Prompt{}))
			}
			x.requests(6)
		}},
	)
	for _, reason := range []string{"insufficient_system_resource", "aborted"} {
		tests = append(tests, test{name: reason + " without a stream", opts: on, do: func(x *bench) {
			uncut, err := x.chat()
			x.whole(uncut, err)
			for n := 1; n <= uncut.Completed; n++ {
				x.srv.Enqueue(deepseektest.FinishAfter(n, reason))
				res, err := x.chat()
				x.whole(res, err)
				assert.Equal(x, uncut.Completed, res.Completed)
			}
			x.requests(1 + 2*uncut.Completed)
		}})
	}
	return tests
}
