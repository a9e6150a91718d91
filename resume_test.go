package deepseek_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// cutter is a network that breaks responses: of the n-th only cuts[n] bytes come.
type cutter struct {
	base http.RoundTripper
	how  func(ctx context.Context) error // how a body goes on that was cut

	mu   sync.Mutex
	cuts []int // -1: whole
}

func (c *cutter) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || len(c.cuts) == 0 {
		return resp, err
	}
	n := c.cuts[0]
	c.cuts = c.cuts[1:]
	if n >= 0 {
		resp.Body = &cutBody{ReadCloser: resp.Body, left: n, how: func() error { return c.how(req.Context()) }}
	}
	return resp, nil
}

func (c *cutter) cut(at ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cuts = at
}

type cutBody struct {
	io.ReadCloser
	left int
	how  func() error
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.how()
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func cleanly(context.Context) error     { return io.EOF }
func byReset(context.Context) error     { return errors.New("connection reset by peer") }
func byStall(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// told is what a stream's reader learned.
type told struct {
	text, reasoning, finish string
	roles, dones, usages    int
	heads                   map[string]bool // id, created, model and fingerprint, of every chunk
	usage                   map[string]any
	tools                   string
}

// hear reads a stream by the letter.
func hear(t *testing.T, data []byte) told {
	t.Helper()
	h := told{heads: map[string]bool{}}
	for _, event := range strings.SplitAfter(string(data), "\n\n") {
		line, ok := strings.CutPrefix(strings.TrimSuffix(event, "\n\n"), "data: ")
		switch {
		case event == "":
			continue
		case !ok || strings.Contains(line, "\n"):
			t.Fatalf("no event: %q", event)
		case line == "[DONE]":
			h.dones++
			continue
		}
		require.Zero(t, h.dones, "an event after [DONE]")
		var c struct {
			ID, Model   string
			Created     int64
			Fingerprint string `json:"system_fingerprint"`
			Choices     []struct {
				Delta struct {
					Role      string
					Content   string
					Reasoning string                                          `json:"reasoning_content"`
					Tools     []struct{ Function struct{ Arguments string } } `json:"tool_calls"`
				}
				Finish string `json:"finish_reason"`
			}
			Usage map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(line), &c), line)
		h.heads[fmt.Sprint(c.ID, c.Model, c.Created, c.Fingerprint)] = true
		for _, ch := range c.Choices {
			require.Empty(t, h.finish, "a chunk after the finish: %s", line)
			h.text += ch.Delta.Content
			h.reasoning += ch.Delta.Reasoning
			h.finish += ch.Finish
			for _, tool := range ch.Delta.Tools {
				h.tools += tool.Function.Arguments
			}
			if ch.Delta.Role != "" {
				h.roles++
			}
		}
		if c.Usage != nil {
			h.usages++
			h.usage = c.Usage
		}
	}
	return h
}

func chatBody(t *testing.T, url string, members map[string]any) *http.Request {
	t.Helper()
	body := map[string]any{"model": "deepseek-flash", "stream": true, "messages": []any{map[string]any{"role": "user", "content": "Hi"}}}
	for k, v := range members {
		body[k] = v
	}
	data, err := json.Marshal(body)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions", bytes.NewReader(data))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	return req
}

var shortAnswer = deepseektest.Answer{Reasoning: "\"ä\" 想", Content: "世🌊\n\"it\""}

// A stream that is cut anywhere, at any byte of it, in any way, reads as if it
// had not been.
func TestCutStreamReadsAsUncutAtEveryByte(t *testing.T) {
	for name, how := range map[string]func(context.Context) error{"clean end": cleanly, "reset": byReset, "stall": byStall} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := &cutter{how: how}
				srv, typed := resuming(t, nil, deepseek.WithRetry(deepseek.Retry{Budget: -1}), deepseek.WithTransport(net))
				base := srv.Transport()
				defer base.CloseIdleConnections()
				net.base = base
				client := &http.Client{Transport: typed.Transport()}

				get := func() []byte {
					resp, err := client.Do(chatBody(t, srv.URL, nil))
					require.NoError(t, err)
					defer resp.Body.Close()
					data, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					return data
				}
				uncut := get()
				want := hear(t, uncut)
				require.Equal(t, shortAnswer.Content, want.text)
				prompt := int(want.usage["prompt_tokens"].(float64))
				completion := int(want.usage["completion_tokens"].(float64))
				finish := bytes.LastIndex(uncut, []byte("\n\ndata: [DONE]")) // it may end there
				for n := 0; n < len(uncut); n += racedetector.Less(1, 11) {
					net.cut(n)
					got := hear(t, get())
					require.Equal(t, want.text, got.text, "cut at %d", n)
					require.Equal(t, want.reasoning, got.reasoning, "cut at %d", n)
					require.Equal(t, "stop", got.finish, "cut at %d", n)
					require.Equal(t, [2]int{1, 1}, [2]int{got.roles, got.usages}, "cut at %d", n)
					if n < finish-1 {
						require.Equal(t, 1, got.dones, "cut at %d", n)
					}
					require.Len(t, got.heads, 1, "cut at %d", n)
					u, err := json.Marshal(got.usage)
					require.NoError(t, err)
					var usage deepseek.Usage
					require.NoError(t, json.Unmarshal(u, &usage))
					require.Equal(t, completion, usage.CompletionTokens, "cut at %d", n)
					require.Equal(t, usage.PromptTokens+usage.CompletionTokens, usage.TotalTokens)
					require.Equal(t, usage.PromptCacheHitTokens+usage.PromptCacheMissTokens, usage.PromptTokens)
					require.GreaterOrEqual(t, usage.PromptTokens, prompt)
				}
			})
		})
	}
}

// resuming returns a memory server with a short answer, and a client that
// continues what breaks.
func resuming(t *testing.T, server []deepseektest.Option, opts ...deepseek.Option) (*deepseektest.Server, *deepseek.Client) {
	srv := deepseektest.NewMemoryServer(append([]deepseektest.Option{
		deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer { return shortAnswer }),
		deepseektest.WithPace(deepseektest.Pace{TokenSize: 2}),
	}, server...)...)
	base := srv.Transport()
	client, err := deepseek.New(append([]deepseek.Option{deepseek.WithStreamResume(), deepseek.WithAPIKeys("sk-one"),
		deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(base), deepseek.WithoutBreaker()}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		base.CloseIdleConnections()
		srv.Close()
	})
	return srv, client
}

// The typed client's streams go on after any fault at any token.
func TestTypedStreamGoesOn(t *testing.T) {
	for name, fault := range map[string]func(int) deepseektest.Reply{
		"cut":          deepseektest.CutAfter,
		"inside event": deepseektest.CutInsideEvent,
		"inside rune":  deepseektest.ResetInsideRune,
		"stall":        deepseektest.StallAfter,
		"pulse":        func(n int) deepseektest.Reply { return deepseektest.StallKeepAlive(n, time.Second) },
		"lack":         func(n int) deepseektest.Reply { return deepseektest.FinishAfter(n, "insufficient_system_resource") },
		"error":        func(n int) deepseektest.Reply { return deepseektest.ErrorInStream(n, "overloaded") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, client := resuming(t, nil)
				req := ask(deepseek.User("Hi"))
				uncut, err := client.Chat(t.Context(), req)
				require.NoError(t, err)
				tokens := uncut.Usage.CompletionTokens
				for n := 1; n <= tokens; n++ {
					srv.Enqueue(fault(n))
					stream, err := client.ChatStream(t.Context(), req)
					require.NoError(t, err)
					text, reasoning, err := collect(stream)
					require.NoError(t, err, "after %d", n)
					require.Equal(t, shortAnswer.Content, text, "after %d", n)
					require.Equal(t, shortAnswer.Reasoning, reasoning, "after %d", n)
					got := stream.Response()
					require.Equal(t, text, got.Text())
					require.Equal(t, deepseek.FinishStop, got.FinishReason())
					require.Equal(t, tokens, got.Usage.CompletionTokens, "after %d", n)
					require.Len(t, got.Attempts, 2)
					require.True(t, got.Attempts[1].Continues)
					require.Error(t, got.Attempts[0].Broke)
				}
				require.EqualValues(t, tokens, client.Transport().Stats().Resumed)
			})
		})
	}
}

// What cannot be continued is told with what arrived, and with why.
func TestTypedStreamThatCannotGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		server  []deepseektest.Option
		replies []deepseektest.Reply
		why     string
		cause   error
	}{
		"400":         {replies: []deepseektest.Reply{deepseektest.CutAfter(6), deepseektest.ContentRisk()}, why: "Content Exists Risk"},
		"no beta API": {server: []deepseektest.Option{deepseektest.WithoutBeta()}, replies: []deepseektest.Reply{deepseektest.FinishAfter(6, "aborted")}, why: "404 Not Found"},
		"stall":       {replies: []deepseektest.Reply{deepseektest.StallAfter(6), deepseektest.Status(422)}, why: "422", cause: deepseek.ErrStalled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, client := resuming(t, c.server)
				srv.Enqueue(c.replies...)
				stream, err := client.ChatStream(t.Context(), ask(deepseek.User("Hi")))
				require.NoError(t, err)
				text, reasoning, err := collect(stream)
				var cut *deepseek.TruncatedError
				require.ErrorAs(t, err, &cut)
				require.Equal(t, c.cause != nil, cut.Timeout())
				if c.cause != nil {
					require.ErrorIs(t, err, c.cause)
				}
				require.NotErrorIs(t, err, deepseek.ErrInvalidRequest, "that was the continuation's")
				require.ErrorIs(t, cut.Continuation, deepseek.ErrInvalidRequest)
				require.ErrorContains(t, err, c.why)
				require.NotEmpty(t, reasoning)
				require.Equal(t, text, cut.Response.Text())
				require.Equal(t, reasoning, cut.Response.Reasoning())
				require.Zero(t, client.Transport().Stats().Resumed)
			})
		})
	}
}

// A request with tools goes on until a tool call begins, where that is allowed.
func TestStreamWithToolsGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := resuming(t, nil, deepseek.WithResume(deepseek.Resume{Tools: true}))
		call := deepseektest.ToolCall{ID: "call_1", Name: "f", Arguments: `{"a":1}`}
		srv.Enqueue(deepseektest.Give(deepseektest.Answer{Reasoning: "Let me see.", Content: "I shall look.", ToolCalls: []deepseektest.ToolCall{call}}).
			And(deepseektest.CutAfter(8)))
		req := ask(deepseek.User("Hi"))
		req.Tools = []deepseek.Tool{deepseek.FunctionTool("f", "", nil)}
		stream, err := client.ChatStream(t.Context(), req)
		require.NoError(t, err)
		text, _, err := collect(stream)
		require.NoError(t, err)
		require.Equal(t, "I shall look.", text)
		got := stream.Response()
		require.Equal(t, deepseek.FinishToolCalls, got.FinishReason())
		require.Len(t, got.ToolCalls(), 1)
		require.Equal(t, call.Arguments, got.ToolCalls()[0].Function.Arguments)
	})
}

// An answer that is no stream is continued, not paid for twice.
func TestTypedAnswerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := resuming(t, nil)
		for _, reason := range []string{"insufficient_system_resource", "aborted"} {
			for n := range 8 {
				srv.Enqueue(deepseektest.FinishAfter(n, reason))
				got, err := client.Chat(t.Context(), ask(deepseek.User("Hi")))
				require.NoError(t, err)
				require.Equal(t, shortAnswer.Content, got.Text())
				require.Equal(t, shortAnswer.Reasoning, got.Reasoning())
				require.Len(t, got.Attempts, 2)
				require.Equal(t, n > 0, got.Attempts[1].Continues)
			}
		}
	})
}

// Streams that are closed at any moment, by anybody, leave nothing behind.
func TestClosedAtAnyMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := 0
		var cost deepseek.Money
		srv, client := resuming(t, []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{
			TokenSize: 2, Headers: 40 * time.Millisecond, FirstToken: 30 * time.Millisecond, Token: 10 * time.Millisecond})},
			deepseek.WithRetry(deepseek.Retry{MinInterval: 100 * time.Millisecond, Budget: -1}),
			deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) {
				ends++
				cost += e.Cost.Amount
			}}))
		calls := 0
		for after := time.Duration(0); after < 600*time.Millisecond; after += 3 * time.Millisecond {
			srv.Enqueue(deepseektest.ResetAfter(3), deepseektest.CutInsideEvent(2))
			stream, err := client.ChatStream(t.Context(), ask(deepseek.User("Hi")))
			require.NoError(t, err)
			calls++
			closer := time.AfterFunc(after, func() { _ = stream.Close() })
			_, _, err = collect(stream)
			if closer.Stop() {
				require.NoError(t, err)
			}
			synctest.Wait()
			time.Sleep(time.Second)
			require.Zero(t, srv.InFlight("sk-one", deepseek.ModelFlash))
			require.Zero(t, client.Transport().Stats().Accounts[0].Models[0].InFlight)
			require.Equal(t, calls, ends)
			require.Equal(t, client.Transport().Stats().Spend.Amount, cost, "what a call has cost is known at its end")
			for srv.Pending() > 0 {
				r, err := client.Chat(t.Context(), ask(deepseek.User("Hi")))
				require.NoError(t, err, r)
				calls++
			}
		}
	})
}

// Requests of other forms go on as well, at every token.
func TestRequestsOfOtherFormsGoOn(t *testing.T) {
	user := deepseek.User("Hi")
	half := deepseek.AssistantPrefix(shortAnswer.Content[:7])
	thought := deepseek.AssistantPrefix("")
	thought.ReasoningContent = shortAnswer.Reasoning[:4]
	for name, change := range map[string]func(*deepseek.ChatRequest){
		"without thinking":  func(r *deepseek.ChatRequest) { r.Thinking = deepseek.ThinkingOff() },
		"max_tokens":        func(r *deepseek.ChatRequest) { r.MaxTokens = 6 },
		"a prefix":          func(r *deepseek.ChatRequest) { r.Messages = []deepseek.Message{user, half} },
		"a thought":         func(r *deepseek.ChatRequest) { r.Messages = []deepseek.Message{user, thought} },
		"a stop, not to be": func(r *deepseek.ChatRequest) { r.Stop = []string{"END"} },
		"a conversation": func(r *deepseek.ChatRequest) {
			r.Messages = []deepseek.Message{deepseek.System("Be brief."), user, deepseek.Assistant("Hello"), user}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, client := resuming(t, nil)
				req := ask(user)
				change(req)
				uncut, err := client.Chat(t.Context(), req)
				require.NoError(t, err)
				for n := 1; n <= uncut.Usage.CompletionTokens; n++ {
					srv.Enqueue(deepseektest.CutAfter(n))
					stream, err := client.ChatStream(t.Context(), req)
					require.NoError(t, err)
					text, reasoning, err := collect(stream)
					if req.MaxTokens > 0 && n == uncut.Usage.CompletionTokens {
						require.ErrorContains(t, err, "nothing is left of the 6 tokens")
						continue
					}
					require.NoError(t, err, "after %d", n)
					require.Equal(t, uncut.Text(), text, "after %d", n)
					require.Equal(t, uncut.Reasoning(), reasoning, "after %d", n)
					require.Equal(t, uncut.FinishReason(), stream.Response().FinishReason())
					require.Equal(t, uncut.Usage.CompletionTokens, stream.Response().Usage.CompletionTokens)
				}
			})
		})
	}
}

// What the answers before it have taught makes a stall known at once, in a stream
// of which hardly anything has come.
func TestStallIsKnownFromOtherAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, client := resuming(t, []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{TokenSize: 2, Token: 100 * time.Millisecond})})
		took := func() time.Duration {
			start := time.Now()
			stream, err := client.ChatStream(t.Context(), ask(deepseek.User("Hi")))
			require.NoError(t, err)
			text, _, err := collect(stream)
			require.NoError(t, err)
			require.Equal(t, shortAnswer.Content, text)
			return time.Since(start)
		}
		srv.Enqueue(deepseektest.StallAfter(1))
		require.Greater(t, took(), time.Minute, "nothing is known yet")
		for range 8 {
			require.Less(t, took(), time.Second)
		}
		srv.Enqueue(deepseektest.StallAfter(1))
		require.Less(t, took(), 4*time.Second)
	})
}

// When all streams pause at once, longer than they ever did, those that the
// budget pays for go on elsewhere; the others are let be, and none is lost.
func TestPauseOfAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, budget = 200, 20
		srv, client := resuming(t, []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{TokenSize: 2, Token: 100 * time.Millisecond})},
			deepseek.WithBreaker(deepseek.Breaker{}), deepseek.WithRetry(deepseek.Retry{Budget: budget}))
		call := func(reply ...deepseektest.Reply) {
			srv.Enqueue(reply...)
			stream, err := client.ChatStream(t.Context(), ask(deepseek.User("Hi")))
			require.NoError(t, err)
			text, _, err := collect(stream)
			require.NoError(t, err)
			require.Equal(t, shortAnswer.Content, text)
		}
		for range 10 {
			call()
		}
		srv.Enqueue(deepseektest.Repeat(callers, deepseektest.PauseAfter(3, 10*time.Second))...)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() { call() })
		}
		wg.Wait()
		stats := client.Transport().Stats()
		require.LessOrEqual(t, stats.Resumed, int64(3*budget), "those that end in time give back what they cost")
		require.Positive(t, stats.Resumed)
	})
}

// With the response cache above, a continued answer's usage is that of all its
// parts as well, and so is what the cache saves by it.
func TestUsageOfAContinuedAnswerUnderTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []deepseek.CallEndEvent
		observer := deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) { ends = append(ends, e) }})
		for _, cached := range []bool{false, true} {
			opts := []deepseek.Option{observer}
			if cached {
				opts = append(opts, deepseek.WithCache(deepseek.Cache{}))
			}
			srv, client := resuming(t, nil, opts...)
			srv.Enqueue(deepseektest.CutAfter(4))
			calls := 1
			if cached {
				calls = 2 // the second is a hit
			}
			for range calls {
				stream, err := client.ChatStream(t.Context(), ask(deepseek.User("Hi")))
				require.NoError(t, err)
				_, _, err = collect(stream)
				require.NoError(t, err)
			}
			synctest.Wait()
			if cached {
				s := client.Transport().Stats().Cache
				require.EqualValues(t, 1, s.Hits)
				require.EqualValues(t, ends[0].Usage.PromptTokens, s.SavedPromptTokens)
				require.EqualValues(t, ends[0].Usage.CompletionTokens, s.SavedOutputTokens)
			}
		}
		require.Len(t, ends, 3)
		require.Greater(t, ends[0].Usage.PromptTokens, 10)
		require.Equal(t, ends[0].Usage, ends[1].Usage)
	})
}

// An answer that is continued is of one model from its beginning to its end, which is
// the one that its header tells.
func TestContinuedAnswersAreOfOneModel(t *testing.T) {
	down := deepseektest.ServiceUnavailable()
	for _, c := range []struct {
		name    string
		replies []deepseektest.Reply
		models  []string
		breaks  bool
	}{
		{"another model's", []deepseektest.Reply{down, down, deepseektest.CutAfter(20)}, []string{"deepseek-flash", "deepseek-flash", "deepseek-v4-pro", "deepseek-v4-pro"}, false},
		{"another model's, anew", []deepseektest.Reply{down, down, deepseektest.CutAfter(0)}, []string{"deepseek-flash", "deepseek-flash", "deepseek-v4-pro", "deepseek-v4-pro"}, false},
		{"its own, which is down", []deepseektest.Reply{deepseektest.CutAfter(50), down, down}, []string{"deepseek-flash", "deepseek-flash"}, true},
	} {
		for _, stream := range []bool{true, false} {
			if !stream && c.breaks {
				continue
			}
			t.Run(fmt.Sprint(c.name, " ", stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, client, tr := memory(t, nil, deepseek.WithStreamResume(), deepseek.WithRetry(deepseek.Retry{MaxAttempts: 2}),
						deepseek.WithFallbackModels(map[string][]string{"deepseek-flash": {"deepseek-v4-pro"}}))
					replies := slices.Clone(c.replies)
					if !stream {
						replies[len(replies)-1] = deepseektest.FinishAfter(20, "insufficient_system_resource")
					}
					srv.Enqueue(replies...)
					resp, err := client.Post(srv.URL+"/chat/completions", "application/json",
						strings.NewReader(fmt.Sprintf(`{"model":"deepseek-flash","stream":%t,"messages":[{"role":"user","content":"Hi"}]}`, stream)))
					require.NoError(t, err)
					require.Equal(t, http.StatusOK, resp.StatusCode)
					_, err = io.ReadAll(resp.Body)
					require.NoError(t, resp.Body.Close())
					if c.breaks {
						require.ErrorIs(t, err, deepseek.ErrTruncated)
					} else {
						require.NoError(t, err)
						require.Equal(t, "deepseek-v4-pro", resp.Header.Get("Seawall-Fallback"))
					}
					var models []string
					for _, r := range srv.Requests() {
						models = append(models, r.Model)
					}
					require.Equal(t, c.models, models)
					require.Zero(t, tr.Stats().InFlight)
				})
			})
		}
	}
}

// A part's usage is not that of the whole.
func TestUsageOfAContinuedAnswerThatTellsNone(t *testing.T) {
	c, s := newClient(t, deepseek.WithStreamResume())
	s.Enqueue(deepseektest.FinishAfter(5, "insufficient_system_resource"), deepseektest.NoUsage())
	resp, err := c.Chat(t.Context(), ask(deepseek.User("Hi")))
	require.NoError(t, err)
	require.Greater(t, len(resp.Text())+len(resp.Reasoning()), 50)
	require.Nil(t, resp.Usage)
}
