package otel_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/internal/racedetector"
	"github.com/seawall-go/deepseek/otel"
)

// atOnce answers at once, as little as a server can.
type atOnce struct{}

var wholeAnswer = []byte(`{"id":"u","object":"chat.completion","created":1784697182,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there, how can I help you today?"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50}}`)

func (atOnce) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(wholeAnswer)), ContentLength: int64(len(wholeAnswer)), Request: req,
	}, nil
}

// discard is an exporter that costs nothing.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

// doors are transports that are told of in different ways. end ends them.
func doors(t testing.TB) (doors []door, end func()) {
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	all := sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}))
	none := sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}), sdktrace.WithSampler(sdktrace.NeverSample()))
	make := func(name string, o *otel.Options) {
		opts := []deepseek.Option{deepseek.WithAPIKeys("sk-1"), deepseek.WithBaseURL(deepseek.DefaultBaseURL), deepseek.WithTransport(atOnce{})}
		if o != nil {
			o.MeterProvider = meters
			tel, err := otel.New(*o)
			require.NoError(t, err)
			opts = append(opts, tel.Option())
		}
		client, err := deepseek.NewHTTPClient(opts...)
		require.NoError(t, err)
		doors = append(doors, door{name, client})
	}
	make("off", nil)
	make("metrics", &otel.Options{TracerProvider: tracenoop.NewTracerProvider()})
	make("metrics, traces that are not sampled", &otel.Options{TracerProvider: none})
	make("metrics and traces", &otel.Options{TracerProvider: all})
	return doors, func() {
		_ = all.Shutdown(context.Background())
		_ = none.Shutdown(context.Background())
	}
}

type door struct {
	name   string
	client *http.Client
}

func (d door) ask(t testing.TB) {
	req, err := http.NewRequest(http.MethodPost, deepseek.DefaultBaseURL+"/chat/completions", bytes.NewReader([]byte(question)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// What it costs to tell of a call, over a base that answers at once; cpu-ns/op is
// the time of all threads, what exports in the background included.
//
//	go test -run '^$' -bench Overhead ./otel
func BenchmarkOverhead(b *testing.B) {
	all, end := doors(b)
	defer end()
	for _, d := range all {
		b.Run(d.name, func(b *testing.B) {
			b.ReportAllocs()
			began := cpuTime()
			for b.Loop() {
				d.ask(b)
			}
			b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestAllocations: what telling of a call allocates stays what the README says.
func TestAllocations(t *testing.T) {
	all, end := doors(t)
	defer end()
	off := testing.AllocsPerRun(500, func() { all[0].ask(t) })
	for i, most := range []float64{0, 4, 12, 33} {
		on := testing.AllocsPerRun(500, func() { all[i].ask(t) })
		t.Logf("%s: %.0f more allocations than %.0f", all[i].name, on-off, off)
		if !racedetector.On {
			require.LessOrEqual(t, on-off, most, all[i].name)
		}
	}
}
