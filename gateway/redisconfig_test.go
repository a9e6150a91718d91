package gateway

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRedisConfig(t *testing.T) {
	const password = "hunter2"
	t.Setenv("REDIS_URL", "rediss://user:"+password+"@cache.example:6380/2")
	account := "accounts:\n  - keys: env:ONE_KEY\n"
	for text, want := range map[string]Redis{
		"":                                       {Prefix: "seawall", Lease: 5 * time.Second, Replicas: 1},
		"redis: {url: redis://127.0.0.1:6379}\n": {URL: "redis://127.0.0.1:6379", Prefix: "seawall", Lease: 5 * time.Second, Replicas: 1},
		"redis: {url: unix:///run/redis.sock, prefix: a:b, lease: 10s, replicas: 3}\n": {URL: "unix:///run/redis.sock", Prefix: "a:b", Lease: 10 * time.Second, Replicas: 3},
		"redis: {url: env:REDIS_URL}\n": {URL: RedisURL(os.Getenv("REDIS_URL")), Prefix: "seawall", Lease: 5 * time.Second, Replicas: 1},
	} {
		c, err := configure(t, account+text)
		require.NoError(t, err, text)
		require.Equal(t, want, c.Redis)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", c.Redis, c.Redis, c.Redis), password)
	}
	for text, want := range map[string]string{
		"redis: {url: redis://:" + password + "@127.0.0.1}\n": "with a password is not written here",
		"redis: {url: redis://127.0.0.1:port}\n":              "is not of the form",
		"redis: {url: 'redis://a:b:" + password + "@:c'}\n":   "with a password is not written here",
		"redis: {url: 127.0.0.1}\n":                           "a secret is not written here",
		"redis: {url: env:NO_SUCH}\n":                         "the environment has no NO_SUCH",
		"redis: {url: file:nowhere}\n":                        "cannot read",
		"redis: {url: file:empty}\n":                          "is empty",
		"redis: {url: env:ONE_KEY}\n":                         "is not of the form",
		"redis: {url: http://127.0.0.1}\n":                    "is not of the form",
		"redis: {url: 'redis://'}\n":                          "is not of the form",
		"redis: {url: [redis://a, redis://b]}\n":              "must be a single value",
		"redis: {lease: 10s}\n":                               "needs a url",
		"redis: {url: redis://a, prefix: '{a}'}\n":            "must be at most 64",
		"redis: {url: redis://a, lease: 10ms}\n":              "must be between 1s",
		"redis: {url: redis://a, replicas: -1}\n":             "must be between 1 and",
		"redis: {url: redis://a, host: b}\n":                  `no field "host"`,
	} {
		_, err := configure(t, account+text)
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "seawall.yaml:3: ", text)
		require.NotContains(t, err.Error(), password)
		require.NotContains(t, err.Error(), testKey)
	}
	budget := "clients:\n  - name: a\n    keys: " + HashKey("a") + "\n    budget_per_month: 5\n"
	_, err := configure(t, account+"redis: {url: redis://127.0.0.1}\n"+budget)
	require.NoError(t, err, "Redis keeps what was spent")

	for _, url := range []RedisURL{"redis://:12#secret-word@host", "redis://user:12/secret-word@host", "redis://a:b@c/secret-word@host", "redis:u:secret-word@h"} {
		require.Empty(t, url.String())
	}
	require.Equal(t, "rediss://127.0.0.1:6380/1", RedisURL("rediss://user:secret-word@127.0.0.1:6380/1").String())

	shown, err := configure(t, account+"redis: {url: env:REDIS_URL}\n")
	require.NoError(t, err)
	for _, text := range printed(t, shown) {
		require.NotContains(t, text, password)
		require.NotContains(t, text, testKey)
	}

	one, err := configure(t, account+"redis: {url: redis://127.0.0.1}\n")
	require.NoError(t, err)
	other, err := configure(t, account+"redis: {url: redis://127.0.0.1, lease: 6s}\n")
	require.NoError(t, err)
	require.Equal(t, []string{"redis"}, one.NeedsRestart(other))
}
