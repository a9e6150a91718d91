package deepseek

import (
	"bytes"
	"context"
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
