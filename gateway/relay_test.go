package gateway_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// paths are the three shapes that answers come in, asked for as streams.
var paths = []struct{ path, body, event string }{
	{"/chat/completions", streamBody, ""},
	{"/beta/completions", `{"model":"deepseek-flash","prompt":"def f(","stream":true}`, ""},
	{"/responses", `{"model":"deepseek-flash","input":"Hi","stream":true}`, "error"},
	{"/anthropic/v1/messages", `{"model":"deepseek-flash","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"Hi"}]}`, "error"},
}

// lastEvent is the last event of a stream.
func lastEvent(t testing.TB, text string) (event string, data map[string]any) {
	t.Helper()
	require.True(t, strings.HasSuffix(text, "\n\n"), "ends amid an event: %q", text)
	blocks := strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n")
	for l := range strings.Lines(blocks[len(blocks)-1]) {
		name, value, _ := strings.Cut(strings.TrimSpace(l), ": ")
		switch name {
		case "event":
			event = value
		case "data":
			require.NoError(t, json.Unmarshal([]byte(value), &data), value)
		}
	}
	return event, data
}

func requireErrorEvent(t testing.TB, path, text, code string) {
	t.Helper()
	event, data := lastEvent(t, text)
	object, ok := data["error"].(map[string]any)
	require.True(t, ok, "no error in %v", data)
	require.NotEmpty(t, object["message"])
	require.NotContains(t, text, "[DONE]")
	switch path {
	case "/anthropic/v1/messages":
		require.Equal(t, "error", event)
		require.Equal(t, "error", data["type"])
		require.NotEmpty(t, object["type"])
	case "/responses":
		require.Equal(t, "error", event)
		require.Equal(t, "error", data["type"])
		require.Equal(t, code, data["code"])
		require.Equal(t, object["message"], data["message"])
		require.Equal(t, float64(strings.Count(text, "\ndata: ")-1), data["sequence_number"])
	default:
		require.Empty(t, event)
		require.Equal(t, code, object["code"])
		require.NotEmpty(t, object["type"])
	}
}

// A stream that breaks ends with an error event of its shape, and with a broken
// connection.
func TestBrokenStream(t *testing.T) {
	faults := []struct {
		name  string
		reply deepseektest.Reply
		code  string
	}{
		{"clean end", deepseektest.CutAfter(5), "truncated"},
		{"reset", deepseektest.ResetInsideEvent(5), "truncated"},
		{"junk", deepseektest.JunkAfter(5, "\n502 Bad Gateway\n"), "truncated"},
		{"silence", deepseektest.StallAfter(5), "stalled"},
		{"keep-alives only", deepseektest.StallKeepAlive(5, 5*time.Second), "stalled"},
		{"broken off by the server", deepseektest.FinishAfter(5, "insufficient_system_resource"), "truncated"},
	}
	for _, f := range faults {
		for _, p := range paths {
			t.Run(f.name+p.path, func(t *testing.T) {
				setup{}.run(t, func(b *bench) {
					b.srv.Enqueue(f.reply)
					resp := b.post(p.path, p.body)
					text, err := all(resp)
					if err == nil && f.name == "broken off by the server" && p.path != "/chat/completions" && p.path != "/beta/completions" {
						return // told by the format's own terminal event
					}
					require.ErrorIs(b, err, io.ErrUnexpectedEOF)
					require.Equal(b, http.StatusOK, resp.StatusCode)
					requireErrorEvent(b, p.path, text, f.code)
					b.idle()
				})
			})
		}
	}
}

// An error that the server itself tells in a stream is not told twice.
func TestErrorInStream(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.ErrorInStream(5, "oops"))
		text, err := all(b.post("/chat/completions", streamBody))
		require.ErrorIs(b, err, io.ErrUnexpectedEOF)
		require.Equal(b, 1, strings.Count(text, `"error"`), text)
		require.Contains(b, text, "oops")
	})
}

// While a stream waits for its first data, its client gets comments.
func TestKeepAliveOfStreams(t *testing.T) {
	for _, p := range paths {
		t.Run(p.path, func(t *testing.T) {
			setup{}.run(t, func(b *bench) {
				b.srv.Enqueue(deepseektest.Queued(7, 5*time.Second))
				resp := b.post(p.path, p.body)
				require.Equal(b, 10*time.Second, b.elapsed())
				assert.Equal(b, http.StatusOK, resp.StatusCode)
				assert.Equal(b, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
				body := bufio.NewReader(resp.Body)
				for i := range 3 {
					assert.Equal(b, ": keep-alive\n", line(b, body))
					assert.Equal(b, "\n", line(b, body))
					assert.Equal(b, time.Duration(i+1)*10*time.Second, b.elapsed())
				}
				rest, err := io.ReadAll(body)
				require.NoError(b, err)
				require.NoError(b, resp.Body.Close())
				assert.NotContains(b, string(rest), "keep-alive")
				assert.Contains(b, string(rest), `"model"`)
			})
		})
	}
}

// And between two pieces of data, when the server sends nothing by itself.
func TestKeepAliveAmidStream(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.PauseAfter(5, 45*time.Second))
		text := b.whole(b.post("/chat/completions", streamBody))
		// After 10 s there was still data since the timer was set.
		require.Equal(b, 3, strings.Count(text, ": keep-alive\n\n"), text)
		require.Contains(b, text, "data: [DONE]")
	})
	t.Run("comments of the server do", func(t *testing.T) {
		setup{opts: []deepseek.Option{deepseek.WithTimeouts(deepseek.Timeouts{BetweenData: 43 * time.Second})}}.run(t, func(b *bench) {
			b.srv.Enqueue(deepseektest.StallKeepAlive(5, 4*time.Second))
			text, err := all(b.post("/chat/completions", streamBody))
			require.ErrorIs(b, err, io.ErrUnexpectedEOF)
			require.Equal(b, 10, strings.Count(text, ": keep-alive\n"), text)
		})
	})
}

// A client that waits for an answer in one piece gets blank lines, later.
func TestKeepAliveOfWholeAnswers(t *testing.T) {
	for _, p := range paths {
		t.Run(p.path, func(t *testing.T) {
			body := strings.NewReplacer(`"stream":true`, `"stream":false`, `"stream": true`, `"stream": false`).Replace(p.body)
			setup{}.run(t, func(b *bench) {
				b.srv.Enqueue(deepseektest.Queued(13, 5*time.Second))
				resp := b.post(p.path, body)
				require.Equal(b, 45*time.Second, b.elapsed())
				require.Equal(b, "application/json", resp.Header.Get("Content-Type"))
				text := b.whole(resp)
				require.Equal(b, 65*time.Second, b.elapsed())
				require.True(b, strings.HasPrefix(text, "\n\n"), "blank lines after 45 and 55 s: %q", text)
				var answer map[string]any
				require.NoError(b, json.Unmarshal([]byte(text), &answer))
				require.NotEmpty(b, answer["id"])
			})
		})
	}
}

// After a sign of life the status is told; what fails then is told in its place.
func TestFailureAfterKeepAlive(t *testing.T) {
	late := deepseektest.Delayed(50 * time.Second)
	failures := []struct {
		name  string
		reply deepseektest.Reply
		opts  []deepseek.Option
		code  string
		say   string
	}{
		{"error response", late.And(deepseektest.APIError(422, "not like this")), nil, "invalid_request_error", "not like this"},
		{"HTML", late.And(deepseektest.HTML(404)), nil, "upstream_error", "404"},
		{"last response", late.And(deepseektest.APIError(503, "Service is \"too\" busy\n")), []deepseek.Option{deepseek.WithoutRetry()}, "service_unavailable_error", "too"},
		{"network", late.And(deepseektest.ResetBeforeHeaders()), []deepseek.Option{deepseek.WithoutRetry()}, "bad_gateway", "reset"},
		{"queue timeout", deepseektest.QueueTimeout(10, 5*time.Second), []deepseek.Option{deepseek.WithoutRetry()}, "truncated", "queued"},
	}
	for _, f := range failures {
		for _, p := range paths {
			t.Run(f.name+p.path, func(t *testing.T) {
				setup{opts: f.opts}.run(t, func(b *bench) {
					b.srv.Enqueue(f.reply)
					resp := b.post(p.path, p.body)
					require.Equal(b, http.StatusOK, resp.StatusCode)
					text, err := all(resp)
					require.ErrorIs(b, err, io.ErrUnexpectedEOF)
					require.Contains(b, text, f.say)
					_, events, _ := strings.Cut(text, ": keep-alive\n\nd")
					if p.event != "" {
						_, events, _ = strings.Cut(text, ": keep-alive\n\ne")
					}
					require.NotEmpty(b, events)
					event, data := lastEvent(b, text)
					require.Equal(b, p.event, event)
					object, _ := data["error"].(map[string]any)
					require.NotEmpty(b, object["message"], text)
					if p.event == "" {
						require.Equal(b, f.code, object["code"], text)
					}

					b.srv.Enqueue(f.reply)
					resp = b.post(p.path, strings.NewReplacer(`"stream":true`, `"stream":false`, `"stream": true`, `"stream": false`).Replace(p.body))
					require.Equal(b, http.StatusOK, resp.StatusCode)
					text = b.whole(resp)
					data = nil
					require.NoError(b, json.Unmarshal([]byte(text), &data), text)
					require.NotNil(b, data["error"], text)
				})
			})
		}
	}
}

// What the transport refuses is a status while none was sent.
func TestRefusals(t *testing.T) {
	busy := []deepseek.Option{deepseek.WithMaxConcurrency(1), deepseek.WithQueue(deepseek.Queue{MaxLength: -1})}
	for _, p := range paths {
		t.Run(p.path, func(t *testing.T) {
			setup{opts: busy}.run(t, func(b *bench) {
				b.srv.Enqueue(deepseektest.StallAfter(3))
				first := b.post("/chat/completions", streamBody)
				resp := b.post(p.path, p.body)
				require.Equal(b, http.StatusTooManyRequests, resp.StatusCode)
				require.Equal(b, "1", resp.Header.Get("Retry-After"))
				require.Equal(b, "false", resp.Header.Get("X-Should-Retry"))
				var data struct {
					Type  string
					Error struct{ Type, Message, Code string }
				}
				require.NoError(b, json.Unmarshal([]byte(b.whole(resp)), &data))
				require.Equal(b, "rate_limit_error", data.Error.Type)
				require.Contains(b, data.Error.Message, "1 of at most 1 calls in flight")
				if strings.HasPrefix(p.path, "/anthropic") {
					require.Equal(b, "error", data.Type)
				} else {
					require.Equal(b, "queue_full", data.Error.Code)
				}
				require.NoError(b, first.Body.Close())
			})
		})
	}
}

// A call that has waited in vain is told so in the answer that had begun.
func TestRefusalAfterKeepAlive(t *testing.T) {
	setup{opts: []deepseek.Option{deepseek.WithMaxConcurrency(1), deepseek.WithQueue(deepseek.Queue{MaxWait: 55 * time.Second})}}.run(t, func(b *bench) {
		b.srv.Enqueue(deepseektest.StallKeepAlive(3, time.Second))
		first := b.post("/chat/completions", streamBody)
		for _, p := range paths {
			resp := b.post(p.path, p.body)
			text, err := all(resp)
			require.ErrorIs(b, err, io.ErrUnexpectedEOF)
			require.Equal(b, 5, strings.Count(text, ": keep-alive\n\n"))
			_, data := lastEvent(b, text)
			require.Contains(b, data["error"].(map[string]any)["message"], "waited too long after 55")
			b.srv.Enqueue(deepseektest.StallKeepAlive(3, time.Second))
			require.NoError(b, first.Body.Close())
			first = b.post("/chat/completions", streamBody)
		}
		require.NoError(b, first.Body.Close())
	})
}

func TestKeepAliveOff(t *testing.T) {
	setup{settings: gateway.Settings{KeepAlive: gateway.KeepAlive{Every: -1, WholeAfter: -1}}}.run(t, func(b *bench) {
		for _, body := range []string{streamBody, chatBody} {
			b.srv.Enqueue(deepseektest.Delayed(5 * time.Minute).And(deepseektest.Status(400)))
			require.Equal(b, http.StatusBadRequest, b.post("/chat/completions", body).StatusCode)
		}
	})
}

// A body that is not kept in memory is passed on as it comes, and a break in it
// breaks the connection.
func TestUnknownBody(t *testing.T) {
	const size = 1 << 20
	for _, length := range []int64{-1, size} {
		for _, cut := range []bool{false, true} {
			setup{network: func(http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) {
					body := io.LimitReader(letters{}, size)
					if cut {
						body = io.MultiReader(io.LimitReader(letters{}, size/2), failing{})
					}
					resp := &http.Response{
						StatusCode: 200, Header: http.Header{"Content-Type": {"image/png"}}, ContentLength: length,
						Body: io.NopCloser(body), Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
					}
					if length >= 0 {
						resp.Header.Set("Content-Length", strconv.FormatInt(length, 10))
					}
					return resp, nil
				})
			}}.run(t, func(b *bench) {
				resp, err := b.client.Do(b.request(http.MethodGet, "/files/file-api-1/content", ""))
				require.NoError(b, err)
				require.Equal(b, length, resp.ContentLength)
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				if cut {
					require.ErrorIs(b, err, io.ErrUnexpectedEOF)
					require.EqualValues(b, size/2, n)
					return
				}
				require.NoError(b, err)
				require.EqualValues(b, size, n)
			})
		}
	}
}

type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }
