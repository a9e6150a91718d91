package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// stand is a transport that is told of, over a fake DeepSeek.
type stand struct {
	testing.TB
	srv    *deepseektest.Server
	tr     *deepseek.Transport
	spans  *tracetest.SpanRecorder
	traces *sdktrace.TracerProvider
	meters *sdkmetric.MeterProvider
	reader *sdkmetric.ManualReader
}

// setup is what a stand is made with.
type setup struct {
	server    []deepseektest.Option
	transport []deepseek.Option
	telemetry otel.Options
}

var twoAccounts = []deepseek.Account{
	{Name: "harbour", Keys: []string{"sk-harbour-secret"}}, {Name: "lighthouse", Keys: []string{"sk-lighthouse-secret"}},
}

// run runs f in a bubble, whose time begins on a Saturday.
func (s setup) run(t *testing.T, f func(s *stand)) {
	synctest.Test(t, func(t *testing.T) {
		st := s.start(t)
		defer st.end()
		f(st)
	})
}

func (s setup) start(t testing.TB) *stand {
	st := &stand{TB: t, spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	for _, a := range twoAccounts {
		s.server = append(s.server, deepseektest.WithAccount(deepseektest.Account{Name: a.Name, Keys: a.Keys}))
	}
	st.srv = deepseektest.NewMemoryServer(s.server...)
	st.traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(st.spans))
	if s.telemetry.TracerProvider == nil {
		s.telemetry.TracerProvider = st.traces
	}
	st.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(st.reader))
	s.telemetry.MeterProvider = st.meters
	tel, err := otel.New(s.telemetry)
	require.NoError(t, err)
	opts := append([]deepseek.Option{
		deepseek.WithBaseURL(st.srv.URL), deepseek.WithTransport(st.srv.Transport()), deepseek.WithAccounts(twoAccounts...),
		deepseek.WithStrategy(deepseek.RoundRobin{}), tel.Option(),
	}, s.transport...)
	st.tr, err = deepseek.NewTransport(opts...)
	require.NoError(t, err)
	_, err = tel.Watch(st.tr.Stats)
	require.NoError(t, err)
	return st
}

func (s *stand) end() {
	s.tr.CloseIdleConnections()
	s.srv.Close()
}

const question = `{"model":"deepseek-flash","messages":[{"role":"user","content":"Why is the sea salt?"}]}`

var streamed = strings.Replace(question, "{", `{"stream":true,`, 1)

// ask makes a call and reads its answer.
func (s *stand) ask(ctx context.Context, path, body string) (*http.Response, string, error) {
	s.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.srv.URL+path, bytes.NewReader([]byte(body)))
	require.NoError(s, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.tr.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// answered makes a call that must be answered.
func (s *stand) answered(path, body string) string {
	s.Helper()
	resp, text, err := s.ask(s.Context(), path, body)
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, resp.StatusCode, text)
	return text
}

// point is a measurement: of a histogram its sum and count.
type point struct {
	attrs string // such as "error.type=503 seawall.account=main"
	value float64
	count uint64
}

// metrics are all that there is now, by name.
func (s *stand) metrics() map[string][]point {
	s.Helper()
	return collect(s, s.reader)
}

func collect(t testing.TB, reader *sdkmetric.ManualReader) map[string][]point {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &data))
	all := map[string][]point{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			points := all[m.Name]
			eachPoint(t, m, func(set attribute.Set, value float64, count uint64) {
				points = append(points, point{line(set), value, count})
			})
			slices.SortFunc(points, func(a, b point) int { return strings.Compare(a.attrs, b.attrs) })
			all[m.Name] = points
		}
	}
	return all
}

// line is a set without what is the same for all.
func line(set attribute.Set) string {
	var parts []string
	for _, kv := range set.ToSlice() {
		switch kv.Key {
		case "gen_ai.provider.name", "server.address", "server.port":
		default:
			parts = append(parts, string(kv.Key)+"="+kv.Value.String())
		}
	}
	return strings.Join(parts, " ")
}

// of are the points of a metric whose attributes have all of want.
func of(points []point, want ...string) (found []point) {
	for _, p := range points {
		if !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(" "+p.attrs+" ", " "+w+" ") }) {
			found = append(found, p)
		}
	}
	return found
}

// only is the one point of a metric whose attributes have all of want.
func (s *stand) only(points []point, want ...string) point {
	s.Helper()
	found := of(points, want...)
	require.Len(s, found, 1, "%v of %v", want, points)
	return found[0]
}

// span is a finished span, made readable.
type span struct {
	sdktrace.ReadOnlySpan
	attrs    map[string]string
	events   []string // names with attributes
	children []*span
}

// calls are the spans of calls, with those of their attempts, in the order in
// which they began.
func (s *stand) calls() []*span {
	s.Helper()
	synctest.Wait() // a call may end on another goroutine than it is read on
	var all, roots []*span
	byID := map[string]*span{}
	for _, ended := range s.spans.Ended() {
		one := &span{ReadOnlySpan: ended, attrs: map[string]string{}}
		for _, kv := range ended.Attributes() {
			one.attrs[string(kv.Key)] = kv.Value.String()
		}
		for _, e := range ended.Events() {
			parts := []string{e.Name}
			for _, kv := range e.Attributes {
				parts = append(parts, string(kv.Key)+"="+kv.Value.String())
			}
			one.events = append(one.events, strings.Join(parts, " "))
		}
		all = append(all, one)
		byID[ended.SpanContext().SpanID().String()] = one
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].StartTime().Before(all[j].StartTime()) })
	for _, one := range all {
		if parent := byID[one.Parent().SpanID().String()]; parent != nil && one.Name() == "attempt" {
			require.Equal(s, parent.SpanContext().TraceID(), one.SpanContext().TraceID())
			parent.children = append(parent.children, one)
		} else if one.InstrumentationScope().Name != "test" {
			roots = append(roots, one)
		}
	}
	require.Equal(s, len(s.spans.Started()), len(all), "every span is ended")
	return roots
}

func (s *span) took() time.Duration { return s.EndTime().Sub(s.StartTime()) }

func (s *span) String() string {
	b, _ := json.Marshal(s.attrs)
	return fmt.Sprintf("%s %s %s %v", s.Name(), s.took(), b, s.events)
}
