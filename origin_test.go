package deepseek

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOriginLetsOnlyItsOwnThrough(t *testing.T) {
	for _, c := range []struct {
		base, url string
		ok        bool
	}{
		{"https://api.deepseek.com", "https://api.deepseek.com/chat/completions", true},
		{"https://api.deepseek.com", "https://api.deepseek.com:443/anthropic/v1/messages", true},
		{"https://api.deepseek.com:443/v1", "https://API.DeepSeek.com/beta/completions", true},
		{"https://api.deepseek.com", "https://api.deepseek.com./models", true},
		{"https://api.deepseek.com", "http://api.deepseek.com/models", false},
		{"https://api.deepseek.com", "https://api.deepseek.com:8443/models", false},
		{"https://api.deepseek.com", "https://api.deepseek.com.evil.example/models", false},
		{"https://api.deepseek.com", "https://evil.example/api.deepseek.com", false},
		{"https://api.deepseek.com", "https://api.deepseek.com@evil.example/", false},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8080/x", true},
		{"http://127.0.0.1:8080", "http://127.0.0.1:8081/x", false},
		{"http://localhost", "http://localhost:80/x", true},
		{"http://[::1]:9/", "http://[::1]:9/x", true},
	} {
		m, err := NewOrigin(c.base)
		require.NoError(t, err, c.base)
		base := scripted(answers)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
		require.NoError(t, err)
		resp, err := m(base).RoundTrip(req)
		if c.ok {
			require.NoError(t, err, c.url)
			_ = resp.Body.Close()
			continue
		}
		var oe *OriginError
		require.ErrorAs(t, err, &oe, c.url)
		require.ErrorIs(t, err, ErrInvalidRequest)
		require.Contains(t, err.Error(), oe.Got)
		require.Contains(t, err.Error(), oe.Want)
		require.NotEqual(t, oe.Got, oe.Want)
		require.Empty(t, base.sent())
	}
}

// A redirect goes through the transport again; it must not take the key along.
func TestRedirectToOtherHostGetsNoKey(t *testing.T) {
	var elsewhere []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere = append(elsewhere, r.Header.Clone())
	}))
	defer other.Close()
	code := 302
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/stolen", code)
	}))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: transportOver(t, base, WithBaseURL(srv.URL))}
	for _, code = range []int{301, 302, 303, 307, 308} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/chat/completions", strings.NewReader(smallRequest))
		require.NoError(t, err)
		_, err = client.Do(req)
		var oe *OriginError
		require.ErrorAs(t, err, &oe)
		require.Equal(t, &OriginError{Got: other.URL, Want: srv.URL}, oe)
		require.NotContains(t, err.Error(), secretKey)
	}
	require.Empty(t, elsewhere)
}

func TestRedirectWithinOriginIsFollowedWithTheKey(t *testing.T) {
	base := scripted(reply(307, "", []string{"Location: /v1/chat/completions"}), answers)
	client := &http.Client{Transport: transportOver(t, base)}
	resp, err := client.Do(chatRequest(t.Context(), false))
	require.NoError(t, err)
	_, err = readBody(resp)
	require.NoError(t, err)
	all := base.sent()
	require.Len(t, all, 2)
	require.Equal(t, "Bearer "+secretKey, all[1].header.Get("Authorization"))
	require.Equal(t, smallRequest, all[1].body)
}

func TestHostHeaderIsThatOfTheURL(t *testing.T) {
	base := scripted(answers)
	req := chatRequest(t.Context(), false)
	req.Host = "evil.example"
	resp, err := transportOver(t, base).RoundTrip(req)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Contains(t, []string{"", "api.deepseek.com"}, base.sent()[0].req.Host)
	require.Equal(t, "evil.example", req.Host, "the caller's request is not changed")
}

func TestBaseURLTable(t *testing.T) {
	for _, s := range []string{
		"https://api.deepseek.com", "https://api.deepseek.com/", "https://api.deepseek.com/v1", "HTTPS://Api.DeepSeek.com:443/beta/",
		"http://localhost:8080", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:8080/x",
	} {
		u, err := parseBaseURL(s)
		require.NoError(t, err, s)
		require.False(t, strings.HasSuffix(u.Path, "/"))
	}
	for _, s := range []string{
		"", "api.deepseek.com", "//api.deepseek.com", "ftp://api.deepseek.com", "https://", "https:///v1", "http://api.deepseek.com",
		"http://10.0.0.1", "http://localhost.evil.example", "https://api.deepseek.com?x=1", "https://api.deepseek.com#x",
		"https://user:" + secretKey + "@api.deepseek.com", "https://api.deepseek.com?key=" + secretKey, "https://api.deepseek.com#" + secretKey,
		"https://user:" + secretKey + "@api.deepseek.com:port", "https://user:" + secretKey + "@api.deepseek.com/\x7f", "http://127.0.0.1.evil.example",
	} {
		_, err := parseBaseURL(s)
		var ce *ConfigError
		require.ErrorAs(t, err, &ce, s)
		require.Equal(t, "BaseURL", ce.Field)
		require.NotContains(t, err.Error(), secretKey)
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("https://api.deepseek.com@evil.example/")
	f.Add("https://API.deepseek.com:0443/")
	f.Add("https://api.deepseek.com%2eevil.example/")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		if originOf(u) == "https://api.deepseek.com:443" && strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") != "api.deepseek.com" {
			t.Fatalf("%q passes", s)
		}
	})
}
