package otel_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/otel"
)

// inventory is all that was told: of each name the attributes that it had.
type inventory struct {
	metrics, spans, events map[string]map[string]bool
	kinds                  map[string]string // of metrics, such as "histogram, s"
}

func note(to map[string]map[string]bool, name string, attrs []attribute.KeyValue) {
	if to[name] == nil {
		to[name] = map[string]bool{}
	}
	for _, kv := range attrs {
		to[name][string(kv.Key)] = true
	}
}

func (v *inventory) take(s *stand) {
	s.Helper()
	synctest.Wait()
	for _, span := range s.spans.Ended() {
		name := "attempt"
		if span.Name() != name {
			name = "call"
		}
		note(v.spans, name, span.Attributes())
		for _, e := range span.Events() {
			note(v.events, e.Name, e.Attributes)
		}
	}
	var data metricdata.ResourceMetrics
	require.NoError(s, s.reader.Collect(context.Background(), &data))
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			kind := eachPoint(s, m, func(set attribute.Set, _ float64, _ uint64) { note(v.metrics, m.Name, set.ToSlice()) })
			if m.Unit != "" {
				kind += ", " + m.Unit
			}
			v.kinds[m.Name] = kind
		}
	}
}

// everything runs all that there is to be told of.
func everything(t *testing.T) *inventory {
	v := &inventory{map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]string{}}
	client := otel.Options{Client: func(context.Context) string { return "ci" }}
	store := &failingStore{}
	setup{
		telemetry: client,
		server:    []deepseektest.Option{deepseektest.WithPace(deepseektest.Pace{FirstToken: time.Second, Token: 10 * time.Millisecond}), deepseektest.WithCache(deepseektest.Cache{Granularity: 16})},
		transport: []deepseek.Option{
			deepseek.WithCache(deepseek.Cache{}), deepseek.WithStreamResume(), deepseek.WithHedging(deepseek.Hedging{}), deepseek.WithMaxConcurrency(2),
			deepseek.WithBreaker(deepseek.Breaker{InARow: 2, OpenFor: time.Second}), deepseek.WithFallbackModels(map[string][]string{"deepseek-v4-pro": {"deepseek-flash"}}),
			deepseek.WithPrices(deepseek.Prices{Currency: "USD", Models: map[string]deepseek.ModelPrice{"deepseek-flash": deepseek.PricesUSD().Models["deepseek-flash"]}}),
		},
	}.run(t, func(s *stand) {
		var n atomic.Int64
		ask := func(body string) {
			_, _, _ = s.ask(s.Context(), "/chat/completions", strings.Replace(body, "salt?", fmt.Sprint("salt? ", n.Add(1)), 1))
		}
		for _, r := range []deepseektest.Reply{
			{}, deepseektest.Status(422), deepseektest.CutAfter(20), deepseektest.RateLimited(19), deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("1")),
			deepseektest.ServiceUnavailable(),
		} {
			s.srv.Enqueue(r)
			ask(streamed)
			ask(question)
		}
		n.Add(-1)
		ask(question) // once more
		s.srv.Enqueue(deepseektest.CutAfter(20), deepseektest.Status(422))
		ask(streamed) // which is not continued
		for range 4 {
			go ask(streamed)
		}
		time.Sleep(time.Minute)
		s.srv.RevokeKey("sk-harbour-secret")
		ask(question)
		ask(question)
		s.srv.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
			if r.Model == "deepseek-v4-pro" {
				busy := deepseektest.ServiceUnavailable()
				return &busy
			}
			return nil
		})
		ask(strings.Replace(question, "deepseek-flash", "deepseek-v4-pro", 1))
		s.srv.Handle(nil)
		time.Sleep(time.Minute)
		ask(strings.Replace(question, "deepseek-flash", "deepseek-v4-pro", 1)) // of which the price is not known
		_, _, _ = s.ask(s.Context(), "/beta/completions", `{"model":"deepseek-flash","prompt":"def f():"}`)
		v.take(s)
	})
	setup{
		telemetry: client,
		transport: []deepseek.Option{deepseek.WithCache(deepseek.Cache{Store: store})},
	}.run(t, func(s *stand) {
		s.answered("/chat/completions", question)
		v.take(s)
	})
	setup{telemetry: client, server: []deepseektest.Option{deepseektest.WithCache(deepseektest.Cache{Granularity: 16})}}.run(t, func(s *stand) {
		other := deepseektest.NewMemoryServer()
		defer other.Close()
		network := deepseektest.Network(s.srv, other)
		defer network.CloseIdleConnections()
		tel, err := otel.New(otel.Options{TracerProvider: s.traces, MeterProvider: s.meters, Client: client.Client})
		require.NoError(s, err)
		s.tr.CloseIdleConnections()
		s.tr, err = deepseek.NewTransport(tel.Option(), deepseek.WithTransport(network), deepseek.WithBreaker(deepseek.Breaker{InARow: 1}),
			deepseek.WithPrices(deepseek.Prices{Currency: "USD", Models: map[string]deepseek.ModelPrice{"deepseek-flash": deepseek.PricesUSD().Models["deepseek-flash"]}}), deepseek.WithEndpoints(
				deepseek.Endpoint{Name: "first", BaseURL: s.srv.URL, Accounts: twoAccounts},
				deepseek.Endpoint{Name: "second", BaseURL: other.URL, Priority: 1, Accounts: []deepseek.Account{{Name: "there", Keys: []string{"sk-there"}}}},
			))
		require.NoError(s, err)
		s.srv.Enqueue(deepseektest.ServiceUnavailable())
		for range 3 {
			s.answered("/chat/completions", question)
			time.Sleep(time.Minute)
		}
		s.answered("/chat/completions", strings.Replace(question, "deepseek-flash", "deepseek-v4-pro", 1))
		v.take(s)
	})
	return v
}

// failingStore is a store that cannot keep anything.
type failingStore struct{}

func (*failingStore) Get(context.Context, string) ([]byte, error) {
	return nil, context.DeadlineExceeded
}
func (*failingStore) Set(context.Context, string, []byte, time.Duration) error {
	return context.DeadlineExceeded
}

var (
	tableRow = regexp.MustCompile("^\\| `([^`]+)` \\|(.*)\\|$")
	code     = regexp.MustCompile("`([^`]+)`")
)

// rows are the rows of the tables of a chapter of the README: by what is first in
// them, the other cells.
func rows(t *testing.T, chapter string) map[string][]string {
	data, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(data), "\n## "+chapter+"\n")
	require.True(t, ok, chapter)
	text, _, _ = strings.Cut(text, "\n## ")
	all := map[string][]string{}
	for line := range strings.Lines(text) {
		if m := tableRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			require.NotContains(t, all, m[1], "there twice")
			for cell := range strings.SplitSeq(m[2], "|") {
				all[m[1]] = append(all[m[1]], strings.TrimSpace(cell))
			}
		}
	}
	return all
}

// named are the names in a cell.
func named(cell string) (names []string) {
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// The README's tables are what is told: nothing is missing, and nothing is there
// that is not.
func TestReadme(t *testing.T) {
	v := everything(t)
	metrics := rows(t, "Metrics")
	for name, attrs := range v.metrics {
		row := metrics[name]
		require.NotNil(t, row, "the README does not tell of %s (%s) with %v", name, v.kinds[name], slices.Sorted(maps.Keys(attrs)))
		require.Equal(t, row[0], v.kinds[name], name)
		require.Equal(t, slices.Sorted(maps.Keys(attrs)), named(row[2]), name)
	}
	for name := range metrics {
		require.Contains(t, v.metrics, name, "the README tells of it")
	}
	spans := rows(t, "Spans")
	seen := map[string]bool{}
	for name, attrs := range v.spans {
		for attr := range attrs {
			row := spans[attr]
			require.NotNil(t, row, "the README does not tell of %s of a %s", attr, name)
			require.Contains(t, row[0], name, attr)
			seen[attr+" "+name] = true
		}
	}
	for attr, row := range spans {
		for name := range strings.SplitSeq(row[0], ", ") {
			require.True(t, seen[attr+" "+name], "%s of a %s, which the README tells of", attr, name)
		}
	}
	events := rows(t, "Events")
	for name, attrs := range v.events {
		require.NotNil(t, events[name], "the README does not tell of %s with %v", name, slices.Sorted(maps.Keys(attrs)))
		require.Equal(t, slices.Sorted(maps.Keys(attrs)), named(events[name][1]), name)
	}
	for name := range events {
		require.Contains(t, v.events, name, "the README tells of it")
	}
}
