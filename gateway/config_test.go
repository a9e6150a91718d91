package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
)

const testKey = "sk-config-0123456789"

// configure has a file read that holds text.
func configure(t *testing.T, text string) (*Config, error) {
	t.Helper()
	for _, name := range []string{"DEEPSEEK_API_KEY", "DEEPSEEK_API_KEYS", "DEEPSEEK_BASE_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("ONE_KEY", testKey)
	t.Setenv("TWO_LINES", "a\nb")
	t.Setenv("MORE_KEYS", testKey+"-a, "+testKey+"-b,")
	path := filepath.Join(t.TempDir(), "seawall.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "keys"), []byte(testKey+"-1\n\n"+testKey+"-2\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "empty"), []byte("\n"), 0o600))
	return ReadConfig(path)
}

func TestConfig(t *testing.T) {
	c, err := configure(t, `
# Everything that there is.
listen: localhost:9000
base_url: https://api.deepseek.com/v1
accounts:
  - name: main
    keys: [env:ONE_KEY, file:keys]
    max_concurrency: 1_000
    weight: 2
    requests_per_minute: 100
    tokens_per_minute: 100000
  - name: spare
    keys: env:MORE_KEYS
models:
  gpt-4o: deepseek-flash
  o3: deepseek-v4-pro
strategy: least_loaded
max_concurrency: 300
rate_limit: {per_second: 20.5, burst: 40}
queue: {max_length: 500, max_wait: 2m}
retry:
  max_attempts: 6
  min_interval: 250ms
  max_interval: 4s
  max_retry_after: 30s
  budget: 50
breaker: {min_requests: 10, failure_ratio: 0.4, window: 1m, open_for: 10s, max_open_for: 2m, probes: 3}
timeouts: {first_data: 5m, between_data: 90s, silence: off}
keep_alive: {every: 5s, whole_after: off}
clients:
  - name: ci
    keys: `+HashKey("a")+`
    concurrency: 20
    requests_per_minute: 600
    tokens_per_minute: 200_000
    budget_per_month: 25.50
    models: [deepseek-flash]
  - name: web
    keys: [`+HashKey("b")+", "+HashKey("c")+`]
state: spent.json
status: {listen: ":9001", keys: `+HashKey("d")+`}
prices:
  models:
    my-model: {off_peak: {cache_hit: 0.1, cache_miss: 1, output: 2}}
  aliases: {my-alias: my-model}
  holidays: ["2027-01-01"]
server:
  max_request: 64MiB
  max_header: 32KB
  max_connections: 100
  header_timeout: 5s
  body_timeout: 1m
  write_timeout: 20s
  idle_timeout: 30s
shutdown: {delay: 5s, limit: 10m}
log: {level: warn, format: text}
`)
	require.NoError(t, err)
	assert.Equal(t, "localhost:9000", c.Listen)
	assert.Equal(t, []Account{
		{Name: "main", Keys: Secrets{testKey, testKey + "-1", testKey + "-2"}, MaxConcurrency: 1000, Weight: 2, RequestsPerMinute: 100, TokensPerMinute: 100_000},
		{Name: "spare", Keys: Secrets{testKey + "-a", testKey + "-b"}},
	}, c.Accounts)
	assert.Equal(t, map[string]string{"gpt-4o": "deepseek-flash", "o3": "deepseek-v4-pro"}, c.Models)
	assert.Equal(t, RateLimit{PerSecond: 20.5, Burst: 40}, c.RateLimit)
	assert.Equal(t, deepseek.Queue{MaxLength: 500, MaxWait: 2 * time.Minute}, c.Queue)
	assert.Equal(t, deepseek.Retry{MaxAttempts: 6, MinInterval: 250 * time.Millisecond, MaxInterval: 4 * time.Second, MaxRetryAfter: 30 * time.Second, Budget: 50}, c.Retry.Retry)
	assert.Equal(t, 0.4, c.Breaker.FailureRatio)
	assert.Equal(t, deepseek.Timeouts{FirstData: 5 * time.Minute, BetweenData: 90 * time.Second, Silence: -1}, c.Timeouts)
	assert.Equal(t, KeepAlive{Every: 5 * time.Second, WholeAfter: -1}, c.KeepAlive)
	assert.Equal(t, []Client{
		{Name: "ci", Keys: []string{HashKey("a")}, Concurrency: 20, RequestsPerMinute: 600, TokensPerMinute: 200_000, BudgetPerMonth: 25.5, Models: []string{"deepseek-flash"}},
		{Name: "web", Keys: []string{HashKey("b"), HashKey("c")}},
	}, c.Clients)
	prices := c.Prices.prices()
	assert.Equal(t, 2.0, prices.Models["my-model"].OffPeak.Output)
	assert.Equal(t, 0.60, prices.Models["deepseek-flash"].OffPeak.Output)
	assert.Contains(t, prices.Holidays, "2027-01-01")
	assert.Equal(t, filepath.Join(filepath.Dir(c.Files()[0].Path), "spent.json"), c.Settings().State)
	assert.Equal(t, Server{
		MaxRequest: 64 << 20, MaxHeader: 32_000, MaxConnections: 100, HeaderTimeout: 5 * time.Second,
		BodyTimeout: time.Minute, WriteTimeout: 20 * time.Second, IdleTimeout: 30 * time.Second,
	}, c.Server)
	assert.Equal(t, Status{Listen: ":9001", Keys: []string{HashKey("d")}}, c.Status)
	assert.Equal(t, Shutdown{Delay: 5 * time.Second, Limit: 10 * time.Minute}, c.Shutdown)
	assert.Len(t, c.Files(), 2)

	g, err := New(c.Settings(), c.Options()...)
	require.NoError(t, err)
	stats := g.Transport().Stats()
	require.Len(t, stats.Accounts, 2)
	assert.Len(t, stats.Accounts[0].Keys, 3)
	assert.Equal(t, "https://api.deepseek.com", g.Transport().BaseURL().String())
}

// printed is a value in all the ways in which a program might print it.
func printed(t *testing.T, v any) []string {
	asJSON, err := json.Marshal(v)
	require.NoError(t, err)
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "v", v)
	return []string{fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), string(asJSON), logged.String()}
}

func TestConfigTellsNoSecret(t *testing.T) {
	t.Setenv("COLLECTOR", testKey)
	c, err := configure(t, "accounts:\n  - keys: env:ONE_KEY\ntelemetry: {traces: {endpoint: http://127.0.0.1:4318, headers: {authorization: env:COLLECTOR}}}\n")
	require.NoError(t, err)
	require.Equal(t, Secrets{testKey}, c.Accounts[0].Keys)
	for _, v := range []any{c, *c, c.Accounts, c.Accounts[0], c.Accounts[0].Keys, c.Telemetry, c.Telemetry.Traces.Headers} {
		for _, text := range printed(t, v) {
			require.NotContains(t, text, testKey)
		}
	}
	require.Equal(t, "[1 hidden]", fmt.Sprint(c.Accounts[0].Keys))
}

func TestConfigOfEndpoints(t *testing.T) {
	c, err := configure(t, `
endpoints:
  - accounts: [{keys: env:ONE_KEY, max_concurrency: 5}]
  - name: spare
    base_url: https://spare.example/v1
    accounts:
      - {name: a, keys: file:keys}
      - {name: b, keys: env:MORE_KEYS}
    priority: 1
    weight: 3
    models: {deepseek-flash: other-flash}
    dialect: openai
    auth: api-key
    paths: [/responses]
    drop: []
fallback_models: {deepseek-v4-pro: [deepseek-flash, deepseek-lite], x: y}
resume: {max_continuations: 3, tools: true, min_stall: off}
hedging: {max_share: 0.1}
cache: {ttl: off, max_bytes: 1GiB, max_answer: 1MiB}
prices: {peak: [{from: 1h, until: 4h30m}]}
`)
	require.NoError(t, err)
	require.Equal(t, []Endpoint{
		{Name: "api.deepseek.com", Accounts: []Account{{Name: "api.deepseek.com", Keys: Secrets{testKey}, MaxConcurrency: 5}}, BaseURL: ""},
		{
			Name: "spare", BaseURL: "https://spare.example/v1", Priority: 1, Weight: 3, Models: map[string]string{"deepseek-flash": "other-flash"},
			Accounts: []Account{{Name: "a", Keys: Secrets{testKey + "-1", testKey + "-2"}}, {Name: "b", Keys: Secrets{testKey + "-a", testKey + "-b"}}},
			Dialect:  deepseek.DialectOpenAI, Auth: deepseek.AuthAPIKey, Paths: []string{"/responses"}, Drop: []string{},
		},
	}, c.Endpoints)
	require.Equal(t, map[string][]string{"deepseek-v4-pro": {"deepseek-flash", "deepseek-lite"}, "x": {"y"}}, c.Settings().FallbackModels)
	require.Equal(t, Resume{On: true, Resume: deepseek.Resume{MaxContinuations: 3, Tools: true, MinStall: -1}}, c.Resume)
	require.Equal(t, Hedging{On: true, Hedging: deepseek.Hedging{MaxShare: 0.1}}, c.Hedging)
	require.Equal(t, Cache{On: true, TTL: -1, MaxBytes: 1 << 30, MaxAnswer: 1 << 20}, c.Cache)
	require.Equal(t, []deepseek.PeakHours{{From: time.Hour, Until: 4*time.Hour + 30*time.Minute}}, c.Prices.prices().Peak)

	for text, on := range map[string]bool{"on": true, "{}": true, "true": true, "off": false, "false": false, "": false} {
		c, err := configure(t, "accounts: [{keys: env:ONE_KEY}]\ncache: "+text+"\nresume: "+text+"\nhedging: "+text+"\n")
		require.NoError(t, err, text)
		require.Equal(t, []bool{on, on, on}, []bool{c.Cache.On, c.Resume.On, c.Hedging.On}, text)
	}
}

func TestSmallConfigs(t *testing.T) {
	for _, text := range []string{
		"",
		"# nothing\n",
		"listen: 127.0.0.1:0\n",
		"accounts:\n  - keys: env:ONE_KEY\n",
		"accounts: [{keys: [file:keys]}]\nretry: off\nbreaker: off\nqueue:\n",
	} {
		c, err := configure(t, text)
		if !strings.Contains(text, "accounts") {
			require.ErrorContains(t, err, "seawall.yaml: accounts: there are none, and the environment has no DEEPSEEK_API_KEY")
			t.Setenv("DEEPSEEK_API_KEY", testKey)
			c, err = parseConfig("seawall.yaml", []byte(text))
		}
		require.NoError(t, err, text)
		require.Equal(t, Size(48<<20), c.Server.MaxRequest)
		require.Contains(t, c.Listen, "127.0.0.1:")
		require.Equal(t, "main", append(c.Accounts, Account{Name: "main"})[0].Name)
	}
}

// What the file leaves to the environment is said to be wrong there.
func TestBadEnvironment(t *testing.T) {
	for _, c := range []struct{ name, value, say string }{
		{"DEEPSEEK_API_KEY", "sk with blanks", "f.yaml: accounts: a key in the environment's DEEPSEEK_API_KEY has a blank"},
		{"DEEPSEEK_API_KEY", "sk-a,sk-a", "f.yaml: accounts: a key in the environment's DEEPSEEK_API_KEY #"},
		{"DEEPSEEK_BASE_URL", "ftp://x.example", `f.yaml: base_url: DEEPSEEK_BASE_URL in the environment: "ftp://x.example" must begin`},
	} {
		t.Run(c.value, func(t *testing.T) {
			t.Setenv("DEEPSEEK_API_KEY", testKey)
			t.Setenv(c.name, c.value)
			_, err := parseConfig("f.yaml", nil)
			require.ErrorContains(t, err, c.say)
			require.NotContains(t, err.Error(), "sk-")
		})
	}
}

// What is wrong is told with its line, all of it at once, and no secret with it.
func TestBadConfigs(t *testing.T) {
	const account = "accounts: [{keys: env:ONE_KEY}]\n"
	cases := []struct {
		name, text string
		line       int
		say        string
	}{
		{"unknown field", account + "\nretries: 3\n", 3, `there is no field "retries" here; there are: accounts, `},
		{"unknown field below", account + "retry:\n  max_attempt: 3\n", 3, `max_attempts`},
		{"unknown field of an account", "accounts:\n  - name: a\n    key: env:ONE_KEY\n", 3, `there is no field "key" here; there are: keys, max_concurrency, name`},
		{"not Go's name", account + "MaxConcurrency: 3\n", 2, `no field "MaxConcurrency"`},
		{"not Go's field either", account + "retry: {off: true}\n", 2, `no field "off"`},
		{"twice", account + "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", 3, "is there twice; the first is on line 2"},
		{"not a number", account + "queue:\n  max_wait: 2m\n  max_length: many\n", 4, `queue.max_length: "many" is no whole number`},
		{"not a whole number", account + "max_concurrency: 1.5\n", 2, "is no whole number"},
		{"too large a number", account + "max_concurrency: 99999999999999999999\n", 2, "is no whole number"},
		{"not a duration", account + "timeouts: {silence: 60}\n", 2, `timeouts.silence: "60" is no duration`},
		{"not a size", account + "server: {max_request: 48 MB/s}\n", 2, `is no size`},
		{"negative size", account + "server: {max_request: -1MB}\n", 2, `is no size`},
		{"list in place of a value", account + "listen: [a, b]\n", 2, "listen: must be a single value"},
		{"value in place of fields", account + "queue: 5\n", 2, "queue: must be fields with values"},
		{"value in place of names", account + "models: deepseek-flash\n", 2, "models: must be names with values"},
		{"fields in place of a list", "accounts: {main: env:ONE_KEY}\n", 1, "accounts: must be a list"},
		{"off where that is no choice", account + "queue: off\n", 2, "queue: must be fields"},
		{"no YAML", account + "listen: [\n", 2, "did not find"},
		{"a tab", account + "queue:\n\tmax_length: 1\n", 3, "cannot start any token"},
		{"two documents", account + "---\nlisten: x\n", 2, "second document"},

		{"a secret in the file", "accounts:\n  - keys:\n      - " + testKey + "\n", 3, "accounts[0].keys: a secret is not written here"},
		{"no such variable", "accounts: [{keys: env:NO_SUCH_VARIABLE}]\n", 1, "the environment has no NO_SUCH_VARIABLE"},
		{"no such file", "accounts: [{keys: 'file:missing'}]\n", 1, "no such file"},
		{"empty file", "accounts: [{keys: 'file:empty'}]\n", 1, "is empty"},
		{"no keys", "accounts:\n  - name: a\n    keys: env:ONE_KEY\n  - name: b\n", 4, "accounts[1]: needs keys"},
		{"no names", "accounts:\n  - keys: env:ONE_KEY\n  - keys: env:MORE_KEYS\n", 2, "accounts[0]: needs a name"},
		{"same name", "accounts:\n  - {name: a, keys: env:ONE_KEY}\n  - {name: a, keys: env:MORE_KEYS}\n", 3, "is taken by another account"},
		{"same key", "accounts:\n  - {name: a, keys: env:ONE_KEY}\n  - {name: b, keys: env:ONE_KEY}\n", 3, `accounts[1].keys: #`},
		{"bad weight", "accounts:\n  - name: a\n    keys: env:ONE_KEY\n    weight: -1\n", 4, "accounts[0].weight: -1 must not be negative"},

		{"accounts beside endpoints", account + "endpoints:\n  - accounts: [{keys: env:MORE_KEYS}]\n", 1, "accounts: goes into an endpoint"},
		{"base URL beside endpoints", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\nbase_url: https://x.example\n", 3, "base_url: goes into an endpoint"},
		{"endpoint without accounts", "endpoints:\n  - name: a\n", 2, "endpoints[0].accounts: must hold an account"},
		{"endpoint's account without keys", "endpoints:\n  - accounts:\n    - name: a\n", 3, "endpoints[0].accounts[0]: needs keys"},
		{"endpoint's accounts without names", "endpoints:\n  - accounts:\n    - keys: env:ONE_KEY\n    - keys: env:MORE_KEYS\n", 3, "endpoints[0].accounts[0]: needs a name"},
		{"two endpoints of a name", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n  - accounts: [{keys: env:MORE_KEYS}]\n", 3, `endpoints[1].name: "api.deepseek.com" is taken`},
		{"an account at two endpoints", "endpoints:\n  - {name: a, accounts: [{name: m, keys: env:ONE_KEY}]}\n  - {name: b, accounts: [{name: m, keys: env:MORE_KEYS}]}\n", 3, "endpoints[1].accounts[0].name: is taken at two endpoints"},
		{"endpoint at no URL", "endpoints:\n  - base_url: nonsense\n    accounts: [{keys: env:ONE_KEY}]\n", 2, `endpoints[0].base_url: "nonsense" is no URL`},
		{"endpoint over plain HTTP", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    base_url: http://x.example\n", 3, `endpoints[0].base_url: `},
		{"endpoint of two words", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    name: a b\n", 3, `endpoints[0].name: "a b" must not have blanks`},
		{"endpoint of no weight", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    weight: -1\n", 3, `endpoints[0].weight: -1 must not be negative`},
		{"unknown dialect", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    dialect: french\n", 3, `endpoints[0].dialect: "french" is neither`},
		{"unknown authorization", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    auth: basic\n", 3, `endpoints[0].auth: "basic" is none of`},
		{"paths of DeepSeek", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    paths: /responses\n", 3, `endpoints[0].paths: `},
		{"drop of what is needed", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    base_url: https://x.example\n    drop: [model]\n", 4, `endpoints[0].drop: "model" must be`},
		{"model without a name", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    models: {a: ''}\n", 3, `endpoints[0].models: `},
		{"unknown field of an endpoint", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    url: https://x.example\n", 3, `there is no field "url" here`},
		{"fallback to nothing", account + "fallback_models:\n  a: ['']\n", 2, `fallback_models: `},
		{"fallback to itself", account + "fallback_models: {a: a}\n", 2, `fallback_models: `},
		{"impossible hedging", account + "hedging:\n  percentile: 95\n", 3, `hedging.percentile: 95 must be`},
		{"impossible resume", account + "resume:\n  max_continuations: -1\n", 3, `resume.max_continuations: -1 must not`},
		{"impossible cache", account + "cache:\n  max_bytes: a lot\n", 3, `cache.max_bytes: "a lot" is no size`},
		{"cache maybe", account + "cache: maybe\n", 2, `cache: must be fields`},
		{"peak that ends before it begins", account + "prices:\n  peak: [{from: 4h, until: 1h}]\n", 3, `prices.peak`},

		{"listens to the world", account + "listen: :8080\n", 2, "without clients the gateway listens on loopback only"},
		{"listens on a name", account + "listen: gateway.example:80\n", 2, "loopback only"},
		{"listens on nothing", account + "listen: '8080'\n", 2, "is no address"},
		{"half of TLS", account + "tls: {cert: x.pem}\n", 2, "needs both cert and key"},
		{"client without a name", account + "clients:\n  - keys: " + HashKey("a") + "\n", 3, "clients[0].name: must not be empty"},
		{"client without a key", account + "clients:\n  - name: a\n", 3, "clients[0].keys: must hold the hash"},
		{"client with a key in place of its hash", account + "clients:\n  - name: a\n    keys: " + testKey + "\n", 4, "must hold hashes"},
		{"two clients of a name", account + "clients:\n  - {name: a, keys: " + HashKey("a") + "}\n  - {name: a, keys: " + HashKey("b") + "}\n", 4, "is taken by another client"},
		{"two clients of a key", account + "clients:\n  - {name: a, keys: " + HashKey("a") + "}\n  - {name: b, keys: " + HashKey("a") + "}\n", 4, "is there already"},
		{"negative limit of a client", account + "clients:\n  - name: a\n    keys: " + HashKey("a") + "\n    tokens_per_minute: -1\n", 5, "clients[0].tokens_per_minute: -1"},
		{"budget that begins anew", account + "clients:\n  - name: a\n    keys: " + HashKey("a") + "\n    budget_per_month: 5\n", 5, "needs a file"},
		{"unreadable state", account + "state: empty\n", 2, "state: "},
		{"price of less than nothing", account + "prices: {models: {m: {off_peak: {output: -1}}}}\n", 2, "prices"},

		{"price of less than nothing, in its place", account + "prices:\n  models:\n    a.b:\n      off_peak: {output: 1}\n    a[1]:\n      peak:\n        cache_hit: -1\n", 8, "prices.models.a[1].peak.cache_hit: -1 must be"},
		{"other name of no model", account + "prices:\n  aliases:\n    good: deepseek-flash\n    'b \"x': bad\n", 5, "prices.aliases.b \"x: bad is not among"},
		{"misspelt currency", account + "prices:\n  aliases: {a: b}\n  currency: usd\n", 4, `prices.currency: "usd" is neither USD nor CNY`},

		{"status page for the world", account + "status: {listen: ':8081'}\n", 2, "status.listen: without keys the status page listens on loopback only"},
		{"status page on nothing", account + "status: {listen: here}\n", 2, "is no address"},
		{"status page on nothing, with keys", account + "status: {keys: " + HashKey("a") + "}\n", 2, "needs an address"},
		{"status page where the gateway is", account + "listen: localhost:1\nstatus:\n  listen: localhost:1\n", 4, "must be another address"},
		{"status page with a key in place of its hash", account + "status:\n  listen: localhost:2\n  keys: " + testKey + "\n", 4, "status.keys[0]: must be a hash"},

		{"no such strategy", account + "strategy: fastest\n", 2, `"fastest" is none of`},
		{"no such level", account + "log: {level: loud}\n", 2, `log.level: "loud"`},
		{"plain HTTP", account + "base_url: http://api.deepseek.com\n", 2, "base_url: "},
		{"impossible policy", account + "retry:\n  min_interval: 10s\n  max_interval: 5s\n", 4, "retry.max_interval: 5s must not be less"},
		{"impossible breaker", account + "breaker:\n  failure_ratio: 2\n", 3, "breaker.failure_ratio: 2 must be between"},
		{"negative limit", account + "max_concurrency: -1\n", 2, "max_concurrency: -1 must be at least 1"},
		{"no rate", account + "rate_limit: {per_second: -2}\n", 2, "rate_limit.per_second"},
		{"no time", account + "shutdown: {limit: off}\n", 2, "shutdown.limit: must be more than 0"},
		{"metrics on nothing", account + "telemetry: {metrics: {listen: '9464'}}\n", 2, "telemetry.metrics.listen: \"9464\" is no address"},
		{"metrics for clients", account + "listen: 127.0.0.1:9000\ntelemetry:\n  metrics:\n    listen: 127.0.0.1:9000\n", 5, "must not be where clients are served"},
		{"metrics nowhere", account + "telemetry: {metrics: {listen: ':9464', path: metrics}}\n", 2, "telemetry.metrics.path: \"metrics\" is no path"},
		{"traces to nowhere", account + "telemetry: {traces: {endpoint: collector:4318}}\n", 2, "telemetry.traces.endpoint: must be a URL"},
		{"traces with a password", account + "telemetry: {traces: {endpoint: 'https://user:" + testKey + "@host'}}\n", 2, "telemetry.traces.endpoint: must be a URL"},
		{"more than all traces", account + "telemetry: {traces: {ratio: 1.5}}\n", 2, "telemetry.traces.ratio: 1.5 is not"},
		{"a secret header in the file", account + "telemetry: {traces: {headers: {authorization: " + testKey + "}}}\n", 2, "a secret is not written here"},
		{"two values of a header", account + "telemetry: {traces: {headers: {authorization: env:MORE_KEYS}}}\n", 2, "headers.authorization: must be one value"},
		{"no value of a header", account + "telemetry:\n  traces:\n    headers:\n      authorization: []\n", 5, "headers.authorization: must be one value"},
		{"two lines in a header", account + "telemetry: {traces: {headers: {authorization: env:TWO_LINES}}}\n", 2, "headers.authorization: has a control character"},
		{"no header", account + "telemetry: {traces: {headers: {'a b': env:ONE_KEY}}}\n", 2, "is no name of a header"},
		{"metrics at no clean path", account + "telemetry: {metrics: {listen: ':9464', path: /a//b}}\n", 2, "telemetry.metrics.path: \"/a//b\" is no path"},
		{"no traces at all", account + "telemetry: {traces: {endpoint: 'http://127.0.0.1:4318', ratio: 0}}\n", 2, "telemetry.traces.ratio: 0 is not more than 0"},
		{"no time to write", account + "server: {write_timeout: 0s}\n", 2, "server.write_timeout: must be more than 0"},
		{"no time to end", account + "shutdown: {limit: 0s}\n", 2, "shutdown.limit: must be more than 0"},
		{"account of no weight", "accounts:\n  - {name: a, keys: env:ONE_KEY}\n  - {name: b, keys: env:MORE_KEYS, weight: 0}\n", 3, "accounts[1].weight: must be at least 1"},
		{"client without money", account + "state: s\nclients:\n  - {name: a, keys: " + HashKey("a") + ", budget_per_month: 0}\n", 4, "clients[0].budget_per_month: must be more than 0"},
		{"no waiting room", account + "queue: {max_length: 0}\n", 2, "queue.max_length: must not be 0"},
		{"no attempt", account + "retry: {max_attempts: 0}\n", 2, "retry.max_attempts: must not be 0"},
		{"no patience", account + "timeouts: {silence: 0s}\n", 2, "timeouts.silence: must not be 0"},
		{"no continuation", account + "resume: {max_continuations: 0}\n", 2, "resume.max_continuations: must not be 0"},
		{"nothing kept", account + "cache:\n  ttl: 0s\n", 3, "cache.ttl: must not be 0"},
		{"no room in the cache", account + "cache: {max_bytes: 0}\n", 2, "cache.max_bytes: must not be 0"},
		{"endpoint of weight 0", "endpoints:\n  - accounts: [{keys: env:ONE_KEY}]\n    weight: 0\n", 3, "endpoints[0].weight: must be at least 1"},
		{"no hedge", account + "hedging: {max_share: 0}\n", 2, "hedging.max_share: must not be 0"},
		{"state nowhere", account + "state: nowhere/seawall.state\n", 2, "state: cannot be written"},
		{"one address for two", account + "status: {listen: 127.0.0.1:9464}\ntelemetry: {metrics: {listen: 127.0.0.1:9464}}\n", 3, "telemetry.metrics.listen: is where the status page is"},
		{"no connections", account + "server: {max_connections: 0}\n", 2, "server.max_connections: must be at least 1"},
		{"no request", account + "server: {max_request: 0}\n", 2, "server.max_request: must be at least 1 byte"},
		{"no such field", account + "telemetry: {logs: {}}\n", 2, "there is no field \"logs\" here; there are: metrics, traces"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := configure(t, c.text)
			require.Error(t, err)
			require.ErrorContains(t, err, c.say)
			require.NotContains(t, err.Error(), testKey)
			var e *FileError
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.line, e.Line, err.Error())
		})
	}
	_, err := configure(t, "x: 1\nretry: {y: 1}\nqueue: {max_wait: z}\n")
	require.Len(t, strings.Split(err.Error(), "\n"), 3, err.Error())
	_, err = configure(t, "accounts: [{keys: 'file:missing'}]\ntls: {cert: a, key: b}\n")
	files := FilesOf(err)
	require.Len(t, files, 4, "what may mend it")
	require.Equal(t, "missing", filepath.Base(files[1].Path))
	require.Nil(t, files[1].Info)
	require.NotNil(t, files[0].Info)
	require.True(t, files[0].Same(files[0].Now()))
	require.Empty(t, FilesOf(nil))
	// What is changed right after it was read, even by a file that looks the same, shows.
	path := filepath.Join(t.TempDir(), "seawall.yaml")
	require.NoError(t, os.WriteFile(path, []byte("accounts: [{keys: env:ONE_KEY}]\n"), 0o600))
	c, err := ReadConfig(path)
	require.NoError(t, err)
	require.True(t, c.Files()[0].Same(c.Files()[0].Now()))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", []byte("accounts: [{keys: env:TWO_KEY}]\n"), 0o600))
	require.NoError(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(path+".new", path))
	require.False(t, c.Files()[0].Same(c.Files()[0].Now()))

	_, err = configure(t, "models: {a: &key env:ONE_KEY}\naccounts: [{keys: [*key]}]\n")
	require.NoError(t, err, "a secret's place may be named elsewhere")
	_, err = ReadConfig(filepath.Join(t.TempDir(), "missing.yaml"))
	require.ErrorContains(t, err, "missing.yaml: no such file")
	require.ErrorAs(t, err, new(*FileError))
	require.Len(t, FilesOf(err), 1, "it may come")
}

func TestFieldName(t *testing.T) {
	for name, want := range map[string]string{
		"Listen": "listen", "MaxAttempts": "max_attempts", "BaseURL": "base_url", "TLS": "tls", "MaxRetryAfter": "max_retry_after",
		"TLSCert": "tls_cert", "X": "x", "PerSecond": "per_second",
	} {
		require.Equal(t, want, fieldName(name))
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("accounts: [{name: a, keys: env:X}]\nretry: off\nmodels: {a: b}\nserver: {max_request: 1MiB}\n"))
	f.Add([]byte("a: &a {b: *a}\n<<: *a\n? [x]\n: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "file:") {
			return // no reading about on this machine
		}
		_, err := parseConfig("f.yaml", data)
		_ = err
	})
}
