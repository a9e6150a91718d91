package statuspage_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/gateway/statuspage"
)

// get asks a page, from this machine unless change says otherwise.
func get(p *statuspage.Page, method, path string, change func(*http.Request)) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:54321", "localhost:8081"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

func TestFiles(t *testing.T) {
	p := statuspage.New(statuspage.Settings{})
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/index.html": "text/html; charset=utf-8", "/style.css": "text/css; charset=utf-8",
		"/status.js": "text/javascript; charset=utf-8", "/plot.js": "text/javascript; charset=utf-8", "/theme.js": "text/javascript; charset=utf-8",
		"/icon.svg": "image/svg+xml",
	} {
		resp := get(p, http.MethodGet, path, nil)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		require.NotEmpty(t, body)
		assert.Equal(t, kind, resp.Header.Get("Content-Type"), path)
		assert.Equal(t, "no-cache", resp.Header.Get("Cache-Control"))
		tag := resp.Header.Get("ETag")
		require.NotEmpty(t, tag)
		again := get(p, http.MethodGet, path, func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		assert.Equal(t, http.StatusNotModified, again.StatusCode)
		head := get(p, http.MethodHead, path, nil)
		body, _ = io.ReadAll(head.Body)
		assert.Empty(t, body)
		assert.Equal(t, tag, head.Header.Get("ETag"))
	}
	for _, r := range []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/nothing", http.StatusNotFound}, {http.MethodGet, "/page/index.html", http.StatusNotFound},
		{http.MethodGet, "/../page.go", http.StatusNotFound}, {http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/events", http.StatusMethodNotAllowed}, {http.MethodHead, "/events", http.StatusOK},
	} {
		resp := get(p, r.method, r.path, nil)
		assert.Equal(t, r.status, resp.StatusCode, "%s %s", r.method, r.path)
		for name, part := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			assert.Contains(t, resp.Header.Get(name), part, "%s %s", r.method, r.path)
		}
		assert.NotContains(t, resp.Header.Get("Content-Security-Policy"), "unsafe")
	}
}

// The page asks for nothing from elsewhere, has nothing that its policy forbids,
// and makes no markup of what it is sent.
func TestFilesKeepToThePolicy(t *testing.T) {
	entries, err := os.ReadDir("page")
	require.NoError(t, err)
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile("page/" + e.Name())
		require.NoError(t, err)
		all[e.Name()] = string(data)
		text := strings.ReplaceAll(string(data), `xmlns="http://www.w3.org/2000/svg"`, "")
		for _, bad := range []string{"http:", "https:", "//cdn", "@import", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"} {
			assert.NotContains(t, text, bad, e.Name())
		}
	}
	html := all["index.html"]
	assert.Empty(t, regexp.MustCompile(`(?i)\son[a-z]+=|\sstyle=|<style|javascript:|<script>`).FindAllString(html, -1))
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		assert.False(t, ids[m[1]], "the id %s is there twice", m[1])
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`\$\("([^"]+)"\)`).FindAllStringSubmatch(all["status.js"], -1) {
		assert.True(t, ids[m[1]], "there is no element %s", m[1])
	}
	for _, m := range regexp.MustCompile(`aria-labelledby="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		assert.True(t, ids[m[1]], "there is no element %s", m[1])
	}
	// Both ways to be dark have the same colours.
	dark := regexp.MustCompile(`(?s)color-scheme: dark;(.*?)\}`).FindAllStringSubmatch(all["style.css"], -1)
	require.Len(t, dark, 2)
	assert.Equal(t, strings.Fields(dark[0][1]), strings.Fields(dark[1][1]))
}

func TestWhoMaySeeIt(t *testing.T) {
	key := gateway.NewKey()
	basic := func(password string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr, r.Host = "10.1.2.3:4", "status.example.org"
			r.SetBasicAuth("me", password)
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	open, locked := statuspage.New(statuspage.Settings{}), statuspage.New(statuspage.Settings{Keys: []string{gateway.HashKey("sk-other"), gateway.HashKey(key)}})
	shut := statuspage.New(statuspage.Settings{})
	shut.Close() // so that streams end
	for _, c := range []struct {
		what   string
		page   *statuspage.Page
		path   string
		change func(*http.Request)
		status int
	}{
		{"this machine", open, "/", nil, 200},
		{"over IPv6", open, "/", func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:54321", "[::1]:8081" }, 200},
		{"by a tunnel", open, "/", func(r *http.Request) { r.Host = "127.0.0.1" }, 200},
		{"from elsewhere", open, "/", func(r *http.Request) { r.RemoteAddr = "10.1.2.3:4" }, 403},
		{"by another name (DNS rebinding)", open, "/", func(r *http.Request) { r.Host = "evil.example.org:8081" }, 403},
		{"the same for the stream", open, "/events", func(r *http.Request) { r.Host = "evil.example.org:8081" }, 403},
		{"by no name", open, "/", func(r *http.Request) { r.Host = "" }, 403},
		{"the page's own stream", shut, "/events", header("Sec-Fetch-Site", "same-origin"), 200},
		{"another site's", open, "/events", header("Sec-Fetch-Site", "cross-site"), 403},
		{"a link to the page", open, "/", header("Sec-Fetch-Site", "cross-site"), 200},
		{"a key", locked, "/", basic(key), 200},
		{"a key as programs send it", locked, "/", header("Authorization", "bearer "+key), 200},
		{"no key", locked, "/", nil, 401},
		{"no key for the stream", locked, "/events", nil, 401},
		{"no key for a file", locked, "/style.css", nil, 401},
		{"a wrong key", locked, "/", basic(key + "x"), 401},
		{"an empty key", locked, "/", basic(""), 401},
		{"the hash", locked, "/", basic(gateway.HashKey(key)), 401},
		{"another scheme", locked, "/", header("Authorization", "Digest "+key), 401},
	} {
		resp := get(c.page, http.MethodGet, c.path, c.change)
		assert.Equal(t, c.status, resp.StatusCode, c.what)
		if c.status == 401 {
			assert.Contains(t, resp.Header.Get("WWW-Authenticate"), "Basic", c.what)
		}
	}
	locked.SetKeys([]string{gateway.HashKey("sk-other")})
	require.Equal(t, http.StatusUnauthorized, get(locked, http.MethodGet, "/", basic(key)).StatusCode, "the key was withdrawn")
	require.Equal(t, http.StatusOK, get(locked, http.MethodGet, "/", basic("sk-other")).StatusCode)
}

// Without a viewer the page counts, and takes a bounded time for it.
func BenchmarkOnEnd(b *testing.B) {
	p := statuspage.New(statuspage.Settings{})
	e := gateway.RequestEnd{ID: "0123456789abcdef", Path: "/chat/completions", Model: "deepseek-flash", Status: 200, Outcome: gateway.Answered, Duration: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		p.OnEnd(e)
	}
}
