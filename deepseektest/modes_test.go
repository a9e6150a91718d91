package deepseektest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The faults that an unreliable DeepSeek shows, one test each.

func TestBlankLinesThenJSON(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Queued(5, 10*time.Second))
		r := post(t, s, c, "/chat/completions", chatRequest())
		require.NoError(t, r.err)
		require.Equal(t, 50*time.Second, r.took)
		require.True(t, strings.HasPrefix(string(r.body), "\n\n\n\n\n{"))
		require.Equal(t, "stop", parseWhole(t, r.body).finish)
	})
}

func TestKeepAlivesThenStream(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Queued(40, 10*time.Second))
		start := time.Now()
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		require.NoError(t, err)
		require.Zero(t, time.Since(start), "a 200 means nothing yet")
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 400*time.Second, time.Since(start))
		a := parseStream(t, body)
		require.Equal(t, 40, a.comments)
		require.True(t, a.done)
	})
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		r := post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Equal(t, time.Minute, r.took)
		require.Equal(t, 3, parseStream(t, r.body).comments)
	}, WithPace(Pace{Queue: time.Minute, KeepAlive: 15 * time.Second}))
}

func TestQueueTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Repeat(2, QueueTimeout(60, 10*time.Second))...)
		r := post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.NoError(t, r.err)
		require.Equal(t, 10*time.Minute, r.took)
		require.Equal(t, strings.Repeat(": keep-alive\n\n", 60), string(r.body))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.NoError(t, r.err)
		require.Equal(t, strings.Repeat("\n", 60), string(r.body))
		require.True(t, s.Requests()[0].Cut)
		require.Zero(t, s.Requests()[0].Usage.Completion)
	})
}

func TestStallMidReasoning(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(StallAfter(3))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)).WithContext(ctx))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		resp.Body.Close()
		a := parseStream(t, body)
		require.Len(t, a.reasoning, 12)
		require.Empty(t, a.content)
		synctest.Wait()
		require.Zero(t, s.InFlight(testKey, ""))
		require.True(t, s.Requests()[0].Left)
		require.Equal(t, 3, s.Requests()[0].Usage.Completion)
	})
}

func TestStallHoldsItsSlot(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(StallAfter(1))
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Equal(t, 1, s.InFlight(testKey, "deepseek-flash"))
		resp.Body.Close()
		synctest.Wait()
		require.Zero(t, s.InFlight(testKey, "deepseek-flash"))
	})
}

func TestStallWhileKeepAlivesContinue(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(StallKeepAlive(2, 5*time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), 61*time.Second)
		defer cancel()
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)).WithContext(ctx))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.Error(t, err)
		resp.Body.Close()
		a := parseStream(t, body)
		require.Equal(t, 12, a.comments)
		require.Len(t, a.reasoning, 8)
	})
}

func TestPauseThenGoOn(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, n := range []int{0, 3, 1 << 20} {
			s.Enqueue(PauseAfter(n, time.Minute))
			r := post(t, s, c, "/chat/completions", chatRequest(streaming))
			require.Equal(t, time.Minute, r.took)
			require.True(t, parseStream(t, r.body).done)
		}
	})
}

func TestCleanEOFWithoutTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, n := range []int{0, 1, 5, 1 << 20} {
			s.Enqueue(CutAfter(n))
			r := post(t, s, c, "/chat/completions", chatRequest(streaming))
			require.NoError(t, r.err)
			a := parseStream(t, r.body)
			require.False(t, a.done)
			require.Empty(t, a.finish)
			require.Nil(t, a.usage)
			if n == 0 {
				require.Empty(t, r.body)
			}
		}
		require.Zero(t, s.InFlight(testKey, ""))
	})
}

func TestResetAndDropMidStream(t *testing.T) {
	for name, newServer := range map[string]func(...Option) *Server{"memory": NewMemoryServer, "socket": NewServer} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			defer s.Close()
			c := &http.Client{Transport: s.Transport()}
			for _, stream := range []bool{true, false} {
				s.Enqueue(ResetAfter(2), DropAfter(2), ResetBeforeHeaders(), CloseBeforeHeaders())
				body := chatRequest(object{"stream": stream})
				r := post(t, s, c, "/chat/completions", body)
				require.ErrorIs(t, r.err, syscall.ECONNRESET)
				if name == "memory" { // some systems drop what a reset overtakes
					require.Equal(t, 200, r.StatusCode)
					require.NotEmpty(t, r.body)
				}
				r = post(t, s, c, "/chat/completions", body)
				require.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
				require.NotEmpty(t, r.body)
				r = post(t, s, c, "/chat/completions", body)
				require.ErrorIs(t, r.err, syscall.ECONNRESET)
				require.Nil(t, r.Response)
				r = post(t, s, c, "/chat/completions", body)
				require.ErrorIs(t, r.err, io.EOF)
			}
			s.Close() // a socket is closed a moment before that is written down
			require.Equal(t, 4, s.Count(0))
			for _, r := range s.Requests() {
				require.True(t, r.Cut)
			}
		})
	}
}

func TestResetOverTLS(t *testing.T) {
	s := NewHandler()
	defer s.Close()
	secure := httptest.NewTLSServer(s)
	defer secure.Close()
	s.URL = secure.URL
	for _, re := range []Reply{ResetBeforeHeaders(), ResetAfter(0), ResetAfter(2), ResetInsideEvent(2)} {
		for _, stream := range []bool{true, false} {
			s.Enqueue(re)
			r := post(t, s, secure.Client(), "/chat/completions", chatRequest(object{"stream": stream}))
			require.ErrorIs(t, r.err, syscall.ECONNRESET)
		}
	}
}

func TestResetInsideToolArgumentsRuneAndEvent(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		call := Give(Answer{Reasoning: "Look.", ToolCalls: []ToolCall{{Name: "look", Arguments: `{"place":"the northern wall"}`}}})
		s.Enqueue(call.And(ResetInsideToolArguments()))
		r := post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.ErrorIs(t, r.err, syscall.ECONNRESET)
		a := parseStream(t, r.body)
		require.NotEmpty(t, a.args)
		require.Less(t, len(a.args), len(`{"place":"the northern wall"}`))
		require.False(t, strings.HasSuffix(string(r.body), "\n\n"), "inside of an event")

		s.Enqueue(call.And(CutInsideToolArguments()))
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.NoError(t, r.err)
		require.False(t, parseStream(t, r.body).done)

		s.Enqueue(Say("The wall: 海堤很稳.").And(ResetInsideRune(1)))
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Error(t, r.err)
		require.False(t, utf8.Valid(r.body))

		s.Enqueue(ResetInsideRune(0))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Error(t, r.err)

		s.Enqueue(ResetInsideEvent(4))
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Error(t, r.err)
		require.Len(t, parseStream(t, r.body).reasoning, 16)
		tail := r.body[strings.LastIndex(string(r.body), "\n\n")+2:]
		require.True(t, strings.HasPrefix(string(tail), `data: {"id"`))
	})
}

func TestFinishReasons(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, reason := range []string{"insufficient_system_resource", "aborted", "content_filter", "length", "flux_capacitor"} {
			for _, stream := range []bool{true, false} {
				s.Enqueue(FinishReason(reason), FinishAfter(3, reason), FinishAfter(0, reason))
				for i, tokens := range []int{0, 3, 0} {
					r := post(t, s, c, "/chat/completions", chatRequest(object{"stream": stream}))
					require.Equal(t, 200, r.StatusCode)
					parse := parseWhole
					if stream {
						parse = parseStream
					}
					a := parse(t, r.body)
					require.Equal(t, reason, a.finish)
					if i > 0 {
						require.Equal(t, tokens, a.usage.Completion)
						require.Empty(t, a.content)
					} else {
						require.NotEmpty(t, a.content)
					}
				}
			}
		}
		s.Enqueue(LengthEmpty())
		a := parseWhole(t, post(t, s, c, "/chat/completions", chatRequest()).body)
		require.Equal(t, "length", a.finish)
		require.Empty(t, a.content)
		require.NotEmpty(t, a.reasoning)
	})
}

func TestBlankJSON(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(BlankJSON())
		a := parseWhole(t, post(t, s, c, "/chat/completions", chatRequest()).body)
		require.Equal(t, "stop", a.finish)
		require.NotEmpty(t, a.content)
		require.Empty(t, strings.Trim(a.content, " "))
	})
}

func TestBurstOfServiceUnavailable(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Repeat(5, ServiceUnavailable().And(WithRetryAfter("2")))...)
		for range 5 {
			r := post(t, s, c, "/chat/completions", chatRequest())
			require.Equal(t, 503, r.StatusCode)
			require.Equal(t, "2", r.Header.Get("Retry-After"))
			require.JSONEq(t, `{"error":{"message":"Service is too busy. We advise users to temporarily switch to alternative LLM API service providers.","type":"service_unavailable_error","param":null,"code":"service_unavailable_error"}}`, string(r.body))
		}
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		require.Equal(t, 5, s.Count(503))
		require.Equal(t, 1, s.Count(200))
	})
}

func TestGatewayHTML(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(HTML(502), Status(504), HTML200())
		for _, code := range []int{502, 504, 200} {
			r := post(t, s, c, "/chat/completions", chatRequest(streaming))
			require.Equal(t, code, r.StatusCode)
			require.Equal(t, "text/html", r.Header.Get("Content-Type"))
			require.Contains(t, string(r.body), "<html>")
			require.NotEmpty(t, r.Header.Get("X-Ds-Trace-Id"))
		}
	})
}

func TestErrorBodiesThatAreNoJSON(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(
			Body(500, "application/octet-stream", `{"error":{"message":"x"}}`),
			Body(500, "text/plain", "upstream"),
			EmptyBody(503),
			EmptyBody200(),
			ErrorObject200("overloaded"),
		)
		r := post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, "application/octet-stream", r.Header.Get("Content-Type"))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, "upstream", string(r.body))
		for _, code := range []int{503, 200} {
			r = post(t, s, c, "/chat/completions", chatRequest())
			require.Equal(t, code, r.StatusCode)
			require.Empty(t, r.body)
			require.Empty(t, r.Header.Get("Content-Type"))
		}
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.Equal(t, 200, r.StatusCode)
		require.Equal(t, "overloaded", r.errorText(t))
	})
}

func TestMissingUsage(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, stream := range []bool{true, false} {
			s.Enqueue(NoUsage())
			r := post(t, s, c, "/chat/completions", chatRequest(object{"stream": stream}))
			require.NotContains(t, string(r.body), `"usage"`)
		}
	})
}

func TestOpenAIUsageChunk(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(OpenAIUsageChunk())
		a := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		last := a.chunks[len(a.chunks)-1]
		require.Empty(t, last.Choices)
		require.NotNil(t, last.Usage)
		require.Nil(t, a.chunks[len(a.chunks)-2].Usage)
		require.Equal(t, "stop", a.finish)
		require.True(t, a.done)
	})
}

func TestErrorInStream(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(ErrorInStream(0, "first"), ErrorInStream(4, "middle"), ErrorInStream(0, "whole"))
		a := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.Equal(t, "first", a.failure)
		require.Len(t, a.chunks, 1)
		a = parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.Equal(t, "middle", a.failure)
		require.Len(t, a.chunks, 6)
		require.False(t, a.done)
		require.Equal(t, "whole", post(t, s, c, "/chat/completions", chatRequest()).errorText(t))
	})
}

func TestTruncatedJSON(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(TruncatedJSON(), CutAfter(0), TruncatedJSON(), JunkAfter(2, "<html>"))
		r := post(t, s, c, "/chat/completions", chatRequest())
		require.NoError(t, r.err)
		require.NotEmpty(t, r.body)
		require.False(t, json.Valid(r.body))
		r = post(t, s, c, "/chat/completions", chatRequest())
		require.NoError(t, r.err)
		require.Empty(t, r.body)
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.NoError(t, r.err)
		require.False(t, strings.HasSuffix(string(r.body), "\n"))
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.NoError(t, r.err)
		require.True(t, strings.HasSuffix(string(r.body), "\n\n<html>"))
	})
}

func TestEndings(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(NoDone(), NoFinish(), StallAfterDone())
		a := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.Equal(t, "stop", a.finish)
		require.False(t, a.done)
		a = parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.Empty(t, a.finish)
		require.True(t, a.done)

		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, s.InFlight(testKey, ""), "done is done")
		time.AfterFunc(time.Hour, func() { resp.Body.Close() })
		start := time.Now()
		_, err = io.ReadAll(resp.Body)
		require.Error(t, err)
		require.Equal(t, time.Hour, time.Since(start))
		synctest.Wait()
		require.False(t, s.Requests()[2].Left, "it had read the end")

		s.Enqueue(StallAfterDone().And(Paced(Pace{FirstToken: time.Minute})))
		resp, err = c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		require.NoError(t, err)
		resp.Body.Close()
		time.Sleep(time.Hour)
		require.True(t, s.Requests()[3].Left)
	})
}

func TestHang(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Hang())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r := send(c, newRequest(t, s, "/chat/completions", chatRequest()).WithContext(ctx))
		require.ErrorIs(t, r.err, context.DeadlineExceeded)
		require.Equal(t, time.Hour, r.took)
		synctest.Wait()
		require.Equal(t, 1, s.Count(0))
		require.True(t, s.Requests()[0].Left)
	})
}

func TestRepliesCompose(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(
			Queued(3, time.Second).And(CutAfter(2), Delayed(time.Minute)),
			Status(500).And(Delayed(time.Minute)),
		)
		r := post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Equal(t, 63*time.Second, r.took)
		a := parseStream(t, r.body)
		require.Equal(t, 3, a.comments)
		require.Len(t, a.chunks, 3)
		r = post(t, s, c, "/chat/completions", chatRequest(streaming))
		require.Equal(t, 500, r.StatusCode)
		require.Equal(t, time.Minute, r.took)
	})
}

func TestEarlyRepliesNeedNoValidRequest(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(ServiceUnavailable(), Say("hello"))
		require.Equal(t, 503, post(t, s, c, "/chat/completions", "not json").StatusCode)
		require.Equal(t, 400, post(t, s, c, "/chat/completions", "not json").StatusCode)
		require.Equal(t, 1, s.Pending(), "a refused request takes no answer")
		require.Equal(t, "hello", parseWhole(t, post(t, s, c, "/chat/completions", chatRequest()).body).content)
	})
}

func TestScriptedHeadersReplaceTheUsual(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		for _, name := range []string{"Content-Type", "Server", "X-Ds-Trace-Id", "Cache-Control", "X-Mine"} {
			with := WithHeader(name, "mine")
			replies := []Reply{Normal(), ServiceUnavailable(), Status(502), RateLimited(3), Body(500, "text/html", "x"), EmptyBody200(), Queued(1, time.Second)}
			for _, re := range replies {
				for _, stream := range []bool{false, true} {
					s.Enqueue(re.And(with))
					r := post(t, s, c, "/chat/completions", chatRequest(object{"stream": stream}))
					require.Equal(t, []string{"mine"}, r.Header.Values(name))
				}
			}
			s.Handle(func(*Request) *Reply { return &with })
			require.Equal(t, "mine", get(t, s, c, "/models").Header.Get(name))
			s.Handle(nil)
			require.NotEqual(t, "mine", get(t, s, c, "/models").Header.Get(name))
		}
	})
}

func TestRepliesThatCannotBePanicAtTheCall(t *testing.T) {
	for _, code := range []int{-1, 0, 99, 100, 103, 199, 1000} {
		want := "deepseektest: a response has a status from 200 to 999, not " + itoa(code)
		require.PanicsWithValue(t, want, func() { Status(code) })
		require.PanicsWithValue(t, want, func() { Body(code, "", "") })
		require.PanicsWithValue(t, want, func() { EmptyBody(code) })
		require.PanicsWithValue(t, want, func() { HTML(code) })
		require.PanicsWithValue(t, want, func() { APIError(code, "") })
	}
	require.PanicsWithValue(t, "deepseektest: FinishAfter wants 0 or more tokens, not -1", func() { FinishAfter(-1, "stop") })
	require.PanicsWithValue(t, "deepseektest: WithModels wants at least one model", func() { WithModels() })
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Status(999), EmptyBody(204))
		require.Equal(t, 999, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		require.Equal(t, 204, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
	})
}

// Requests that come at once are told apart: one reply of the queue is for one of
// them, and what Handle and Timeline say is for the others.
func TestOneReplyForOneOfManyRequests(t *testing.T) {
	// The lock is held for long, so that the others wait for it.
	busy := Account{Keys: []string{testKey}, LimitFor: func(string, float64) int { runtime.Gosched(); return 100 }}
	for range 1500 {
		s := NewHandler(WithAccount(busy), WithoutRecords())
		s.Timeline(Phase{Reply: ServiceUnavailable()})
		s.Enqueue(Normal())
		var ready, done sync.WaitGroup
		ready.Add(8)
		for range 8 {
			r := newRequest(t, s, "/chat/completions", chatRequest())
			done.Go(func() {
				ready.Done()
				ready.Wait()
				s.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		done.Wait()
		require.Equal(t, 1, s.Count(200))
		require.Equal(t, 7, s.Count(503))
		s.Close()
	}
}

func TestFraming(t *testing.T) {
	frames := []Framing{
		{LineEnd: "\r\n"}, {LineEnd: "\r"}, {Fragment: 1}, {BOM: true}, {SplitData: true},
		{LineEnd: "\r\n", Fragment: 3, BOM: true, SplitData: true},
	}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		plain := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		for _, f := range frames {
			s.Enqueue(Framed(f).And(Queued(1, time.Second)))
			r := post(t, s, c, "/chat/completions", chatRequest(streaming))
			if f.LineEnd == "\r" {
				require.NotContains(t, string(r.body), "\n")
			}
			require.Equal(t, f.BOM, strings.HasPrefix(string(r.body), "\ufeff"))
			a := parseStream(t, r.body)
			require.Equal(t, plain.content, a.content)
			require.Equal(t, plain.reasoning, a.reasoning)
			require.Equal(t, 1, a.comments)
			require.True(t, a.done)
		}
	})
}

func TestHandleDecidesPerRequest(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Handle(func(r *Request) *Reply {
			if r.Model == "deepseek-v4-pro" || r.Path == "/user/balance" {
				re := ServiceUnavailable()
				return &re
			}
			return nil
		})
		require.Equal(t, 200, post(t, s, c, "/chat/completions", chatRequest()).StatusCode)
		require.Equal(t, 503, post(t, s, c, "/chat/completions", chatRequest(object{"model": "deepseek-v4-pro"})).StatusCode)
		require.Equal(t, 503, get(t, s, c, "/user/balance").StatusCode)
		require.Equal(t, 200, get(t, s, c, "/models").StatusCode)
	})
}

func TestCloseEndsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryServer()
		c := &http.Client{Transport: s.Transport()}
		s.Enqueue(Hang(), StallAfter(1))
		results := make(chan error, 2)
		for range 2 {
			go func() {
				resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				results <- err
			}()
		}
		synctest.Wait()
		s.Close()
		s.Close()
		require.Error(t, <-results)
		require.Error(t, <-results)
		_, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest()))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	})
}

func TestHandlerInAServerOfOnesOwn(t *testing.T) {
	s := NewHandler()
	defer s.Close()
	_, err := s.Transport().RoundTrip(&http.Request{})
	require.Error(t, err)
	require.False(t, errors.Is(err, io.EOF))
}

func TestOtherReplies(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Unauthorized(), InsufficientBalance(), ContentRisk(), APIError(500, "oops"), Status(529), Status(413))
		for _, want := range []struct {
			code int
			text string
		}{
			{401, "Authentication Fails, Your api key: ****-one is invalid"},
			{402, "Insufficient Balance"},
			{400, "Content Exists Risk"},
			{500, "oops"},
			{529, "status 529"},
			{413, "Request Entity Too Large"},
		} {
			r := post(t, s, c, "/chat/completions", chatRequest())
			require.Equal(t, want.code, r.StatusCode)
			require.Equal(t, want.text, r.errorText(t))
		}
		require.Empty(t, s.Requests())
		require.True(t, strings.HasPrefix(string(post(t, s, c, "/chat/completions", chatRequest(streaming)).body), "\ufeff"))
	}, WithoutRecords(), WithFraming(Framing{BOM: true}))
}

func TestFaultsOfAnEmptyAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		empty := Give(Answer{})
		s.Enqueue(empty.And(CutAfter(3)), empty.And(CutInsideEvent(0)), empty.And(ResetInsideToolArguments()), empty)
		a := parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.Len(t, a.chunks, 1, "the role, but no end")
		for range 2 {
			a = parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
			require.Len(t, a.chunks, 1)
			require.Empty(t, a.finish)
		}
		a = parseStream(t, post(t, s, c, "/chat/completions", chatRequest(streaming)).body)
		require.True(t, a.done)
	})
}

// A client that leaves a stream without delays is noticed all the same.
func TestClientLeavesAFastStream(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		resp, err := c.Do(newRequest(t, s, "/chat/completions", chatRequest(streaming)))
		require.NoError(t, err)
		resp.Body.Close()
		synctest.Wait()
		require.Zero(t, s.InFlight(testKey, ""))
		require.True(t, s.Requests()[0].Left)
		require.Less(t, s.Requests()[0].Usage.Completion, 50000)
	}, WithAnswerLength(0, 50000))
}
