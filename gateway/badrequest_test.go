package gateway_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/gateway"
)

// Requests that are not for DeepSeek, or for nobody, to the letter. None of
// them reaches the server, and each is told what is wrong with it.
func TestBadRequests(t *testing.T) {
	post := func(path, body string, headers ...string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s",
			path, len(body), strings.Join(headers, ""), body)
	}
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: gw\r\n\r\n" }
	chunked := func(headers, rest string) string {
		return "POST /chat/completions HTTP/1.1\r\nHost: gw\r\n" + headers + "\r\n" + rest
	}
	cases := []struct {
		name, raw string
		status    int
		code      string // "": net/http answers by itself, in plain text
	}{
		{"declared too large", "POST /chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: 100000000\r\n\r\n", 413, "request_too_large"},
		{"declared too large, asking first", "POST /chat/completions HTTP/1.1\r\nHost: gw\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n\r\n", 413, "request_too_large"},
		{"too large", chunked("Transfer-Encoding: chunked\r\n", "2000\r\n"+strings.Repeat(" ", 0x2000)+"\r\n0\r\n\r\n"), 413, "request_too_large"},
		{"no body", post("/chat/completions", ""), 400, "invalid_json"},
		{"no JSON", post("/chat/completions", "model=deepseek-flash"), 400, "invalid_json"},
		{"JSON cut short", post("/chat/completions", chatBody[:len(chatBody)-1]), 400, "invalid_json"},
		{"two values", post("/chat/completions", chatBody+chatBody), 400, "invalid_json"},
		{"array", post("/responses", "["+chatBody+"]"), 400, "invalid_json"},
		{"nested too deep", post("/chat/completions", `{"a":`+strings.Repeat("[", 3000)), 400, "invalid_json"},
		{"two models", post("/chat/completions", `{"model":"deepseek-flash","model":"deepseek-v4-pro"}`), 400, "invalid_json"},
		{"a second model in disguise", post("/chat/completions", `{"model":"deepseek-flash","mod\u0065l":"deepseek-v4-pro"}`), 400, "invalid_json"},
		{"model is no string", post("/chat/completions", `{"model":["deepseek-flash"]}`), 400, "invalid_model"},
		{"model of a long name", post("/chat/completions", `{"model":"`+strings.Repeat("x", 300)+`"}`), 400, "invalid_model"},
		{"compressed", post("/chat/completions", chatBody, "Content-Encoding: gzip\r\n"), 415, "unsupported_encoding"},

		{"unknown path", get("/"), 404, "unknown_path"},
		{"unknown path below a known one", post("/chat/completions/x", chatBody), 404, "unknown_path"},
		{"unknown part", post("/v2/chat/completions", chatBody), 404, "unknown_path"},
		{"part twice", post("/v1/v1/chat/completions", chatBody), 404, "unknown_path"},
		{"unknown path of Anthropic", post("/anthropic/v1/complete", chatBody), 404, "unknown_path"},
		{"slash at the end", post("/chat/completions/", chatBody), 404, "unknown_path"},
		{"two slashes", post("//chat/completions", chatBody), 404, "unknown_path"},
		{"traversal", get("/models/../user/balance"), 404, "unknown_path"},
		{"traversal in disguise", get("/models/%2e%2e/user/balance"), 404, "unknown_path"},
		{"traversal with its slashes in disguise", get("/models/..%2fuser%2fbalance"), 404, "unknown_path"},
		{"traversal twice in disguise", get("/models/%252e%252e/user/balance"), 404, "unknown_path"},
		{"traversal with backslashes", get(`/models/..\user\balance`), 404, "unknown_path"},
		{"path in disguise", get("/%6dodels"), 404, "unknown_path"},
		{"path with a zero", get("/models/a%00b"), 404, "unknown_path"},
		{"path with a line end", get("/models/a%0d%0aX-Evil:1"), 404, "unknown_path"},
		{"path with a parameter", get("/models;x=1"), 404, "unknown_path"},
		{"wrong method", get("/chat/completions"), 405, "method_not_allowed"},
		{"method in lower case", "get /models HTTP/1.1\r\nHost: gw\r\n\r\n", 405, "method_not_allowed"},
		{"unknown method", "BREW /models HTTP/1.1\r\nHost: gw\r\n\r\n", 405, "method_not_allowed"},
		{"TRACE", "TRACE /models HTTP/1.1\r\nHost: gw\r\n\r\n", 405, "method_not_allowed"},

		{"absolute form for another host", "GET http://evil.example/models HTTP/1.1\r\nHost: gw\r\n\r\n", 421, "misdirected_request"},
		{"absolute form for the server", "GET https://api.deepseek.com/user/balance HTTP/1.1\r\nHost: api.deepseek.com\r\n\r\n", 421, "misdirected_request"},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 421, "misdirected_request"},
		{"authority without a scheme", get("//evil.example/models"), 404, "unknown_path"},

		// What is no HTTP at all is answered by net/http.
		{"two lengths", chunked("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400, ""},
		{"length with a sign", chunked("Content-Length: +5\r\n", "hello"), 400, ""},
		{"two lengths in one", chunked("Content-Length: 5, 6\r\n", "hello"), 400, ""},
		{"length below zero", chunked("Content-Length: -5\r\n", "hello"), 400, ""},
		{"length in hexadecimal", chunked("Content-Length: 0x5\r\n", "hello"), 400, ""},
		{"transfer coding twice", chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 501, ""},
		{"chunk of no length", chunked("Transfer-Encoding: chunked\r\n", "x\r\nhello\r\n0\r\n\r\n"), 400, "request_cut"},
		{"chunk of a length beyond all", chunked("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 400, "request_cut"},
		{"chunk longer than it says", chunked("Transfer-Encoding: chunked\r\n", "2\r\n{}{}\r\n0\r\n\r\n"), 400, "request_cut"},
		{"chunk with much beside it", chunked("Transfer-Encoding: chunked\r\n", "2;"+strings.Repeat("x", 8<<10)+"\r\n{}\r\n0\r\n\r\n"), 400, "request_cut"},
		{"unknown expectation", post("/chat/completions", chatBody, "Expect: miracles\r\n"), 417, ""},
		{"CR in the request line", "GET /models\rHTTP/1.1\r\nHost: gw\r\n\r\n", 400, ""},
		{"blank in the path", "GET /models /x HTTP/1.1\r\nHost: gw\r\n\r\n", 400, ""},
		{"unknown version", "GET /models HTTP/3.7\r\nHost: gw\r\n\r\n", 505, ""},
		{"unknown transfer coding", chunked("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501, ""},
		{"transfer coding in disguise", chunked("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400, ""},
		{"header without a name", chunked(": value\r\n", ""), 400, ""},
		{"blank before the colon", chunked("Content-Length : 5\r\n", "hello"), 400, ""},
		{"line folded", chunked("X-A: 1\r\n Content-Length: 5\r\n", ""), 400, "invalid_json"}, // joined, as RFC 9112 has it
		{"CR in a header value", chunked("X-A: 1\rX-Evil: 1\r\n", ""), 400, ""},
		{"zero in a header value", chunked("X-A: 1\x00\r\n", ""), 400, ""},
		{"no host", "GET /models HTTP/1.1\r\n\r\n", 400, ""},
		{"two hosts", "GET /models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, ""},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, "unknown_path"},
	}
	setup{settings: gateway.Settings{MaxRequest: 4 << 10}}.run(t, func(b *bench) {
		for _, c := range cases {
			resp, body := b.raw(c.raw)
			assert.Equal(b, c.status, resp.StatusCode, "%s: %s", c.name, body)
			if c.code == "" {
				continue
			}
			assert.Equal(b, "application/json", resp.Header.Get("Content-Type"), c.name)
			var data struct {
				Type  string
				Error struct{ Type, Message, Code string }
			}
			require.NoError(b, json.Unmarshal([]byte(body), &data), "%s: %s", c.name, body)
			assert.NotEmpty(b, data.Error.Message, c.name)
			assert.NotEmpty(b, data.Error.Type, c.name)
			if strings.Contains(c.raw, " /anthropic/") {
				assert.Equal(b, "error", data.Type, c.name)
				continue
			}
			assert.Equal(b, c.code, data.Error.Code, c.name)
		}
		for _, r := range b.srv.Requests() {
			assert.Fail(b, "reached the server", "%s %s %s", r.Method, r.Path, r.Body)
		}
		require.Contains(b, b.whole(b.post("/chat/completions", chatBody)), `"choices"`)
	})
}

// raw sends bytes on a connection of their own and returns the response to them.
func (b *bench) raw(text string) (*http.Response, string) {
	b.Helper()
	conn, err := b.client.Transport.(*http.Transport).DialContext(b.Context(), "tcp", "gw")
	require.NoError(b, err)
	defer conn.Close()
	_, err = io.WriteString(conn, text)
	require.NoError(b, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(b, err, "%q", text)
	body, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	return resp, string(body)
}

// Who has no key, or not any more, is told so and nothing else, whatever the
// request is, and nothing of it reaches the server.
func TestStrangers(t *testing.T) {
	const revoked = "sk-seawall-revoked-0123456789"
	settings := guests(gateway.Client{})
	settings.Clients = append(settings.Clients, gateway.Client{Name: "gone", Keys: []string{gateway.HashKey(revoked)}})
	setup{settings: settings}.run(t, func(b *bench) {
		require.Equal(b, http.StatusOK, b.ask(revoked, "/models", "").StatusCode)
		require.NoError(b, b.reload(guests(gateway.Client{})))
		before := len(b.srv.Requests())
		for _, c := range []struct{ name, header string }{
			{"no key", ""},
			{"wrong key", "Authorization: Bearer sk-wrong\r\n"},
			{"revoked key", "Authorization: Bearer " + revoked + "\r\n"},
			{"wrong key before a right one", "Authorization: Bearer sk-wrong\r\nx-api-key: " + aliceKey + "\r\n"},
		} {
			for _, line := range []string{"GET /models", "GET /nowhere", "PUT /chat/completions", "GET http://evil.example/models"} {
				resp, body := b.raw(line + " HTTP/1.1\r\nHost: gw\r\n" + c.header + "\r\n")
				assert.Equal(b, http.StatusUnauthorized, resp.StatusCode, "%s, %s: %s", c.name, line, body)
				assert.Contains(b, body, `"code":"invalid_api_key"`, c.name)
				assert.Equal(b, "Bearer", resp.Header.Get("Www-Authenticate"), c.name)
				assert.NotContains(b, body, "sk-", c.name)
			}
		}
		require.Len(b, b.srv.Requests(), before)
		require.Equal(b, http.StatusOK, b.ask(aliceKey, "/models", "").StatusCode)
	})
}

// A client cannot have the gateway leave out what it puts in itself, nor pass on
// what is its own, by calling a header one of the connection.
func TestConnectionHeaders(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		resp, body := b.raw(fmt.Sprintf("POST /chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n"+
			"Connection: Authorization, Content-Type, Content-Length, close\r\nAuthorization: Bearer mine\r\nUpgrade: h2c\r\nTe: trailers\r\n"+
			"Proxy-Authorization: Basic x\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\nX-Kept: yes\r\n\r\n%s", len(chatBody), chatBody))
		require.Equal(b, http.StatusOK, resp.StatusCode, body)
		got := b.srv.Requests()[0]
		require.Equal(b, upstreamKey, got.Key)
		require.Equal(b, chatBody, string(got.Body))
		require.Equal(b, "yes", got.Header.Get("X-Kept"))
		for _, name := range []string{"Connection", "Upgrade", "Te", "Proxy-Authorization", "X-Forwarded-For", "Cookie"} {
			require.Empty(b, got.Header.Get(name), name)
		}
	})
}

// Where a length and chunks contradict each other, the chunks count and what
// follows them is a request of its own, to us: the server sees each as one.
func TestSmuggling(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		const hidden = "GET /user/balance HTTP/1.1\r\nHost: gw\r\n\r\n"
		body := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(chatBody), chatBody)
		_, _ = b.raw(fmt.Sprintf("POST /chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n%s%s",
			len(body)+len(hidden), body, hidden))
		time.Sleep(time.Second)
		for _, r := range b.srv.Requests() {
			if r.Method == http.MethodPost {
				assert.Equal(b, chatBody, string(r.Body))
				assert.Empty(b, r.Header.Get("Transfer-Encoding"))
			}
			assert.NotContains(b, string(r.Body), "balance")
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add("POST", "/chat/completions", []byte(chatBody))
	f.Add("GET", "/models/../user/balance", []byte(nil))
	f.Add("GET", "/models/..0", []byte(nil)) // a name like others
	f.Add("POST", "/anthropic/v1/messages?x=%2e", []byte(`{"mod\u0065l":1}`))
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		gateway.CheckRequest(t, method, target, body)
	})
}
