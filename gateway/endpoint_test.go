package gateway_test

import (
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
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/conformance"
	"github.com/seawall-go/deepseek/gateway"
)

// hosts is a network of other programs' hosts.
type hosts struct {
	handlers map[string]http.HandlerFunc // by host

	mu   sync.Mutex
	seen []seen
}

// seen is a request as a host got it.
type seen struct {
	host, path, key string
	body            map[string]any
}

func (h *hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	s := seen{host: req.URL.Host, path: req.URL.Path}
	for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key"} {
		if v := req.Header.Get(name); v != "" {
			s.key += name + ": " + v
		}
	}
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		_ = json.Unmarshal(data, &s.body)
	}
	h.mu.Lock()
	h.seen = append(h.seen, s)
	handler := h.handlers[req.URL.Host]
	h.mu.Unlock()
	w := httptest.NewRecorder()
	handler(w, req)
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

// take returns what was seen since the last time.
func (h *hosts) take() []seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.seen = nil }()
	return h.seen
}

// says answers each request alike.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const hello = `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`

// door is a gateway as a file says, before a network of hosts.
type door struct {
	*testing.T
	*hosts
	g      *gateway.Gateway
	client *http.Client
	url    string
	asked  int
}

// readConfig reads a file that says text. Each of the keys in it is in the
// environment, as its variable's name in lower case.
func readConfig(t *testing.T, text string) *gateway.Config {
	t.Helper()
	for _, m := range regexp.MustCompile(`env:([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		t.Setenv(m[1], strings.ToLower(m[1]))
	}
	path := filepath.Join(t.TempDir(), "seawall.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	c, err := gateway.ReadConfig(path)
	require.NoError(t, err)
	return c
}

// behind opens a door as a file says, in a bubble.
func behind(t *testing.T, text string, handlers map[string]http.HandlerFunc, do func(d *door)) {
	synctest.Test(t, func(t *testing.T) {
		c := readConfig(t, text)
		d := &door{T: t, hosts: &hosts{handlers: handlers}}
		var err error
		d.g, err = gateway.New(c.Settings(), append(c.Options(), deepseek.WithTransport(d.hosts))...)
		require.NoError(t, err)
		d.client, d.url = conformance.Serve(t, d.g)
		do(d)
		time.Sleep(5 * time.Second)
	})
}

// reload changes the gateway to what another file says.
func (d *door) reload(text string) {
	d.Helper()
	c := readConfig(d.T, text)
	require.NoError(d, d.g.Reload(c.Settings(), append(c.Options(), deepseek.WithTransport(d.hosts))...))
}

// ask asks a model something new, and returns the response with its body.
func (d *door) ask(model string, key ...string) (*http.Response, string) {
	d.Helper()
	d.asked++
	return d.repeat(model, d.asked, key...)
}

// repeat asks a model what it was asked before.
func (d *door) repeat(model string, n int, key ...string) (*http.Response, string) {
	d.Helper()
	body := fmt.Sprintf(`{"model": %q, "user_id": "u", "messages": [{"role": "user", "content": "No. %d"}]}`, model, n)
	req, err := http.NewRequestWithContext(d.Context(), http.MethodPost, d.url+"/chat/completions", strings.NewReader(body))
	require.NoError(d, err)
	req.Header.Set("Authorization", "Bearer "+append(key, "sk-client")[0])
	resp, err := d.client.Do(req)
	require.NoError(d, err)
	text, err := all(resp)
	require.NoError(d, err)
	return resp, text
}

// readmeBlock is a configuration in the README, the first that has the text.
func readmeBlock(t *testing.T, with string) string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for block := range strings.SplitSeq(string(data), "```yaml\n") {
		if block, _, ok := strings.Cut(block, "\n```"); ok && strings.Contains(block, with) {
			return block + "\n"
		}
	}
	require.Fail(t, "the README has no such configuration", with)
	return ""
}

// The hosts in the README, in its own words: each gets its own key, in its own
// header, the model by its own name, and an error in its own shape is told in
// OpenAI's.
func TestOtherHosts(t *testing.T) {
	type host struct {
		name, path, key, model string
		status                 int
		shape                  string // of its errors
		say                    string // the message in it
		keeps                  bool   // user_id, which is DeepSeek's
	}
	list := map[string]host{
		"api.deepseek.com": {name: "deepseek", path: "/chat/completions", key: "Authorization: Bearer deepseek_api_key", model: "deepseek-flash", keeps: true,
			status: 503, shape: `{"error":{"message":"Service is too busy.","type":"service_unavailable_error","param":null,"code":"service_unavailable_error"}}`, say: "Service is too busy."},
		"ark.cn-beijing.volces.com": {name: "ark", path: "/api/v3/chat/completions", key: "Authorization: Bearer ark_api_key", model: "deepseek-v4-1-flash-260910",
			status: 429, shape: `{"error":{"code":"RateLimitExceeded.EndpointTPMExceeded","message":"The TPM limit is exceeded.","param":"","type":"TooManyRequests"}}`, say: "The TPM limit is exceeded."},
		"api.siliconflow.cn": {name: "siliconflow", path: "/v1/chat/completions", key: "Authorization: Bearer siliconflow_api_key", model: "deepseek-ai/DeepSeek-V4-Flash",
			status: 503, shape: `{"code":50508,"message":"System is too busy now. Please try again later.","data":null}`, say: "System is too busy now. Please try again later."},
		"my-resource.services.ai.azure.com": {name: "azure", path: "/openai/v1/chat/completions", key: "Api-Key: azure_api_key", model: "my-flash-deployment",
			status: 500, shape: `{"error":{"code":"InternalServerError","message":"Backend returned unexpected response."}}`, say: "Backend returned unexpected response."},
		"openrouter.ai": {name: "openrouter", path: "/api/v1/chat/completions", key: "Authorization: Bearer openrouter_api_key", model: "deepseek/deepseek-v4.1-flash",
			status: 502, shape: `{"error":{"code":502,"message":"Provider returned error","metadata":{"provider_name":"x"}},"user_id":"org"}`, say: "Provider returned error"},
		"api.fireworks.ai": {name: "fireworks", path: "/inference/v1/chat/completions", key: "Authorization: Bearer fireworks_api_key", model: "accounts/fireworks/models/deepseek-v4p1-flash",
			status: 503, shape: `{"error":{"object":"error","type":"internal_server_error","message":"server overloaded, please try again later"}}`, say: "server overloaded, please try again later"},
		"api.mistral.ai": {name: "mistral", path: "/v1/chat/completions", key: "Authorization: Bearer mistral_api_key", model: "deepseek-v4-1-flash-1017",
			status: 503, shape: `{"object":"error","message":"Service unavailable.","type":"internal_server_error","param":null,"code":"3000"}`, say: "Service unavailable."},
		"127.0.0.1:8000": {name: "vllm", path: "/v1/chat/completions", key: "Authorization: Bearer vllm_api_key", model: "deepseek-ai/DeepSeek-V4.1-Flash",
			status: 500, shape: `{"object":"error","message":"Internal error","type":"InternalServerError","param":null,"code":500}`, say: "Internal error"},
	}
	handlers := map[string]http.HandlerFunc{}
	for at := range list {
		handlers[at] = says(200, hello)
	}
	text := readmeBlock(t, "siliconflow") + "retry: off\n"
	for at, h := range list {
		t.Run(h.name, func(t *testing.T) {
			handlers := maps.Clone(handlers)
			for other := range handlers {
				if other != at { // the others are not there, so that this one is asked
					handlers[other] = says(401, `{"error":{"message":"no"}}`)
				}
			}
			behind(t, text, handlers, func(d *door) {
				resp, body := d.ask("deepseek-flash")
				require.Equal(d, 200, resp.StatusCode, body)
				require.JSONEq(d, hello, body)
				require.Equal(d, h.name, resp.Header.Get("Seawall-Endpoint"))
				requests := d.take()
				got := requests[slices.IndexFunc(requests, func(s seen) bool { return s.host == at })]
				require.Equal(d, h.path, got.path)
				require.Equal(d, h.key, got.key, "and no other")
				require.Equal(d, h.model, got.body["model"])
				require.Equal(d, h.keeps, got.body["user_id"] != nil)

				d.handlers[at] = says(h.status, h.shape)
				resp, body = d.ask("deepseek-flash")
				require.Equal(d, h.status, resp.StatusCode, body)
				var told struct {
					Error struct{ Message string }
				}
				require.NoError(d, json.Unmarshal([]byte(body), &told), body)
				require.Equal(d, h.say, told.Error.Message)
				if strings.HasPrefix(h.shape, `{"error"`) {
					require.Equal(d, h.shape, body, "as it is")
				}
			})
		})
	}
	// With DeepSeek well, nobody else is asked; without, the second are, and none
	// of what is in the file is left unasked.
	t.Run("in order", func(t *testing.T) {
		behind(t, text, handlers, func(d *door) {
			for range 20 {
				d.ask("deepseek-flash")
			}
			for _, s := range d.take() {
				require.Equal(d, "api.deepseek.com", s.host)
			}
			d.handlers = maps.Clone(handlers)
			d.handlers["api.deepseek.com"] = says(503, "")
			asked := map[string]int{}
			for range 100 {
				resp, _ := d.ask("deepseek-flash")
				require.Equal(d, 200, resp.StatusCode)
				asked[resp.Header.Get("Seawall-Endpoint")]++
			}
			require.NotContains(d, asked, "vllm", "it comes last")
			require.Len(d, asked, len(list)-2, "all of the same priority")
		})
	})
}

// Where no endpoint serves what is asked for, the request is at fault; where those
// that do are at fault, it may be tried again when the first of them can be.
func TestNoEndpoint(t *testing.T) {
	text := `
endpoints:
  - {name: a, base_url: https://a.example, accounts: [{keys: env:A_API_KEY}], models: {deepseek-flash: a/flash}}
  - {name: b, base_url: https://b.example, accounts: [{keys: env:B_API_KEY}], models: {deepseek-flash: b/flash}}
retry: off
`
	broke := says(402, `{"error":{"message":"Insufficient Balance"}}`)
	behind(t, text, map[string]http.HandlerFunc{"a.example": broke, "b.example": broke}, func(d *door) {
		for model, want := range map[string]struct {
			status     int
			retryAfter bool
		}{"deepseek-v4-pro": {400, false}, "deepseek-flash": {503, true}} {
			if want.status == 503 {
				d.ask(model) // which finds out that neither can
				time.Sleep(time.Minute)
			}
			resp, body := d.ask(model)
			require.Equal(d, want.status, resp.StatusCode, body)
			require.Equal(d, want.retryAfter, resp.Header.Get("Retry-After") != "")
			require.Equal(d, "false", resp.Header.Get("X-Should-Retry"))
			require.Contains(d, body, `"code":"no_endpoint"`)
			require.Contains(d, body, "a: ")
			require.Contains(d, body, "b: ")
		}
	})
}

func TestRegions(t *testing.T) {
	after := func(wait time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(wait)
			says(200, hello)(w, r)
		}
	}
	behind(t, readmeBlock(t, "region-east"), map[string]http.HandlerFunc{
		"east.example": after(500 * time.Millisecond), "west.example": after(100 * time.Millisecond),
	}, func(d *door) {
		count := func(n int) map[string]int {
			asked := map[string]int{}
			for range n {
				d.ask("deepseek-flash")
			}
			for _, s := range d.take() {
				asked[s.host]++
			}
			return asked
		}
		count(20) // in which it is measured
		asked := count(200)
		require.Greater(d, asked["west.example"], 2*asked["east.example"])
		require.Positive(d, asked["east.example"], "or nobody would notice that it is faster now: %v", asked)

		d.handlers["east.example"], d.handlers["west.example"] = after(100*time.Millisecond), after(500*time.Millisecond)
		count(100)
		asked = count(200)
		require.Greater(d, asked["east.example"], 2*asked["west.example"])
	})
}

func TestFallbackModels(t *testing.T) {
	key := "sk-seawall-limited"
	text := `
accounts: [{keys: env:DEEPSEEK_API_KEY}]
retry: {max_attempts: 2}
fallback_models: {deepseek-v4-pro: [deepseek-flash]}
clients:
  - {name: any, keys: ` + gateway.HashKey("sk-seawall-any") + `}
  - {name: limited, keys: ` + gateway.HashKey(key) + `, models: [deepseek-v4-pro]}
`
	behind(t, text, map[string]http.HandlerFunc{"api.deepseek.com": nil}, func(d *door) {
		d.handlers["api.deepseek.com"] = func(w http.ResponseWriter, r *http.Request) {
			if seen := d.seen[len(d.seen)-1]; seen.body["model"] == "deepseek-v4-pro" {
				says(503, "")(w, r)
				return
			}
			says(200, hello)(w, r)
		}
		resp, body := d.ask("deepseek-v4-pro", "sk-seawall-any")
		require.Equal(d, 200, resp.StatusCode, body)
		require.Equal(d, "deepseek-flash", resp.Header.Get("Seawall-Fallback"))
		resp, body = d.ask("deepseek-v4-pro", key)
		require.Equal(d, 503, resp.StatusCode, "%s: not by a model that is not its own", body)
		require.Empty(d, resp.Header.Get("Seawall-Fallback"))
	})
}

// What was learned of hosts stays when the file changes.
func TestReloadOfEndpoints(t *testing.T) {
	const text = `
cache: {ttl: 1h}
breaker: {in_a_row: 3, open_for: 1h, max_open_for: 2h}
retry: {max_attempts: 3}
endpoints:
  - {name: a, base_url: 'https://a.example', accounts: [{keys: env:A_KEY}]}
  - {name: b, base_url: 'https://b.example', priority: 1, accounts: [{keys: env:B_KEY}]}
`
	behind(t, text, map[string]http.HandlerFunc{"a.example": says(503, ""), "b.example": says(200, hello)}, func(d *door) {
		for i := range 20 { // until a is left alone
			resp, body := d.ask("deepseek-flash")
			require.Equal(d, 200, resp.StatusCode, body)
			require.Equal(d, "miss", resp.Header.Get("Seawall-Cache"))
			resp, _ = d.repeat("deepseek-flash", i+1)
			require.Equal(d, "hit", resp.Header.Get("Seawall-Cache"))
		}
		before := d.g.Transport().Stats()
		d.take()
		d.reload(strings.Replace(text, "priority: 1,", "priority: 1, weight: 3,", 1) + "hedging: on\n")
		require.Equal(d, before, d.g.Transport().Stats())
		resp, _ := d.repeat("deepseek-flash", 1)
		require.Equal(d, "hit", resp.Header.Get("Seawall-Cache"))
		require.Empty(d, d.take())

		// Another host of the same name is another one.
		d.handlers["c.example"] = says(200, hello)
		d.reload(strings.Replace(text, "https://a.example", "https://c.example", 1))
		resp, _ = d.ask("deepseek-flash")
		require.Equal(d, "a", resp.Header.Get("Seawall-Endpoint"))
		require.Equal(d, "c.example", d.take()[0].host)
	})
}
