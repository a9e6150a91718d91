package deepseek

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// clearEnvironment leaves nothing for a constructor to read.
func clearEnvironment(t *testing.T) {
	for _, name := range []string{"DEEPSEEK_API_KEY", "DEEPSEEK_API_KEYS", "DEEPSEEK_BASE_URL"} {
		t.Setenv(name, "")
	}
}

func TestEnvironmentIsTheDefault(t *testing.T) {
	for _, c := range []struct {
		name           string
		key, keys, url string
		opts           []Option
		wantKeys       []string
		wantURL        string
	}{
		{"a key", "sk-one-one-one", "", "", nil, []string{"sk-one-one-one"}, DefaultBaseURL},
		{"keys", "", " sk-one-one-one, sk-two-two-two,,", "", nil, []string{"sk-one-one-one", "sk-two-two-two"}, DefaultBaseURL},
		{"a key before keys", "sk-one-one-one", "sk-two-two-two", "", nil, []string{"sk-one-one-one"}, DefaultBaseURL},
		{"a URL", "sk-one-one-one", "", "http://localhost:8080", nil, []string{"sk-one-one-one"}, "http://localhost:8080"},
		{"options before it", "sk-one-one-one", "sk-two-two-two", "http://localhost:8080",
			[]Option{WithAPIKeys("sk-six-six-six"), WithBaseURL("https://example.com/v1")}, []string{"sk-six-six-six"}, "https://example.com/v1"},
		{"a URL with a part of the API", "sk-one-one-one", "", "https://api.deepseek.com/beta/", nil, []string{"sk-one-one-one"}, DefaultBaseURL},
		{"endpoints before it", "sk-one-one-one", "", "http://localhost:8080",
			[]Option{WithEndpoints(Endpoint{BaseURL: "https://example.com", Accounts: []Account{{Keys: []string{"sk-six-six-six"}}}})},
			[]string{"sk-six-six-six"}, "https://example.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DEEPSEEK_API_KEY", c.key)
			t.Setenv("DEEPSEEK_API_KEYS", c.keys)
			t.Setenv("DEEPSEEK_BASE_URL", c.url)
			tr, err := NewTransport(c.opts...)
			require.NoError(t, err)
			require.Equal(t, c.wantURL, strings.TrimSuffix(tr.BaseURL().String(), "/"))
			var prints []string
			for _, a := range tr.Pool().Stats() {
				for _, k := range a.Keys {
					prints = append(prints, k.Fingerprint)
				}
			}
			require.Len(t, prints, len(c.wantKeys))
			for i, k := range c.wantKeys {
				require.Equal(t, fingerprint(k), prints[i])
			}
		})
	}
}

// The constructor reads it, and no call does.
func TestEnvironmentIsReadOnce(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("DEEPSEEK_API_KEY", secretKey)
	base := scripted(answers)
	tr, err := NewTransport(WithTransport(base))
	require.NoError(t, err)
	t.Setenv("DEEPSEEK_API_KEY", "sk-later-later-later")
	t.Setenv("DEEPSEEK_BASE_URL", "http://localhost:1")
	resp, err := send(t.Context(), tr)
	require.NoError(t, err)
	_, err = readBody(resp)
	require.NoError(t, err)
	require.Equal(t, "Bearer "+secretKey, base.sent()[0].header.Get("Authorization"))
	require.Equal(t, testURL, base.sent()[0].req.URL.String())
}

// Bad configuration is an error of every constructor, which names what is wrong
// and tells no key.
func TestBadOptionsAreRefused(t *testing.T) {
	clearEnvironment(t)
	good := WithAPIKeys(secretKey)
	for _, c := range []struct {
		field string
		opts  []Option
	}{
		{"APIKeys", nil},
		{"APIKeys", []Option{WithAPIKeys()}},
		{"Accounts", []Option{WithAccounts()}},
		{"Endpoints", []Option{WithEndpoints()}},
		{"BaseURL", []Option{good, WithBaseURL("http://api.deepseek.com")}},
		{"BaseURL", []Option{good, WithBaseURL("https://user:" + secretKey + "@api.deepseek.com")}},
		{"BaseURL", []Option{WithBaseURL(DefaultBaseURL), WithEndpoints(Endpoint{Accounts: []Account{{Keys: []string{secretKey}}}})}},
		{"Accounts", []Option{good, WithEndpoints(Endpoint{Accounts: []Account{{Keys: []string{secretKey}}}})}},
		{"Strategy", []Option{good, WithStrategy(nil)}},
		{"MaxConcurrency", []Option{good, WithMaxConcurrency(0)}},
		{"Queue.MaxWait", []Option{good, WithQueue(Queue{MaxWait: -1})}},
		{"RateLimit.PerSecond", []Option{good, WithRateLimit(0, 1)}},
		{"RateLimit.PerSecond", []Option{good, WithRateLimit(math.NaN(), 1)}},
		{"RateLimit.Burst", []Option{good, WithRateLimit(1, 0)}},
		{"Retry.MaxAttempts", []Option{good, WithRetry(Retry{MaxAttempts: -1})}},
		{"Retry.MinInterval", []Option{good, WithRetry(Retry{MinInterval: -1})}},
		{"Retry.MaxInterval", []Option{good, WithRetry(Retry{MaxInterval: -1})}},
		{"Retry.MaxInterval", []Option{good, WithRetry(Retry{MinInterval: time.Minute, MaxInterval: time.Second})}},
		{"Retry.MaxRetryAfter", []Option{good, WithRetry(Retry{MaxRetryAfter: -1})}},
		{"Breaker.MinRequests", []Option{good, WithBreaker(Breaker{MinRequests: -1})}},
		{"Breaker.FailureRatio", []Option{good, WithBreaker(Breaker{FailureRatio: 1.1})}},
		{"Breaker.FailureRatio", []Option{good, WithBreaker(Breaker{FailureRatio: math.NaN()})}},
		{"Breaker.Window", []Option{good, WithBreaker(Breaker{Window: -1})}},
		{"Breaker.OpenFor", []Option{good, WithBreaker(Breaker{OpenFor: -1})}},
		{"Breaker.MaxOpenFor", []Option{good, WithBreaker(Breaker{MaxOpenFor: -1})}},
		{"Breaker.MaxOpenFor", []Option{good, WithBreaker(Breaker{OpenFor: time.Minute, MaxOpenFor: time.Second})}},
		{"Breaker.Probes", []Option{good, WithBreaker(Breaker{Probes: -1})}},
		{"Hedging.Percentile", []Option{good, WithHedging(Hedging{Percentile: 1})}},
		{"FallbackModels", []Option{good, WithFallbackModels(map[string][]string{"a": {"a"}})}},
		{"Logger", []Option{good, WithLogger(nil)}},
		{"Transport", []Option{good, WithTransport(nil)}},
		{"Middleware", []Option{good, WithMiddleware(nil)}},
		{"Middleware", []Option{good, WithOptions(nil, WithOptions(WithMiddleware(nil)))}},
	} {
		_, err := NewTransport(c.opts...)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad, c.field)
		require.Equal(t, c.field, bad.Field, err.Error())
		require.NotEmpty(t, bad.Reason)
		require.Equal(t, "deepseek: invalid configuration: "+strings.TrimSuffix(bad.Field+" "+bad.Value, " ")+": "+bad.Reason, err.Error())
		require.NotContains(t, err.Error(), secretKey)
		client, err := New(c.opts...)
		require.ErrorAs(t, err, &bad)
		require.Nil(t, client)
		hc, err := NewHTTPClient(c.opts...)
		require.ErrorAs(t, err, &bad)
		require.Nil(t, hc)
	}
}

// Of two options that set the same thing the later one counts, wherever it is.
func TestLaterOptionsCount(t *testing.T) {
	clearEnvironment(t)
	synctest.Test(t, func(t *testing.T) {
		base := scripted(status(503))
		tr := transportOver(t, base, WithOptions(WithoutRetry(), WithOptions(nil, WithRetry(Retry{MaxAttempts: 2}))))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Len(t, base.sent(), 2)
		tr = transportOver(t, base, WithRetry(Retry{MaxAttempts: 2}), WithOptions(WithoutRetry()))
		resp, err = send(t.Context(), tr)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Len(t, base.sent(), 3)
		require.Equal(t, -1.0, tr.Stats().RetryBudget)
	})
}

// A logger is told of faults and of nothing that is in a request or an answer.
func TestLogsTellNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		l := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		base := scripted(status(401), status(429), status(503), answers)
		tr := transportOver(t, base, WithLogger(l), WithAPIKeys("sk-other-other"))
		req := chatRequest(t.Context(), false)
		req.Header.Set("Authorization", "Bearer of the caller")
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		_, err = readBody(resp)
		require.NoError(t, err)
		for _, told := range []string{"account state", "learned limit", "call answered after retrying", "deepseek-flash", "4 attempts"} {
			require.Contains(t, log.String(), told)
		}
		account := Account{Name: "main", Keys: []string{secretKey}}
		l.Info("an account", "account", account, "pointer", &account)
		for _, secret := range []string{secretKey, "sk-other", "of the caller", "Hello there", "user says", `"Hi"`} {
			require.NotContains(t, log.String(), secret)
		}
		require.Contains(t, log.String(), "main[#"+fingerprint(secretKey)+"]")

		log.Reset()
		warn := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		only := Observer{CallEnd: LogObserver(warn).CallEnd} // some of it
		tr = transportOver(t, scripted(status(401)), WithObserver(only))
		resp, err = send(t.Context(), tr)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
		_ = resp.Body.Close()
		require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
		require.Contains(t, log.String(), "call failed")
	})
}

// Whatever is printed or written as JSON, no key is in it.
func TestNothingPrintsKeys(t *testing.T) {
	account := Account{Name: "main", Keys: []string{secretKey}}
	endpoint := Endpoint{Name: "e", Accounts: []Account{account}}
	pool, err := NewPool(nil, account)
	require.NoError(t, err)
	client, err := New(WithAccounts(account), WithBaseURL(DefaultBaseURL))
	require.NoError(t, err)
	for name, v := range map[string]any{
		"Account": account, "*Account": &account, "[]Account": []Account{account}, "Endpoint": endpoint, "*Endpoint": &endpoint, "Pool": pool,
		"Transport": client.Transport(), "Client": client, "http.Client": &http.Client{Transport: client.Transport()}, "Stats": client.Transport().Stats(),
	} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			require.NotContains(t, fmt.Sprintf(format, v), secretKey, "%s %s", name, format)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("configured", "what", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("configured", "what", v)
		require.NotContains(t, log.String(), secretKey, name)
	}
	require.Equal(t, "pool[1]", pool.String())
	require.Equal(t, "client over a transport to api.deepseek.com", client.String())
	text, err := json.Marshal(endpoint)
	require.NoError(t, err)
	require.Contains(t, string(text), `"Keys":["#`+fingerprint(secretKey)+`"]`)
}
