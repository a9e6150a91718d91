package deepseek

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// eventBase answers with a stream of these bytes.
type eventBase struct{ body io.Reader }

func (b eventBase) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}},
		Body: io.NopCloser(b.body), ContentLength: -1, Request: req,
	}, nil
}

func TestGuardHandsOnAStreamWithoutItsComments(t *testing.T) {
	rt := guarded(Timeouts{}, eventBase{strings.NewReader(keepAlive + wholeStream[:len(chunkRole)] + keepAlive + wholeStream[len(chunkRole):])})
	resp, err := sendStream(t.Context(), rt)
	require.NoError(t, err)
	text, err := readBody(resp)
	require.NoError(t, err)
	require.Equal(t, wholeStream, text)
}

func TestGuardNeverEndsACutStreamCleanly(t *testing.T) {
	whole := len(chunkRole + chunkHello + chunkStop)
	for n := range wholeStream {
		resp, err := sendStream(t.Context(), guarded(Timeouts{}, eventBase{strings.NewReader(wholeStream[:n])}))
		text := ""
		if err == nil {
			text, err = readBody(resp)
		}
		if n >= whole-2 { // the finish_reason's event is in
			continue
		}
		require.ErrorIs(t, err, ErrTruncated, "cut after %d bytes", n)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut after %d bytes", n)
		require.True(t, strings.HasPrefix(wholeStream, text) && (text == "" || strings.HasSuffix(text, "\n\n")), "half an event: %q", text)
	}
}

func TestGuardTellsAStallFromACancelledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() { _, _ = w.Write([]byte(chunkRole)) }()
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			go func() { <-req.Context().Done(); _ = w.CloseWithError(req.Context().Err()) }()
			return eventBase{r}.RoundTrip(req)
		})
		resp, err := sendStream(t.Context(), guarded(Timeouts{BetweenData: 5 * time.Second}, base))
		require.NoError(t, err)
		start := time.Now()
		_, err = readBody(resp)
		require.ErrorIs(t, err, ErrStalled)
		require.False(t, isContextError(err))
		require.WithinDuration(t, start.Add(5*time.Second), time.Now(), time.Millisecond)
	})
}

// A streamed event costs the guard no allocation, however it is read.
func TestGuardAllocatesNothingAnEvent(t *testing.T) {
	stream := longStream()
	events := bytes.Count(stream, []byte("\n\n"))
	bytewise := func() {
		resp, err := sendStream(context.Background(), guarded(Timeouts{}, streamBase(stream)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{resp.Body}); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	copied := func() {
		resp, err := sendStream(context.Background(), guarded(Timeouts{}, streamBase(stream)))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(stream)) {
			t.Fatal(n, err)
		}
		_ = resp.Body.Close()
	}
	for name, read := range map[string]func(){
		"bytes": bytewise, "WriteTo": copied, "events": func() { readEvents(t, guarded(Timeouts{}, streamBase(stream))) },
	} {
		all := testing.AllocsPerRun(20, read)
		t.Logf("%s: %.0f allocations for %d events", name, all, events)
		require.Less(t, all, float64(events)/10, name)
	}
}

func FuzzStreamBody(f *testing.F) {
	f.Add([]byte(wholeStream))
	f.Add([]byte(keepAlive + chunkHello))
	f.Add([]byte("data: {\"error\":{\"message\":\"x\"}}\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		resp, err := sendStream(t.Context(), guarded(Timeouts{}, eventBase{strings.NewReader(string(data))}))
		if err != nil {
			return
		}
		text, err := readBody(resp)
		if err == nil && !strings.Contains(text, "[DONE]") && !strings.Contains(text, "finish_reason") && !strings.Contains(text, "type") {
			t.Fatalf("a clean end of %q", data)
		}
	})
}

// What a server says of the key that it got is told without it: the pool's, which
// is put in below the guard, and one that the caller has sent.
func TestKeyThatTheServerRepeats(t *testing.T) {
	said := "the key " + secretKey + " is not to my liking"
	header := []string{"X-Debug: Bearer " + secretKey}
	failure := `{"error":{"message":"` + said + `","type":"t"}}`
	for name, say := range map[string]struct {
		step
		stream bool
	}{
		"400":             {step: reply(400, "application/json", header, failure)},
		"401":             {step: reply(401, "text/plain", header, said)},
		"503":             {step: reply(503, "text/html", header, said)},
		"error in a 200":  {step: reply(200, "application/json", header, failure)},
		"no JSON":         {step: reply(200, "text/html", header, said)},
		"error in stream": {step: streamReply(chunkHello, "data: "+failure+"\n\n"), stream: true},
		"first in stream": {step: streamReply("data: " + failure + "\n\n"), stream: true},
	} {
		for door, rt := range map[string]func(base http.RoundTripper) http.RoundTripper{
			"pool":   func(base http.RoundTripper) http.RoundTripper { return transportOver(t, base, WithoutRetry()) },
			"caller": func(base http.RoundTripper) http.RoundTripper { return guarded(Timeouts{}, base) },
		} {
			t.Run(name+" "+door, func(t *testing.T) {
				req := chatRequest(t.Context(), say.stream)
				if door == "caller" {
					req.Header.Set("Authorization", "Bearer "+secretKey)
				}
				told := ""
				resp, err := rt(scripted(say.step)).RoundTrip(req)
				if err == nil {
					var body string
					body, err = readBody(resp)
					told = fmt.Sprint(body, resp.Header)
				}
				told += fmt.Sprintf("%v %+v", err, err)
				var api *APIError
				if errors.As(err, &api) {
					told += fmt.Sprint(api.Message, api.Header, string(api.Body))
				}
				require.NotContains(t, told, secretKey)
				require.Contains(t, told, "#"+fingerprint(secretKey))
			})
		}
	}
}

// choice is an event of a choice; finish is its finish_reason, raw.
func choice(index int, text, finish string) string {
	return fmt.Sprintf(`data: {"id":"u","choices":[{"index":%d,"delta":{"content":%q},"finish_reason":%s}]}`+"\n\n", index, text, finish)
}

// An answer of several choices is whole when all are: one that has ended says nothing
// of the others.
func TestStreamOfSeveralChoices(t *testing.T) {
	begun := choice(0, "A", "null") + choice(1, "B", "null") + choice(0, "", `"stop"`) + choice(1, "C", "null")
	const one = `{"model":"deepseek-flash","stream":true,"messages":[]}`
	const two = `{"model":"deepseek-flash","stream":true,"n":2,"messages":[]}`
	for name, tt := range map[string]struct {
		body  string
		parts []any
		whole bool
	}{
		"cut":                             {two, []any{begun}, false},
		"reset":                           {two, []any{begun, errReset}, false},
		"stall":                           {two, []any{begun, time.Hour}, false},
		"cut, where nobody asked for two": {one, []any{begun}, false},
		"cut before the second begins":    {two, []any{choice(0, "A", "null"), choice(0, "", `"stop"`)}, false},
		"the second after a long pause":   {two, []any{choice(0, "A", "null"), choice(0, "", `"stop"`), time.Minute, choice(1, "B", "null"), choice(1, "", `"stop"`)}, true},
		"a pause in the second":           {two, []any{begun, time.Minute, choice(1, "", `"stop"`)}, true},
		"one, where two were asked for":   {two, []any{choice(0, "A", "null"), choice(0, "", `"stop"`), eventDone}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(streamReply(tt.parts...))
				resp, err := transportOver(t, base, WithTimeouts(Timeouts{Silence: 2 * time.Minute})).RoundTrip(postTo(t.Context(), "/chat/completions", tt.body))
				require.NoError(t, err)
				text, err := readBody(resp)
				if tt.whole {
					require.NoError(t, err)
					require.Contains(t, text, `"stop"`)
				} else {
					require.Error(t, err)
				}
				base.allClosed(t)
			})
		})
	}
}

// Some hosts write an empty finish_reason where others write null.
func TestEmptyFinishReasonIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for whole, end := range map[bool]string{true: choice(0, "", `"stop"`), false: ""} {
			resp, err := sendStream(t.Context(), guarded(Timeouts{}, scripted(streamReply(choice(0, "A", `""`), 30*time.Second, choice(0, "B", `""`), end))))
			require.NoError(t, err)
			text, err := readBody(resp)
			require.Contains(t, text, `"B"`)
			if whole {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrTruncated)
			}
		}
	})
}

// After the finish_reason there is time for the usage, and not for comments.
func TestEndOfAFinishedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parts := []any{chunkHello, choice(0, "", `"stop"`), 10 * time.Second, chunkUsage}
		for range 100 {
			parts = append(parts, 4*time.Second, keepAlive)
		}
		start := time.Now()
		resp, err := sendStream(t.Context(), guarded(Timeouts{}, scripted(streamReply(parts...))))
		require.NoError(t, err)
		text, err := readBody(resp)
		require.NoError(t, err)
		require.Contains(t, text, "total_tokens")
		require.Equal(t, 10*time.Second+afterFinish, time.Since(start))
	})
}

// A transport of the caller's that breaks the rules of http.RoundTripper breaks
// nothing else.
func TestBaseWithoutBodyOrResponse(t *testing.T) {
	for name, status := range map[string]int{"200": 200, "503": 503} {
		t.Run(name, func(t *testing.T) {
			resp, err := send(t.Context(), transportOver(t, roundTripper(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Header: http.Header{}}, nil
			}), WithoutRetry()))
			if status == 200 {
				require.ErrorIs(t, err, ErrTruncated, "no answer is none")
				return
			}
			require.NoError(t, err)
			require.Equal(t, status, resp.StatusCode)
		})
	}
	_, err := send(t.Context(), transportOver(t, roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil }), WithoutRetry()))
	require.ErrorContains(t, err, "neither a response nor an error")
}

// Content-Encoding: identity is no encoding.
func TestIdentityIsNoEncoding(t *testing.T) {
	base := scripted(reply(200, "text/event-stream", []string{"Content-Encoding: identity"}, chunkHello))
	resp, err := sendStream(t.Context(), guarded(Timeouts{}, base))
	require.NoError(t, err)
	_, err = readBody(resp)
	require.ErrorIs(t, err, ErrTruncated)
}
