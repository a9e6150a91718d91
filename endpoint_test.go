package deepseek

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndpointConfigErrors(t *testing.T) {
	one := []Account{{Keys: []string{"sk-1"}}}
	for _, c := range []struct {
		field, value string
		endpoints    []Endpoint
	}{
		{`Endpoint.BaseURL`, `"http://host.example"`, []Endpoint{{BaseURL: "http://host.example", Accounts: one}}},
		{`Endpoint "x".BaseURL`, `"https://host.example"`, []Endpoint{{Name: "x", BaseURL: "https://u:" + secretKey + "@host.example", Accounts: one}}},
		{`Endpoint.Name`, `"a b"`, []Endpoint{{Name: "a b", Accounts: one}}},
		{`Endpoint.Name`, `"a\nb"`, []Endpoint{{Name: "a\nb", Accounts: one}}},
		{`Endpoint.Name`, `"x"`, []Endpoint{{Name: "x", Accounts: one}, {Name: "x", BaseURL: "https://b.example", Accounts: one}}},
		{`Endpoint.Name`, `"api.deepseek.com"`, []Endpoint{{Accounts: one}, {Accounts: one}}},
		{`Endpoint "api.deepseek.com".Accounts`, ``, []Endpoint{{}}},
		{`Endpoint "x".Weight`, `-1`, []Endpoint{{Name: "x", Weight: -1, Accounts: one}}},
		{`Endpoint "x".Models`, `"a": ""`, []Endpoint{{Name: "x", Models: map[string]string{"a": ""}, Accounts: one}}},
		{`Endpoint "x".Models`, `"": "a"`, []Endpoint{{Name: "x", Models: map[string]string{"": "a"}, Accounts: one}}},
		{`Endpoint "x".Dialect`, `"french"`, []Endpoint{{Name: "x", Dialect: "french", Accounts: one}}},
		{`Endpoint "x".Auth`, `"basic"`, []Endpoint{{Name: "x", Auth: "basic", Accounts: one}}},
		{`Endpoint "x".Paths`, `"responses"`, []Endpoint{{Name: "x", BaseURL: "https://b.example", Paths: []string{"responses"}, Accounts: one}}},
		{`Endpoint "x".Paths`, `[/x]`, []Endpoint{{Name: "x", Paths: []string{"/x"}, Accounts: one}}},
		{`Endpoint "x".Drop`, `"model"`, []Endpoint{{Name: "x", Drop: []string{"model"}, Accounts: one}}},
		{`Endpoint "x".Drop`, `"messages.content"`, []Endpoint{{Name: "x", Drop: []string{"messages.content"}, Accounts: one}}},
		{`Endpoint "x".Drop`, `"messages."`, []Endpoint{{Name: "x", Drop: []string{"messages."}, Accounts: one}}},
		{`Account "m".Name`, ``, []Endpoint{{Name: "x", Accounts: []Account{{Name: "m", Keys: []string{"sk-1"}}}}, {Name: "y", Accounts: []Account{{Name: "m", Keys: []string{"sk-2"}}}}}},
		{`Account "x-1".Keys`, ``, []Endpoint{{Name: "x", Accounts: []Account{{}}}}},
	} {
		_, err := NewTransport(WithEndpoints(c.endpoints...))
		var bad *ConfigError
		require.ErrorAs(t, err, &bad, c.field)
		require.Equal(t, c.field+" "+c.value, bad.Field+" "+bad.Value)
		require.NotContains(t, err.Error(), secretKey)
	}
	for _, opts := range [][]Option{
		{WithEndpoints()},
		{WithEndpoints(mainAndSpare()...), WithBaseURL(DefaultBaseURL)},
		{WithAPIKeys("sk-1"), WithEndpoints(mainAndSpare()...)},
		{WithAccounts(one...), WithEndpoints(mainAndSpare()...)},
	} {
		_, err := NewTransport(opts...)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad)
		require.Contains(t, err.Error(), "ndpoint")
	}
	_, err := NewRoute(nil, nil)
	require.Error(t, err)
	_, err = NewRoute([]Endpoint{{}}, nil)
	require.Error(t, err)
}

// Nothing that prints an endpoint prints its keys.
func TestEndpointsTellNoKeys(t *testing.T) {
	e := mainAndSpare()[0]
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(format, e), secretKey)
		require.NotContains(t, fmt.Sprintf(format, []Endpoint{e}), secretKey)
		require.NotContains(t, fmt.Sprintf(format, &e), secretKey)
	}
}

// The environment is for the one endpoint that is not configured.
func TestEndpointsStandInPlaceOfTheEnvironment(t *testing.T) {
	t.Setenv("DEEPSEEK_API_KEY", "sk-env")
	t.Setenv("DEEPSEEK_BASE_URL", "https://env.example")
	tr, err := NewTransport(WithEndpoints(mainAndSpare()...))
	require.NoError(t, err)
	stats := tr.Stats()
	require.Len(t, stats.Endpoints, 2)
	require.Len(t, stats.Accounts, 2)
	require.Equal(t, "main", stats.Endpoints[0].Name)
	require.Equal(t, EndpointUp, stats.Endpoints[0].State)
}

func TestWhatIsDeepSeek(t *testing.T) {
	for host, want := range map[string]bool{
		"api.deepseek.com": true, "DeepSeek.com": true, "eu.api.deepseek.com.": true, "127.0.0.1": true, "localhost": true, "::1": true,
		"notdeepseek.com": false, "deepseek.com.evil.example": false, "api.siliconflow.cn": false, "": false,
	} {
		require.Equal(t, want, isDeepSeek(host), host)
	}
}

// The typed client's paths, for every form of base URL.
func TestEndpointURLs(t *testing.T) {
	for _, c := range []struct{ base, path, want string }{
		{"https://api.deepseek.com", "/chat/completions", "https://api.deepseek.com/chat/completions"},
		{"https://api.deepseek.com/v1", "/beta/completions", "https://api.deepseek.com/beta/completions"},
		{"https://api.deepseek.com/beta/", "/chat/completions", "https://api.deepseek.com/chat/completions"},
		{"https://api.deepseek.com/v1", "/chat/completions", "https://api.deepseek.com/chat/completions"},
		{"http://localhost:8000/v1", "/chat/completions", "http://localhost:8000/v1/chat/completions"},
		{"http://localhost:8000/v1/", "/models/a", "http://localhost:8000/v1/models/a"},
		{"http://localhost:8000/v1", "/beta/chat/completions", "http://localhost:8000/beta/chat/completions"},
		{"http://localhost:8000/beta", "/chat/completions", "http://localhost:8000/chat/completions"},
		{"http://localhost:8000", "/chat/completions", "http://localhost:8000/chat/completions"},
		{"https://relay.example/v1", "/chat/completions", "https://relay.example/v1/chat/completions"},
		{"https://relay.example/a/v3", "/models/a%2Fb", "https://relay.example/a/v3/models/a%2Fb"},
	} {
		e, err := newEndpoint(Endpoint{BaseURL: c.base, Accounts: []Account{{Keys: []string{"sk-1"}}}})
		require.NoError(t, err)
		require.Equal(t, c.want, e.url(c.path))
	}
}

// Which rules a client's requests must keep follows from its endpoints.
func TestWhoseRulesHold(t *testing.T) {
	at := func(base string, dialect Dialect, models map[string]string) Endpoint {
		return Endpoint{Name: base, BaseURL: base, Dialect: dialect, Models: models, Accounts: []Account{{Keys: []string{"sk-1"}}}}
	}
	for _, c := range []struct {
		name      string
		endpoints []Endpoint
		want      rules
	}{
		{"DeepSeek", []Endpoint{at(DefaultBaseURL, "", nil)}, rules{deepSeek: true, names: true, beta: true, prefix: true}},
		{"models of the caller's", []Endpoint{at(DefaultBaseURL, "", map[string]string{"DeepSeek-V4": ModelPro})}, rules{deepSeek: true, beta: true, prefix: true}},
		{"a stand-in", []Endpoint{at("http://127.0.0.1:1", "", nil)}, rules{deepSeek: true, beta: true, prefix: true}},
		{"maybe vLLM", []Endpoint{at("http://localhost:8000/v1", "", nil)}, rules{beta: true, prefix: true}},
		{"surely a stand-in", []Endpoint{at("http://localhost:8000/v1", DialectDeepSeek, nil)}, rules{deepSeek: true, beta: true, prefix: true}},
		{"surely none", []Endpoint{at("http://localhost:8000", DialectOpenAI, nil)}, rules{}},
		{"another host", []Endpoint{at("https://host.example/v1", "", nil)}, rules{}},
		{"another host, then DeepSeek", []Endpoint{at("https://host.example/v1", "", nil), at(DefaultBaseURL, "", nil)}, rules{prefix: true}},
	} {
		all, err := newEndpoints(c.endpoints)
		require.NoError(t, err)
		require.Equal(t, c.want, rulesOf(all), c.name)
	}
}

// Whatever the address, a call that goes to another endpoint goes to its host
// and below its base.
func FuzzRouteAddress(f *testing.F) {
	for _, s := range []string{
		"https://api.deepseek.com/chat/completions", "https://api.deepseek.com/v1/models/a%2F..%2fb?x=1#y", "https://api.deepseek.com//evil.example/chat/completions",
		"https://api.deepseek.com/v1/../../chat/completions", "https://user@api.deepseek.com:443/beta/chat/completions", "https:api.deepseek.com/chat/completions",
	} {
		f.Add(s)
	}
	other, err := newEndpoint(Endpoint{BaseURL: "https://other.deepseek.com/base", Accounts: []Account{{Keys: []string{"sk-1"}}}})
	require.NoError(f, err)
	home, err := newEndpoint(Endpoint{Accounts: []Account{{Keys: []string{"sk-1"}}}})
	require.NoError(f, err)
	all := []*endpoint{home, other}
	r := &route{endpoints: all, origins: originsOf(all)}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		at, rest, err := r.locate(u)
		if err != nil || at != home || !other.serves(rest) {
			return
		}
		to := other.at(u, rest)
		if to.Host != "other.deepseek.com" || to.Scheme != "https" || !strings.HasPrefix(to.EscapedPath(), "/base/") || to.User != nil || to.Opaque != "" {
			t.Fatalf("%q became %q", s, to)
		}
	})
}

func TestEqualSecrets(t *testing.T) {
	const secret = "Bearer sk-0123456789abcdef"
	for i := range len(secret) {
		require.True(t, equalSecrets(secret[i:], secret[i:]), i)
		require.False(t, equalSecrets(secret, secret[:i]+"!"+secret[i+1:]), i)
		require.False(t, equalSecrets(secret, secret[:i]), i)
	}
	require.True(t, equalSecrets("", ""))
}

// The request goes out with the pool's key and with no other, under whatever
// name; the caller's header is not changed, and not copied if it is right.
func TestHeaderHasTheOneKey(t *testing.T) {
	key := newKey("sk-right")
	for _, tt := range []struct {
		name   string
		auth   Auth
		path   string
		header http.Header
		want   http.Header
		copied bool
	}{
		{"nothing yet", AuthBearer, "/chat/completions", nil, http.Header{"Authorization": {"Bearer sk-right"}}, true},
		{"the same key", AuthBearer, "/chat/completions", http.Header{"Authorization": {"Bearer sk-right"}, "Accept": {"a"}},
			http.Header{"Authorization": {"Bearer sk-right"}, "Accept": {"a"}}, false},
		{"another key", AuthBearer, "/chat/completions", http.Header{"Authorization": {"Bearer sk-wrong"}},
			http.Header{"Authorization": {"Bearer sk-right"}}, true},
		{"the same key and more", AuthBearer, "/chat/completions", http.Header{"Authorization": {"Bearer sk-right", "Bearer sk-wrong"}},
			http.Header{"Authorization": {"Bearer sk-right"}}, true},
		{"the same key, and one by another name", AuthBearer, "/chat/completions",
			http.Header{"Authorization": {"Bearer sk-right"}, "X-Api-Key": {"sk-wrong"}}, http.Header{"Authorization": {"Bearer sk-right"}}, true},
		{"a name in lower case", AuthBearer, "/chat/completions", http.Header{"authorization": {"Bearer sk-wrong"}},
			http.Header{"Authorization": {"Bearer sk-right"}}, true},
		{"the same key on the Anthropic path", AuthBearer, "/anthropic/v1/messages", http.Header{"X-Api-Key": {"sk-right"}},
			http.Header{"X-Api-Key": {"sk-right"}}, false},
		{"the form of the other path", AuthBearer, "/anthropic/v1/messages", http.Header{"Authorization": {"Bearer sk-right"}},
			http.Header{"X-Api-Key": {"sk-right"}}, true},
		{"Azure's", AuthAPIKey, "/chat/completions", http.Header{"Api-Key": {"sk-wrong"}}, http.Header{"Api-Key": {"sk-right"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.header.Clone()
			got := tt.auth.header(&http.Request{URL: &url.URL{Path: tt.path}, Header: tt.header}, key)
			require.Equal(t, tt.want, got)
			require.Equal(t, before, tt.header)
			same := reflect.ValueOf(got).Pointer() == reflect.ValueOf(tt.header).Pointer()
			require.Equal(t, tt.copied, !same)
		})
	}
}
