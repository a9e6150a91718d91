package deepseek

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// longStream is a stream that ends as it should.
func longStream() []byte {
	return append(benchStream(), chunkStop+eventDone...)
}

// streamBase answers every request with the same stream.
func streamBase(stream []byte) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		return eventBase{bytes.NewReader(stream)}.RoundTrip(req)
	})
}

// resuming is a resume layer over a guard over a base.
func resuming(tb testing.TB, r Resume, base http.RoundTripper) http.RoundTripper {
	tb.Helper()
	m, err := NewResume(r)
	require.NoError(tb, err)
	return m(guarded(Timeouts{}, base))
}

// readEvents reads a stream the way the typed client does.
func readEvents(tb testing.TB, rt http.RoundTripper) {
	resp, err := sendStream(context.Background(), rt)
	if err != nil {
		tb.Fatal(err)
	}
	source := resp.Body.(eventSource)
	for {
		if _, err := source.nextEvent(); err == io.EOF {
			_ = resp.Body.Close()
			return
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

// A stream that nothing happens to costs no allocation an event.
func TestResumeCostsNothingAnEvent(t *testing.T) {
	base := streamBase(longStream())
	without := testing.AllocsPerRun(20, func() { readEvents(t, guarded(Timeouts{}, base)) })
	with := testing.AllocsPerRun(20, func() { readEvents(t, resuming(t, Resume{}, base)) })
	t.Logf("1000 events: %.0f allocations, with resume %.0f", without, with)
	require.LessOrEqual(t, with-without, 40.0)
}

// BenchmarkResume is the cost of a streamed event, from the network's bytes to
// the event; an operation is a stream of 1000.
func BenchmarkResume(b *testing.B) {
	base := streamBase(longStream())
	for _, c := range []struct {
		name string
		rt   http.RoundTripper
	}{{"without", guarded(Timeouts{}, base)}, {"with", resuming(b, Resume{}, base)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				readEvents(b, c.rt)
			}
		})
	}
}
