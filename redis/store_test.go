package redis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/redis"
)

func TestStore(t *testing.T) {
	s := newServer(t)
	store := s.connect(func(c *redis.Config) {
		c.MaxValue, c.Prefix, c.Timeout, c.Lease = 100, "x:y", 50*time.Millisecond, 10*time.Second
	}).Store()
	ctx := t.Context()
	got, err := store.Get(ctx, "key")
	require.NoError(t, err)
	require.Nil(t, got)
	require.NoError(t, store.Set(ctx, "key", []byte("value\x00"), 300*time.Millisecond))
	got, err = store.Get(ctx, "key")
	require.NoError(t, err)
	require.Equal(t, "value\x00", string(got))
	require.Equal(t, "value\x00", s.client.Get(ctx, "x:y:cache:key").Val())
	s.eventually("it is forgotten", func() bool {
		got, err := store.Get(ctx, "key")
		return err == nil && got == nil
	})

	require.NoError(t, store.Set(ctx, "large", []byte(strings.Repeat("x", 101)), time.Minute))
	require.Zero(t, s.client.Exists(ctx, "x:y:cache:large").Val(), "too large a value is not kept")
	s.do("set", "x:y:cache:large", strings.Repeat("x", 1e6))
	_, err = store.Get(ctx, "large")
	require.ErrorContains(t, err, "more than 100 bytes")
	s.do("rpush", "x:y:cache:list", "1")
	_, err = store.Get(ctx, "list")
	require.Error(t, err)

	late, cancel := context.WithDeadline(ctx, time.Now())
	defer cancel()
	require.NoError(t, store.Set(ctx, "kept", []byte("value"), time.Minute))
	_, err = store.Get(late, "kept")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got, err = store.Get(ctx, "kept")
	require.NoError(t, err)
	require.Equal(t, "value", string(got), "that a caller has no time left says nothing of the server")

	s.stall()
	began := time.Now()
	require.Error(t, store.Set(ctx, "key", []byte("new"), time.Minute), "nobody waits for long to keep an answer")
	require.Less(t, time.Since(began), time.Second)
	s.resume()
	store = s.connect(func(c *redis.Config) {
		c.MaxValue, c.Prefix, c.Timeout, c.Lease = 100, "x:y", 50*time.Millisecond, 10*time.Second
	}).Store()
	s.stall()
	began = time.Now()
	_, err = store.Get(ctx, "key")
	require.Error(t, err)
	for range 100 {
		got, err = store.Get(ctx, "key")
		require.NoError(t, err, "it is not asked")
		require.Nil(t, got)
		require.NoError(t, store.Set(ctx, "key", []byte("new"), time.Minute))
	}
	require.Less(t, time.Since(began), 2*time.Second)
	s.resume()
	s.eventually("it is asked again", func() bool {
		require.NoError(t, store.Set(ctx, "key", []byte("new"), time.Minute))
		got, err := store.Get(ctx, "key")
		return err == nil && string(got) == "new"
	})
}

func TestConfigTellsNoPassword(t *testing.T) {
	c := redis.Config{URL: "rediss://user:secret-word@127.0.0.1:6380/1", Prefix: "p"}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v", c, &c), string(text)} {
		require.NotContains(t, text, "secret-word")
		require.Contains(t, text, "127.0.0.1:6380")
	}
	for _, url := range []string{"redis://:12#secret-word@host", "redis://user:12/secret-word@host", "redis://a:b@c/secret-word@host", "redis:u:secret-word@h", "secret-word@h"} {
		require.NotContains(t, redis.Config{URL: url}.String(), "secret-word")
		require.NotContains(t, redis.Config{URL: url}.String(), "12")
	}
}

func TestConfig(t *testing.T) {
	const password = "hunter2"
	for field, c := range map[string]redis.Config{
		"Redis.URL":      {},
		"Redis.Prefix":   {URL: "redis://localhost", Prefix: "{a}"},
		"Redis.MaxValue": {URL: "redis://localhost", MaxValue: -1},
		"Redis.Lease":    {URL: "redis://localhost", Lease: time.Millisecond},
		"Redis.Timeout":  {URL: "redis://localhost", Timeout: -1},
	} {
		_, err := redis.New(c)
		var bad *deepseek.ConfigError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
	}
	for _, url := range []string{
		"http://:" + password + "@localhost", "redis://:" + password + "@", "redis://:" + password + "@localhost:x", "redis://:" + password + "@localhost/a/b",
		"redis://:" + password + "@local host", "://" + password, "redis://:" + password + "%zz@localhost",
	} {
		_, err := redis.New(redis.Config{URL: url})
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), password)
	}
	n, err := redis.New(redis.Config{URL: "redis://:" + password + "@127.0.0.1:1/3"})
	require.NoError(t, err, "whether there is a server is seen later")
	require.NotContains(t, n.String(), password)
	_, err = n.Store().Get(t.Context(), "key")
	require.Error(t, err)
	require.NotContains(t, err.Error(), password)
	require.NoError(t, n.Close())
}
