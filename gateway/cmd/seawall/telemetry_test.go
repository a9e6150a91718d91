package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// within serves a configuration in this process, with more options for the
// transport, until the test ends.
func within(t *testing.T, config string, more ...deepseek.Option) (s *server, url string, stop func()) {
	t.Helper()
	t.Setenv("DEEPSEEK_API_KEY", upstreamKey)
	file := filepath.Join(t.TempDir(), "seawall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	c, err := gateway.ReadConfig(file)
	require.NoError(t, err)
	s, err = newServer(c, io.Discard, special{options: more})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return s, "http://" + s.tcp.Addr().String(), stop
}

// scrape reads metrics: by name, the labels that its series have.
func scrape(t testing.TB, c *http.Client, url string) map[string]map[string]bool {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	text := whole(t, resp)
	require.Equal(t, http.StatusOK, resp.StatusCode, text)
	require.NotContains(t, text, upstreamKey)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(t, err)
	found := map[string]map[string]bool{}
	for name, f := range families {
		labels := map[string]bool{}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				labels[l.GetName()] = true
			}
		}
		if f.GetType().String() == "SUMMARY" {
			labels["quantile"] = true
		}
		found[name] = labels
		if f.GetType().String() == "HISTOGRAM" {
			with := maps.Clone(labels)
			with["le"] = true
			found[name+"_bucket"], found[name+"_count"], found[name+"_sum"] = with, labels, labels
		}
	}
	return found
}

// Each metric and label that the dashboard asks for is really there, once there
// were calls and faults.
func TestDashboard(t *testing.T) {
	srv := fake(t)
	key := gateway.NewKey()
	s, url, _ := within(t, fmt.Sprintf(`
listen: 127.0.0.1:0
base_url: %s
clients: [{name: ci, keys: %s, budget_per_month: 5, requests_per_minute: 400}]
state: spent.json
retry: {min_interval: 1ms, max_interval: 5ms}
breaker: {in_a_row: 3, open_for: 50ms}
max_concurrency: 2
telemetry: {metrics: {listen: 127.0.0.1:0}}
`, srv.URL, gateway.HashKey(key)), deepseek.WithCache(deepseek.Cache{}), deepseek.WithStreamResume(), deepseek.WithHedging(deepseek.Hedging{}))
	c := client(t)
	n := 0
	ask := func(body string) int {
		n++
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions", strings.NewReader(strings.Replace(body, `"Hi"`, fmt.Sprintf(`"Hi %d"`, n), 1)))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := c.Do(req)
		require.NoError(t, err)
		_, _ = all(resp)
		return resp.StatusCode
	}
	for _, reply := range []deepseektest.Reply{
		{}, deepseektest.ServiceUnavailable(), deepseektest.RateLimitedPlain().And(deepseektest.WithRetryAfter("1")), deepseektest.CutAfter(20),
		deepseektest.Status(422), deepseektest.ResetBeforeHeaders(),
	} {
		srv.Enqueue(reply)
		ask(streamBody)
		ask(chatBody)
	}
	n--
	ask(chatBody) // the last question again
	srv.Enqueue(deepseektest.Repeat(3, deepseektest.ServiceUnavailable())...)
	ask(chatBody)
	eventually(t, "the circuit is closed again", func() bool { return ask(chatBody) == http.StatusOK })
	for _, end := range []string{"one", "two", "three"} { // most of the last one is in the context cache
		ask(strings.Replace(chatBody, `"Hi"`, `"`+strings.Repeat("Why is the sea salt? ", 300)+end+`"`, 1))
	}
	var full sync.WaitGroup
	srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
		slow := deepseektest.Delayed(50 * time.Millisecond)
		return &slow
	})
	for range 4 {
		body := strings.Replace(chatBody, `"Hi"`, fmt.Sprintf(`"Hello %d"`, n), 1)
		full.Go(func() {
			req, _ := http.NewRequest(http.MethodPost, url+"/chat/completions", strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+key)
			if resp, err := c.Do(req); err == nil {
				_, _ = all(resp)
			}
		})
		n++
	}
	full.Wait()
	srv.Handle(nil)
	for range 400 { // beyond what it may
		ask(chatBody)
	}
	there := scrape(t, c, "http://"+s.exports.tcp.Addr().String()+"/metrics")

	data, err := os.ReadFile("../../deploy/grafana-dashboard.json")
	require.NoError(t, err)
	var dashboard struct {
		UID        string
		Panels     []panel
		Templating struct {
			List []struct{ Query any }
		}
	}
	require.NoError(t, json.Unmarshal(data, &dashboard))
	require.Equal(t, "seawall", dashboard.UID)
	ids, asked := map[int]bool{}, map[string]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, target := range p.Targets {
			for _, name := range target.check(t, p.Title, there) {
				asked[name] = true
			}
		}
	}
	require.Greater(t, len(asked), 30)
	// And nothing of ours is forgotten but what is told.
	for name := range there {
		if base, ours := strings.CutPrefix(name, "seawall_"); ours && !strings.HasSuffix(name, "_bucket") && !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") {
			known := asked[name] || asked[name+"_bucket"] || slices.Contains([]string{
				"resumed_total", "cache_entries", "cache_size_bytes", "client_spent", "account_unpriced_total",
			}, base)
			require.True(t, known, "the dashboard does not show %s", name)
		}
	}
}

type panel struct {
	ID          int
	Type, Title string
	Targets     []target
}

type target struct{ Expr, LegendFormat string }

var (
	metricName = regexp.MustCompile(`\b((?:seawall|gen_ai|http|process|go)_[a-z_]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)(?:=~|!=|=)"`)
	matchers   = regexp.MustCompile(`[a-z_]+(?:=~|!=|=)"[^"]*"`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
	legend     = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// check demands that the metrics and labels of an expression are there, and
// returns the metrics.
func (q target) check(t *testing.T, title string, there map[string]map[string]bool) (names []string) {
	t.Helper()
	labels := map[string]bool{"job": true, "instance": true} // which Prometheus adds
	for _, m := range metricName.FindAllStringSubmatch(q.Expr, -1) {
		name := m[1]
		names = append(names, name)
		require.Contains(t, there, name, "%s: %s", title, q.Expr)
		maps.Copy(labels, there[name])
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			require.True(t, labels[label[1]], "%s: %s has no label %s", title, name, label[1])
		}
	}
	require.NotEmpty(t, names, "%s: %s", title, q.Expr)
	require.Equal(t, strings.Count(q.Expr, "("), strings.Count(q.Expr, ")"), q.Expr)
	// What has not happened yet has no series, and a share of that would be no data.
	if part, whole, is := strings.Cut(q.Expr, ") / "); is {
		for _, only := range matchers.FindAllString(part, -1) {
			require.True(t, strings.Contains(whole, only) || strings.Contains(part, " or "), "%s: without %s there is nothing: %s", title, only, q.Expr)
		}
	}
	for _, by := range grouping.FindAllStringSubmatch(q.Expr, -1) {
		for label := range strings.SplitSeq(by[1], ",") {
			require.True(t, labels[strings.TrimSpace(label)], "%s: no label %s in %v", title, label, names)
		}
	}
	for _, l := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
		require.True(t, labels[l[1]], "%s: no label %s", title, l[1])
		require.True(t, l[1] == "instance" || strings.Contains(q.Expr, l[1]), "%s: %s is not kept by %s", title, l[1], q.Expr)
	}
	return names
}

// However many accounts there are, each is told of.
func TestMetricsOfManyAccounts(t *testing.T) {
	const accounts = 400
	srv, keys := fake(t), t.TempDir()
	var config strings.Builder
	fmt.Fprintf(&config, "listen: 127.0.0.1:0\nbase_url: %s\ntelemetry: {metrics: {listen: 127.0.0.1:0}}\naccounts:\n", srv.URL)
	for i := range accounts {
		file := filepath.Join(keys, fmt.Sprint(i))
		require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf("sk-many-%d\n", i)), 0o600))
		fmt.Fprintf(&config, "  - {name: 'account %d', keys: 'file:%s'}\n", i, file)
	}
	s, _, _ := within(t, config.String())
	resp, err := client(t).Get("http://" + s.exports.tcp.Addr().String() + "/metrics")
	require.NoError(t, err)
	text := whole(t, resp)
	require.NotContains(t, text, "overflow")
	active := regexp.MustCompile(`(?m)^seawall_account_state\{.*seawall_state="active".*\} 1$`)
	require.Len(t, active.FindAllString(text, -1), accounts)
}

// Metrics are not where clients are, whether or not these have a key, nor at the
// other address unless it is told.
func TestMetricsAreApart(t *testing.T) {
	srv := fake(t)
	key := gateway.NewKey()
	clients := "clients: [{name: ci, keys: " + gateway.HashKey(key) + "}]\n"
	for config, served := range map[string]bool{
		"": false, "telemetry: {metrics: {listen: 127.0.0.1:0}}\n": true, "telemetry: {metrics: {listen: 127.0.0.1:0, path: /prom}}\n" + clients: true, clients: false,
	} {
		p := serve(t, srv.URL, config)
		c := client(t)
		for _, auth := range []string{"", "Bearer " + key} {
			for _, path := range []string{"/metrics", "/prom", "/v1/metrics"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
				require.NoError(t, err)
				if auth != "" {
					req.Header.Set("Authorization", auth)
				}
				resp, err := c.Do(req)
				require.NoError(t, err)
				text := whole(t, resp)
				require.Contains(t, []int{http.StatusNotFound, http.StatusUnauthorized}, resp.StatusCode)
				require.NotContains(t, text, "seawall_")
			}
		}
		if !served {
			require.NotContains(t, p.log(), "serving metrics")
			p.stop()
			continue
		}
		line := p.wait("serving metrics")
		address := "http://" + line["address"].(string)
		require.Contains(t, scrape(t, c, address+line["path"].(string)), "seawall_calls_total", config)
		require.Equal(t, http.StatusNotFound, status(t, c, address+"/"))
		require.Equal(t, http.StatusNotFound, status(t, c, address+"/chat/completions"))
		p.stop()
		_, err := c.Get(address + "/metrics")
		require.Error(t, err, "it ends with the process")
	}
}

// An address that is taken is told, and nothing is left over.
func TestMetricsAddressTaken(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	t.Setenv("DEEPSEEK_API_KEY", upstreamKey)
	c := gateway.DefaultConfig()
	c.Listen, c.Telemetry.Metrics.Listen = "127.0.0.1:0", taken.Listener.Addr().String()
	_, err := newServer(c, io.Discard, special{})
	require.ErrorContains(t, err, "address already in use")
}

// Traces reach a collector, with its headers, at the latest when the process ends.
func TestTracesAreSent(t *testing.T) {
	var (
		mu     sync.Mutex
		spans  = map[string]int{}
		paths  = map[string]bool{}
		auth   string
		traces = map[string]bool{}
	)
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &req) != nil || bytes.Contains(body, []byte(upstreamKey)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		paths[r.URL.Path], auth = true, r.Header.Get("Authorization")
		for _, rs := range req.ResourceSpans {
			for _, kv := range rs.Resource.Attributes {
				if kv.Key == "service.name" {
					spans["service "+kv.Value.GetStringValue()]++
				}
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					spans[s.Name]++
					traces[fmt.Sprintf("%x", s.TraceId)] = true
				}
			}
		}
	}))
	defer sink.Close()
	t.Setenv("OTLP_AUTHORIZATION", "Bearer of-the-collector")
	srv := fake(t)
	_, url, stop := within(t, fmt.Sprintf("listen: 127.0.0.1:0\nbase_url: %s\nretry: {min_interval: 1ms, max_interval: 1ms}\ntelemetry: {traces: {endpoint: '%s', headers: {authorization: env:OTLP_AUTHORIZATION}}}\n", srv.URL, sink.URL))
	c := client(t)
	srv.Enqueue(deepseektest.ServiceUnavailable())
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/chat/completions", strings.NewReader(streamBody))
	require.NoError(t, err)
	req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	resp, err := c.Do(req)
	require.NoError(t, err)
	whole(t, resp)
	c.CloseIdleConnections()
	stop()
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]bool{"/v1/traces": true}, paths)
	require.Equal(t, "Bearer of-the-collector", auth)
	require.Equal(t, map[string]bool{trace: true}, traces)
	require.Equal(t, 2, spans["attempt"])
	require.Equal(t, 1, spans["chat deepseek-flash"])
	require.Equal(t, 1, spans["POST /chat/completions"])
	require.Positive(t, spans["service seawall"])
}

// A collector that is not there costs no call, and is told in the log's own form.
func TestCollectorIsDown(t *testing.T) {
	srv := fake(t)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	p := serve(t, srv.URL, "telemetry: {traces: {endpoint: '"+down.URL+"'}}\n")
	c := client(t)
	for range 5 {
		require.Contains(t, whole(t, post(t, c, p.url+"/chat/completions", chatBody)), "choices")
	}
	p.rewrite("endpoint: '"+down.URL, "endpoint: 'http://127.0.0.1:1")
	p.signal(syscall.SIGHUP)
	line := p.wait("some of the new configuration needs a restart")
	require.Equal(t, []any{"telemetry"}, line["fields"])
	p.stop()
	require.Contains(t, p.wait("telemetry")["error"], "connection refused")
	for line := range strings.Lines(p.log()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}
