package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

const (
	aliceKey = "sk-seawall-alice-0123456789"
	bobKey   = "sk-seawall-bob-0123456789"
)

// guests are settings with Alice, who has limits, and Bob, who has none.
func guests(alice gateway.Client) gateway.Settings {
	alice.Name, alice.Keys = "alice", []string{gateway.HashKey(aliceKey)}
	return gateway.Settings{Clients: []gateway.Client{alice, {Name: "bob", Keys: []string{gateway.HashKey(bobKey)}}}}
}

// ask makes a request with a key.
func (b *bench) ask(key, path, body string) *http.Response {
	b.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req := b.request(method, path, body)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := b.client.Do(req)
	require.NoError(b, err)
	return resp
}

// refused demands an error of this status and code, and returns when to retry.
func (b *bench) refused(resp *http.Response, status int, code string) time.Duration {
	b.Helper()
	body := b.whole(resp)
	require.Equal(b, status, resp.StatusCode, body)
	var data struct {
		Error struct{ Code, Message string }
	}
	require.NoError(b, json.Unmarshal([]byte(body), &data))
	require.Equal(b, code, data.Error.Code, body)
	for _, key := range []string{aliceKey, bobKey, upstreamKey} {
		require.NotContains(b, body, key)
	}
	if status == http.StatusTooManyRequests {
		require.Empty(b, resp.Header.Get("X-Should-Retry"), "an SDK may try again then")
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return time.Duration(seconds) * time.Second
}

func TestClientKeys(t *testing.T) {
	setup{settings: guests(gateway.Client{})}.run(t, func(b *bench) {
		good := []http.Header{
			{"Authorization": {"Bearer " + aliceKey}},
			{"Authorization": {"bearer  " + bobKey}},
			{"X-Api-Key": {aliceKey}},
			{"Api-Key": {bobKey}},
		}
		for _, h := range good {
			req := b.request(http.MethodPost, "/chat/completions", chatBody)
			for name, values := range h {
				req.Header[name] = values
			}
			resp, err := b.client.Do(req)
			require.NoError(b, err)
			body := b.whole(resp)
			require.Equal(b, http.StatusOK, resp.StatusCode, "%v: %s", h, body)
		}
		bad := []http.Header{
			{},
			{"Authorization": {aliceKey}},
			{"Authorization": {"Basic " + aliceKey}},
			{"Authorization": {"Bearer"}},
			{"Authorization": {"Bearer "}},
			{"Authorization": {"Bearer " + aliceKey + "x"}},
			{"Authorization": {"Bearer " + aliceKey[:len(aliceKey)-1]}},
			{"Authorization": {"Bearer " + strings.ToUpper(aliceKey)}},
			{"Authorization": {"Bearer " + gateway.HashKey(aliceKey)}},
			{"Authorization": {"Bearer " + upstreamKey}},
			{"X-Api-Key": {"alice"}},
			{"Cookie": {"key=" + aliceKey}},
		}
		for _, h := range bad {
			for _, path := range []string{"/chat/completions", "/anthropic/v1/messages", "/nowhere"} {
				req := b.request(http.MethodPost, path, chatBody)
				for name, values := range h {
					req.Header[name] = values
				}
				resp, err := b.client.Do(req)
				require.NoError(b, err)
				body := b.whole(resp)
				assert.Equal(b, http.StatusUnauthorized, resp.StatusCode, "%v", h)
				assert.Equal(b, "Bearer", resp.Header.Get("Www-Authenticate"))
				assert.Contains(b, body, "authentication_error")
			}
		}
		require.Len(b, b.srv.Requests(), len(good), "strangers reach nothing")
		for _, r := range b.srv.Requests() {
			assert.Equal(b, upstreamKey, r.Key)
			for name, values := range r.Header {
				assert.NotContains(b, strings.Join(values, " "), "sk-seawall", name)
			}
		}
		synctest.Wait()
		lines := b.logs.lines(b, "answered")
		require.Len(b, lines, 4)
		require.Equal(b, "alice", lines[0]["client"])
		require.Equal(b, "bob", lines[1]["client"])
		require.NotContains(b, b.logs.String(), "sk-seawall")
	})
}

func TestNewKey(t *testing.T) {
	a, b := gateway.NewKey(), gateway.NewKey()
	require.NotEqual(t, a, b)
	require.Regexp(t, `^sk-seawall-[A-Z2-7]{26,}$`, a)
	require.Regexp(t, `^sha256:[0-9a-f]{64}$`, gateway.HashKey(a))
	// Known, so that files made by one version serve another.
	require.Equal(t, "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", gateway.HashKey("foo"))
}

func TestClientConcurrency(t *testing.T) {
	setup{settings: guests(gateway.Client{Concurrency: 2})}.run(t, func(b *bench) {
		var open []*http.Response
		for range 2 {
			b.srv.Enqueue(deepseektest.StallAfter(3))
			open = append(open, b.ask(aliceKey, "/chat/completions", streamBody))
		}
		require.Equal(b, time.Second, b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "concurrency_exceeded"))
		require.Equal(b, time.Second, b.refused(b.ask(aliceKey, "/models", ""), 429, "concurrency_exceeded"))
		b.whole(b.ask(bobKey, "/chat/completions", chatBody))
		require.Equal(b, 2, b.g.Clients()[0].InFlight)
		require.NoError(b, open[0].Body.Close())
		synctest.Wait()
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		require.NoError(b, open[1].Body.Close())
		synctest.Wait()
		require.Zero(b, b.g.Clients()[0].InFlight)

		// What ends early gives its place back too.
		for range 5 {
			b.refused(b.ask(aliceKey, "/chat/completions", "no JSON"), 400, "invalid_json")
			b.refused(b.ask(aliceKey, "/nowhere", "{}"), 404, "unknown_path")
		}
		synctest.Wait()
		require.Zero(b, b.g.Clients()[0].InFlight)
	})
}

// settled is a client's side on which the answer is seen to be written.
type settled struct {
	http.ResponseWriter
	write func(p []byte)
}

func (w settled) Write(p []byte) (int, error) {
	w.write(p)
	return w.ResponseWriter.Write(p)
}

func (w settled) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// By the time that a client has all of an answer, its request is no longer under
// way, and is paid for: it may ask again at once.
func TestClientMayAskAgainAtOnce(t *testing.T) {
	setup{settings: guests(gateway.Client{Concurrency: 1, BudgetPerMonth: 1})}.run(t, func(b *bench) {
		for _, last := range []struct{ body, end string }{{chatBody, "}"}, {streamBody, "data: [DONE]\n\n"}} {
			seen := false
			before := b.g.Clients()[0].Spent
			req := httptest.NewRequest(http.MethodPost, "/chat/completions", strings.NewReader(last.body))
			req.Header.Set("Authorization", "Bearer "+aliceKey)
			answer := httptest.NewRecorder()
			b.g.ServeHTTP(settled{answer, func(p []byte) {
				if strings.HasSuffix(string(p), last.end) {
					seen = true
					c := b.g.Clients()[0]
					assert.Zero(b, c.InFlight, last.body)
					assert.Greater(b, c.Spent, before, last.body)
				}
			}}, req)
			require.Equal(b, http.StatusOK, answer.Code, answer.Body.String())
			require.True(b, seen, answer.Body.String())
			synctest.Wait()
			require.Zero(b, b.g.Clients()[0].InFlight, "and it counts once")
		}
	})
}

func TestClientRequestsPerMinute(t *testing.T) {
	setup{settings: guests(gateway.Client{RequestsPerMinute: 3})}.run(t, func(b *bench) {
		for range 3 {
			b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
			time.Sleep(10 * time.Second)
		}
		require.Equal(b, 30*time.Second, b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "requests_exceeded"))
		b.whole(b.ask(bobKey, "/chat/completions", chatBody))
		time.Sleep(30*time.Second - time.Millisecond)
		b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "requests_exceeded")
		time.Sleep(time.Millisecond)
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		require.Equal(b, 10*time.Second, b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "requests_exceeded"))
		require.Equal(b, 3, b.g.Clients()[0].Requests)
	})
}

func TestClientTokensPerMinute(t *testing.T) {
	setup{
		settings: guests(gateway.Client{TokensPerMinute: 300}),
		server:   []deepseektest.Option{deepseektest.WithAnswerLength(0, 100)},
	}.run(t, func(b *bench) {
		// usage is what the last answer told.
		usage := func() int {
			synctest.Wait()
			seen := b.srv.Requests()
			u := seen[len(seen)-1].Usage
			return u.Prompt + u.Completion
		}
		used := 0
		for _, body := range []string{chatBody, streamBody} {
			resp := b.ask(aliceKey, "/chat/completions", body)
			b.whole(resp)
			used += usage()
			require.Equal(b, used, b.g.Clients()[0].Tokens)
			time.Sleep(time.Second)
		}
		require.Greater(b, used, 200)
		b.whole(b.ask(bobKey, "/chat/completions", chatBody))
		// There is room for some tokens, and not for those of a long request.
		long := strings.Replace(chatBody, "Hi", strings.Repeat("long ", 400), 1)
		wait := b.refused(b.ask(aliceKey, "/chat/completions", long), 429, "tokens_exceeded")
		require.Equal(b, 59*time.Second, wait, "even alone it is too long, so all others must have gone")
		time.Sleep(wait)
		b.whole(b.ask(aliceKey, "/chat/completions", long))
		require.Positive(b, b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "tokens_exceeded"))

		// What was not served costs nothing.
		time.Sleep(time.Minute)
		b.refused(b.ask(aliceKey, "/chat/completions", `{"model":5}`), 400, "invalid_model")
		b.srv.Enqueue(deepseektest.Status(400))
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		synctest.Wait()
		require.Zero(b, b.g.Clients()[0].Tokens)
		// What was begun and left does.
		b.srv.Enqueue(deepseektest.StallAfter(20))
		req := b.request(http.MethodPost, "/chat/completions", streamBody).WithContext(b.cancelAfter(time.Second))
		req.Header.Set("X-Api-Key", aliceKey)
		resp, err := b.client.Do(req)
		require.NoError(b, err)
		_, err = all(resp)
		require.ErrorIs(b, err, context.Canceled)
		synctest.Wait()
		require.Positive(b, b.g.Clients()[0].Tokens)
		require.Positive(b, b.g.Clients()[0].Spent)
		// So does what is no stream, though nothing of it has come: or a client could
		// ask for ever, and leave each time.
		time.Sleep(time.Minute)
		b.srv.Enqueue(deepseektest.Paced(deepseektest.Pace{FirstToken: time.Minute}))
		req = b.request(http.MethodPost, "/chat/completions", chatBody).WithContext(b.cancelAfter(time.Second))
		req.Header.Set("X-Api-Key", aliceKey)
		_, err = b.client.Do(req)
		require.ErrorIs(b, err, context.Canceled)
		synctest.Wait()
		require.Positive(b, b.g.Clients()[0].Tokens)
	})
}

// A request counts from when it has come whole, however long that took.
func TestClientTokensOfASlowRequest(t *testing.T) {
	setup{
		settings: guests(gateway.Client{TokensPerMinute: 200}),
		server:   []deepseektest.Option{deepseektest.WithAnswerLength(0, 100)},
	}.run(t, func(b *bench) {
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		time.Sleep(10 * time.Second)
		body, slow := io.Pipe()
		go func() {
			_, _ = slow.Write([]byte(chatBody[:10]))
			time.Sleep(50 * time.Second)
			_, _ = slow.Write([]byte(chatBody[10:]))
			_ = slow.Close()
		}()
		req := b.request(http.MethodPost, "/chat/completions", chatBody)
		req.Body, req.GetBody = body, nil
		req.Header.Set("X-Api-Key", aliceKey)
		resp, err := b.client.Do(req)
		require.NoError(b, err)
		require.Equal(b, http.StatusOK, resp.StatusCode, b.whole(resp))
		time.Sleep(20 * time.Second)
		require.Equal(b, 40*time.Second, b.refused(b.ask(aliceKey, "/chat/completions", chatBody), 429, "tokens_exceeded"))
	})
}

func TestClientModels(t *testing.T) {
	s := guests(gateway.Client{Models: []string{"deepseek-flash", "smart"}})
	s.Models = map[string]string{"smart": "deepseek-v4-pro", "gpt-4o": "deepseek-flash", "o3": "deepseek-v4-pro"}
	setup{settings: s}.run(t, func(b *bench) {
		cases := []struct{ asked, got string }{
			{`"deepseek-flash"`, "deepseek-flash"},
			{`"smart"`, "deepseek-v4-pro"},
			{`"gpt-4o"`, "deepseek-flash"},
			{`"gpt\u002d4o"`, "deepseek-flash"},
			{`"deepseek-v4-pro"`, ""},
			{`"o3"`, ""},
			{`""`, ""},
			{`null`, ""},
		}
		for _, c := range cases {
			body := `{"messages":[{"role":"user","content":"Hi \u00fc"}], "model" :  ` + c.asked + ` , "x":1}`
			resp := b.ask(aliceKey, "/chat/completions", body)
			if c.got == "" {
				if c.asked == "null" {
					b.refused(resp, 400, "invalid_model")
				} else {
					b.refused(resp, 403, "model_not_allowed")
				}
				continue
			}
			answer := b.whole(resp)
			require.Equal(b, 200, resp.StatusCode, "%s: %s", c.asked, answer)
			seen := b.srv.Requests()
			last := seen[len(seen)-1]
			require.Equal(b, c.got, last.Model)
			want := body
			if c.asked != `"deepseek-flash"` {
				want = strings.Replace(body, c.asked, `"`+c.got+`"`, 1)
			}
			require.Equal(b, want, string(last.Body), "nothing else is changed")
		}
		resp := b.ask(aliceKey, "/chat/completions", `{"messages":[{"role":"user","content":"Hi"}]}`)
		b.refused(resp, 403, "model_not_allowed")
		b.whole(b.ask(bobKey, "/chat/completions", strings.Replace(chatBody, "deepseek-flash", "o3", 1)))
		require.Equal(b, 200, b.ask(aliceKey, "/models", "").StatusCode)
	})
}

func TestClientBudget(t *testing.T) {
	state := filepath.Join(t.TempDir(), "spent.json")
	s := guests(gateway.Client{BudgetPerMonth: 0.0001})
	s.State = state
	setup{settings: s, server: []deepseektest.Option{deepseektest.WithAnswerLength(0, 50)}}.run(t, func(b *bench) {
		served := 0
		for {
			resp := b.ask(aliceKey, "/chat/completions", chatBody)
			if resp.StatusCode != http.StatusOK {
				b.refused(resp, 402, "budget_exceeded")
				break
			}
			b.whole(resp)
			synctest.Wait()
			served++
			require.Less(b, served, 20)
		}
		require.Greater(b, served, 1)
		b.whole(b.ask(bobKey, "/chat/completions", chatBody))
		spent := b.g.Clients()[0].Spent
		require.GreaterOrEqual(b, spent.Float64(), 0.0001)
		require.Less(b, spent.Float64(), 0.0002)
		require.Contains(b, b.logs.lines(b, "answered")[0]["cost"], " USD")

		// A second later it is in the file, and another process goes on with it.
		time.Sleep(2 * time.Second)
		other, err := gateway.New(s, deepseek.WithAPIKeys(upstreamKey))
		require.NoError(b, err)
		require.Equal(b, spent, other.Clients()[0].Spent)

		// The bubble's clock begins in January.
		resp := b.ask(aliceKey, "/anthropic/v1/messages", paths[3].body)
		require.Equal(b, 402, resp.StatusCode)
		body := b.whole(resp)
		require.Contains(b, body, "billing_error")
		require.Contains(b, body, "begins on 2000-02-01")
		time.Sleep(time.Until(time.Date(2000, 2, 1, 0, 0, 1, 0, time.UTC)))
		b.whole(b.ask(aliceKey, "/chat/completions", chatBody))
		synctest.Wait()
		require.Less(b, b.g.Clients()[0].Spent, spent)
		require.NoError(b, b.g.Save())
	})
	data, err := os.ReadFile(state)
	require.NoError(t, err)
	require.Contains(t, string(data), `"2000-02"`)
	require.Contains(t, string(data), `"alice"`)
	require.NotContains(t, string(data), "sha256")
	left, err := filepath.Glob(filepath.Join(filepath.Dir(state), "*"))
	require.NoError(t, err)
	require.Equal(t, []string{state}, left, "nothing is left lying about")
}

func TestBadClients(t *testing.T) {
	hash := gateway.HashKey(aliceKey)
	for field, c := range map[string]gateway.Client{
		"Clients[0].Name":              {Keys: []string{hash}},
		"Clients[0].Keys":              {Name: "a"},
		"Clients[0].Concurrency":       {Name: "a", Keys: []string{hash}, Concurrency: -1},
		"Clients[0].RequestsPerMinute": {Name: "a", Keys: []string{hash}, RequestsPerMinute: -1},
		"Clients[0].TokensPerMinute":   {Name: "a", Keys: []string{hash}, TokensPerMinute: -1},
		"Clients[0].BudgetPerMonth":    {Name: "a", Keys: []string{hash}, BudgetPerMonth: -1},
	} {
		_, err := gateway.New(gateway.Settings{Clients: []gateway.Client{c}}, deepseek.WithAPIKeys(upstreamKey))
		var bad *deepseek.ConfigError
		require.ErrorAs(t, err, &bad, field)
		require.Equal(t, field, bad.Field)
	}
	_, err := gateway.New(gateway.Settings{Clients: []gateway.Client{{Name: "a", Keys: []string{aliceKey}}}}, deepseek.WithAPIKeys(upstreamKey))
	require.ErrorContains(t, err, "seawall key new")
	require.NotContains(t, err.Error(), aliceKey)
}
