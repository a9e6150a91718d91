package deepseek

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// ask makes a call and returns what it got, and what the cache was for it.
func ask(tb testing.TB, rt http.RoundTripper, req *http.Request) (text, use string) {
	tb.Helper()
	resp, err := rt.RoundTrip(req)
	require.NoError(tb, err)
	text, err = readBody(resp)
	require.NoError(tb, err)
	return text, resp.Header.Get("Seawall-Cache")
}

// reads returns what each read of a body returns.
func reads(tb testing.TB, body io.Reader) (all []string) {
	tb.Helper()
	p := make([]byte, 64<<10)
	for {
		n, err := body.Read(p)
		if n > 0 {
			all = append(all, string(p[:n]))
		}
		if err == io.EOF {
			return all
		}
		require.NoError(tb, err)
	}
}

func TestCacheAnswersWhatWasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(reply(200, "application/json", []string{"X-Ds-Trace-Id: 0123", "Set-Cookie: a=b"}, "\n", wholeAnswer))
		tr, last := metered(t, base, WithCache(Cache{}))
		first, use := ask(t, tr, chatRequest(t.Context(), false))
		require.Equal(t, "miss", use)
		require.Equal(t, CacheMiss, last.Cache)
		cost := last.Cost
		require.EqualValues(t, 256*3+50*150+85*600, cost.Amount)
		require.NotNil(t, last.Usage)

		time.Sleep(10 * time.Second)
		resp, err := tr.RoundTrip(postTo(t.Context(), "/chat/completions", ` {"model" : "deepseek-flash", "messages":[{"content":"H\u0069","role":"user"}]}`))
		require.NoError(t, err)
		require.Equal(t, http.Header{"Content-Type": {"application/json"}, "Content-Length": {fmt.Sprint(len(first))},
			"Age": {"10"}, "X-Ds-Trace-Id": {"0123"}, "Seawall-Cache": {"hit"}}, resp.Header)
		require.EqualValues(t, len(first), resp.ContentLength)
		second, err := readBody(resp)
		require.NoError(t, err)
		require.Equal(t, first, second)
		require.Len(t, base.sent(), 1)

		require.Equal(t, CacheHit, last.Cache)
		require.Equal(t, Cost{Currency: "USD", Avoided: cost.Amount}, last.Cost)
		require.Nil(t, last.Usage)
		require.Empty(t, last.Attempts)
		stats := tr.Stats()
		require.Equal(t, cost.Amount, stats.Spend.Amount)
		require.EqualValues(t, 1, stats.Attempts)
		require.EqualValues(t, 2, stats.Answered)
		require.Positive(t, stats.Cache.Bytes)
		stats.Cache.Bytes = 0
		require.Equal(t, CacheStats{Hits: 1, Misses: 1, Entries: 1, SavedPromptTokens: 306, SavedOutputTokens: 85, Saved: cost.Amount}, stats.Cache)
	})
}

func TestCachedStreamIsTheSameStream(t *testing.T) {
	crlf := strings.ReplaceAll(chunkHello, "\n", "\r\n")
	long := data(`{"id":"u","choices":[{"index":0,"delta":{"content":"` + strings.Repeat("long ", 20_000) + `"}}]}`)
	events := []string{chunkRole, crlf, "event: x\ndata: {\"a\":\ndata: 1}\n\n", long, chunkHello, chunkStop, eventDone}
	for _, comments := range []bool{false, true} {
		t.Run(fmt.Sprintf("comments %t", comments), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parts := []any{keepAlive}
				for _, e := range events {
					parts = append(parts, e[:len(e)/2], time.Second, e[len(e)/2:], keepAlive)
				}
				base := scripted(streamReply(parts...))
				opts := []Option{WithCache(Cache{})}
				if comments {
					opts = append(opts, WithStreamComments())
				}
				tr, last := metered(t, base, opts...)
				resp, err := tr.RoundTrip(chatRequest(t.Context(), true))
				require.NoError(t, err)
				require.Equal(t, "miss", resp.Header.Get("Seawall-Cache"))
				live := reads(t, resp.Body)
				if comments {
					require.Contains(t, strings.Join(live, ""), keepAlive)
				} else {
					require.Equal(t, events[:3], live[:3])
					require.Equal(t, strings.Join(events, ""), strings.Join(live, ""))
				}
				require.NotNil(t, last.Usage)

				resp, err = tr.RoundTrip(chatRequest(t.Context(), true))
				require.NoError(t, err)
				require.Equal(t, "hit", resp.Header.Get("Seawall-Cache"))
				require.EqualValues(t, -1, resp.ContentLength)
				kept := reads(t, resp.Body)
				require.Equal(t, events[:3], kept[:3])
				require.Equal(t, strings.Join(events, ""), strings.Join(kept, ""))
				require.Len(t, kept, len(events)+1, "the long one takes two reads")
				require.NoError(t, resp.Body.Close())
				require.Len(t, base.sent(), 1)
				base.allClosed(t)
			})
		})
	}
}

// A stream is kept event by event, whatever came in one piece.
func TestKeptStreamIsWhole(t *testing.T) {
	for name, parts := range map[string][]any{
		"a comment and the data after it":  {chunkRole, time.Second, keepAlive + chunkHello, time.Second, chunkStop + eventDone},
		"a comment between two events":     {chunkRole + keepAlive + chunkHello, time.Second, chunkStop + keepAlive + eventDone},
		"a comment whose blank line waits": {chunkRole, ": x\n", time.Second, "\n" + chunkHello, chunkStop, eventDone},
		"all of it":                        {chunkRole + chunkHello + chunkStop + eventDone},
		"two events and half of a third":   {chunkRole + chunkHello + chunkStop[:9], time.Second, chunkStop[9:] + eventDone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(streamReply(parts...))
				tr := transportOver(t, base, WithCache(Cache{}), WithStreamComments())
				_, use := ask(t, tr, chatRequest(t.Context(), true))
				require.Equal(t, "miss", use)
				resp, err := tr.RoundTrip(chatRequest(t.Context(), true))
				require.NoError(t, err)
				require.Equal(t, "hit", resp.Header.Get("Seawall-Cache"))
				require.Equal(t, []string{chunkRole, chunkHello, chunkStop, eventDone}, reads(t, resp.Body))
				require.NoError(t, resp.Body.Close())
			})
		})
	}
}

// A stream with an event that is no JSON, which breaks it for the typed client, is not
// kept to break it again.
func TestCacheKeepsNoStreamWithJunkInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(chunkRole+"data: {\"id\":\n\n"+chunkHello+chunkStop+eventDone), streamReply(chunkRole+chunkHello+chunkStop+eventDone))
		tr := transportOver(t, base, WithCache(Cache{}))
		for _, want := range []string{"miss", "miss", "hit"} {
			_, use := ask(t, tr, chatRequest(t.Context(), true))
			require.Equal(t, want, use)
		}
	})
}

// An answer of another model is nobody's who asks later, or who may not be answered
// by that model.
func TestCacheKeepsNoAnswerOfAnotherModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		base := roundTripper(func(req *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(req.Body)
			time.Sleep(time.Second)
			if down.Load() && bytes.Contains(body, []byte("deepseek-v4-pro")) {
				return status(503)(req)
			}
			return jsonReply(wholeAnswer)(req)
		})
		tr := transportOver(t, base, WithCache(Cache{}), WithoutRetry(), WithFallbackModels(map[string][]string{}))
		outcome := func(ctx context.Context) string {
			resp, err := tr.RoundTrip(postTo(ctx, "/chat/completions", `{"model":"deepseek-v4-pro"}`))
			require.NoError(t, err)
			_, err = readBody(resp)
			require.NoError(t, err)
			return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Seawall-Cache"), " ", resp.Header.Get("Seawall-Fallback"))
		}
		freely, strictly := FallBackTo(t.Context(), "deepseek-flash"), FallBackTo(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.Equal(t, "200 miss deepseek-flash", outcome(freely)) })
		time.Sleep(time.Second / 2)
		wg.Go(func() { require.Equal(t, "200 shared deepseek-flash", outcome(freely)) })
		require.Equal(t, "503 miss ", outcome(strictly))
		wg.Wait()
		require.Equal(t, "200 miss deepseek-flash", outcome(freely), "it was not kept")
		down.Store(false)
		require.Equal(t, "200 miss ", outcome(freely))
		require.Equal(t, "200 hit ", outcome(strictly))
	})
}

// The typed client reads kept and shared streams as it does its own.
func TestTypedClientOverTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(chunkRole, time.Second, chunkHello, time.Second, chunkStop+eventDone))
		client, err := New(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAPIKeys(secretKey), WithCache(Cache{}))
		require.NoError(t, err)
		req := &ChatRequest{Messages: []Message{User("Hi")}}
		chat := func(ctx context.Context) (string, string) {
			stream, err := client.ChatStream(ctx, req)
			require.NoError(t, err)
			text := ""
			for chunk, err := range stream.Chunks() {
				require.NoError(t, err)
				text += chunk.Text()
			}
			require.Equal(t, text, stream.Response().Text())
			require.Equal(t, 5, stream.Response().Usage.TotalTokens)
			return text, stream.Response().Header.Get("Seawall-Cache")
		}
		var wg sync.WaitGroup
		uses := map[string]int{}
		var mu sync.Mutex
		for range 5 {
			wg.Go(func() {
				text, use := chat(t.Context())
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, "Hello", text)
				uses[use]++
			})
		}
		wg.Wait()
		require.Equal(t, map[string]int{"miss": 1, "shared": 4}, uses)
		text, use := chat(t.Context())
		require.Equal(t, "Hello", text)
		require.Equal(t, "hit", use)
		require.Len(t, base.sent(), 1)
		_, use = chat(BypassCache(t.Context()))
		require.Empty(t, use)
		_, use = chat(RefreshCache(t.Context()))
		require.Equal(t, "miss", use)
		require.Len(t, base.sent(), 3)
	})
}

// What is kept, and what is not.
func TestOnlyCompleteAnswersAreKept(t *testing.T) {
	const plain, stream = `{"model":"deepseek-flash"}`, `{"model":"deepseek-flash","stream":true}`
	finish := func(reason string) string {
		return `{"id":"u","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"` + reason + `"}]}`
	}
	delta := func(reason string) string {
		return data(`{"id":"u","choices":[{"index":0,"delta":{},"finish_reason":"` + reason + `"}]}`)
	}
	for name, row := range map[string]struct {
		path, body string
		step       step
		kept       bool
	}{
		"stop":                     {"", plain, jsonReply(finish("stop")), true},
		"length":                   {"", plain, jsonReply(finish("length")), true},
		"content_filter":           {"", plain, jsonReply(finish("content_filter")), true},
		"tool_calls":               {"", plain, jsonReply(finish("tool_calls")), true},
		"aborted":                  {"", plain, jsonReply(finish("aborted")), false},
		"FIM":                      {"/beta/completions", plain, jsonReply(finish("stop")), true},
		"v1":                       {"/v1/chat/completions", plain, jsonReply(finish("stop")), true},
		"responses":                {"/responses", plain, jsonReply(`{"id":"r","status":"completed","error":null}`), true},
		"responses, incomplete":    {"/responses", plain, jsonReply(`{"id":"r","status":"incomplete","error":null}`), true},
		"responses, failed":        {"/responses", plain, jsonReply(`{"id":"r","status":"failed","error":{"code":"server_error"}}`), false},
		"anthropic":                {"/anthropic/v1/messages", plain, jsonReply(`{"id":"m","type":"message"}`), true},
		"400":                      {"", plain, status(400), false},
		"503":                      {"", plain, status(503), false},
		"201":                      {"", plain, reply(201, "application/json", nil, finish("stop")), false},
		"cut":                      {"", plain, jsonReply(finish("stop")[:20]), false},
		"HTML":                     {"", plain, reply(200, "text/html", nil, "<html>"), false},
		"error object":             {"", plain, jsonReply(`{"error":{"message":"x"}}`), false},
		"compressed":               {"", plain, reply(200, "application/json", []string{"Content-Encoding: gzip"}, "zzz"), false},
		"too long":                 {"", plain, jsonReply(`"` + strings.Repeat("x", 5000) + `"`), false},
		"stream":                   {"", stream, streamReply(chunkHello + chunkStop + eventDone), true},
		"stream without [DONE]":    {"", stream, streamReply(chunkHello + chunkStop), true},
		"stream, length":           {"", stream, streamReply(chunkHello + delta("length") + eventDone), true},
		"stream, aborted":          {"", stream, streamReply(chunkHello + delta("aborted") + eventDone), false},
		"stream, cut":              {"", stream, streamReply(chunkHello), false},
		"stream, broken":           {"", stream, streamReply(chunkHello, errReset), false},
		"stream, error":            {"", stream, streamReply(chunkHello + data(`{"error":{"message":"x"}}`)), false},
		"stream, stalled":          {"", stream, streamReply(chunkHello, time.Hour), false},
		"stream, too long":         {"", stream, streamReply(strings.Repeat(chunkHello, 100) + chunkStop + eventDone), false},
		"stream, compressed":       {"", stream, reply(200, "text/event-stream", []string{"Content-Encoding: gzip"}, "zzz"), false},
		"responses stream":         {"/responses", stream, streamReply(data(`{"type":"response.created"}`, `{"type":"response.completed","response":{}}`)), true},
		"responses stream, failed": {"/responses", stream, streamReply(data(`{"type":"response.created"}`, `{"type":"response.failed","response":{}}`)), false},
		"anthropic stream":         {"/anthropic/v1/messages", stream, streamReply(data(`{"type":"message_start"}`, `{"type":"message_stop"}`)), true},
		"no body":                  {"", "", jsonReply(finish("stop")), false},
		"no object":                {"", "[1]", jsonReply(finish("stop")), false},
		"two meanings":             {"", `{"model":"deepseek-flash","model":"deepseek-v4-pro"}`, jsonReply(finish("stop")), false},
		"another path":             {"/models", plain, jsonReply(finish("stop")), false},
		"counting tokens":          {"/anthropic/v1/messages/count_tokens", plain, jsonReply(finish("stop")), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := scripted(row.step)
				tr := transportOver(t, base, WithoutRetry(), WithoutBreaker(), WithCache(Cache{MaxAnswer: 4096}))
				path := row.path
				if path == "" {
					path = "/chat/completions"
				}
				var texts [2]string
				for i := range texts {
					resp, err := tr.RoundTrip(postTo(t.Context(), path, row.body))
					if err == nil {
						texts[i], _ = readBody(resp)
					}
				}
				require.Equal(t, texts[0], texts[1])
				if row.kept {
					require.Len(t, base.sent(), 1)
					require.Equal(t, 1, tr.Stats().Cache.Entries)
				} else {
					require.Len(t, base.sent(), 2)
					require.Zero(t, tr.Stats().Cache.Entries)
				}
				base.allClosed(t)
			})
		})
	}
}

// Only what a guard says is complete is kept: a clean end is no proof.
func TestCacheWithoutAGuardKeepsNothing(t *testing.T) {
	m, err := NewCache(Cache{})
	require.NoError(t, err)
	base := scripted(streamReply(wholeStream))
	rt := m(base)
	for range 2 {
		text, use := ask(t, rt, chatRequest(t.Context(), true))
		require.Equal(t, wholeStream, text)
		require.Equal(t, "miss", use)
	}
	require.Len(t, base.sent(), 2)
}

func TestCacheTellsRequestsApart(t *testing.T) {
	base := scripted(answers)
	tr := transportOver(t, base, WithCache(Cache{}))
	for i, r := range []struct{ path, body string }{
		{"/chat/completions", `{"model":"deepseek-flash"}`},
		{"/chat/completions", `{"model":"deepseek-v4-pro"}`},
		{"/chat/completions", `{"model":"deepseek-flash","user_id":"a"}`},
		{"/chat/completions", `{"model":"deepseek-flash","user_id":"b"}`},
		{"/chat/completions", `{"model":"deepseek-flash","temperature":1}`},
		{"/chat/completions?x=1", `{"model":"deepseek-flash"}`},
		{"/beta/chat/completions", `{"model":"deepseek-flash"}`},
		{"/a/b/chat/completions", `{"model":"deepseek-flash"}`},
		{"/a%2Fb/chat/completions", `{"model":"deepseek-flash"}`},
		{"/anthropic/v1/messages", `{"model":"deepseek-flash","metadata":{"user_id":"a"}}`},
		{"/anthropic/v1/messages", `{"model":"deepseek-flash","metadata":{"user_id":"b"}}`},
	} {
		_, use := ask(t, tr, postTo(t.Context(), r.path, r.body))
		require.Equal(t, "miss", use)
		_, use = ask(t, tr, postTo(t.Context(), r.path, r.body))
		require.Equal(t, "hit", use)
		require.Len(t, base.sent(), i+1)
	}
	// The placeholder of an SDK is nobody's key.
	req := postTo(t.Context(), "/chat/completions", `{"model":"deepseek-flash"}`)
	req.Header.Set("Authorization", "Bearer placeholder")
	_, use := ask(t, tr, req)
	require.Equal(t, "hit", use)

	// The layer alone: origins, and the callers' own keys.
	m, err := NewCache(Cache{})
	require.NoError(t, err)
	rt := Chain(m, NewGuard(Timeouts{}, false))(scripted(answers))
	for _, url := range []string{"https://api.deepseek.com", "https://other.example", "http://api.deepseek.com", "https://api.deepseek.com:8443"} {
		for _, header := range []string{"", "Authorization: Bearer a", "Authorization: Bearer b", "X-Api-Key: a", "Api-Key: a", "Api-Key: b"} {
			for _, want := range []string{"miss", "hit"} {
				req := postTo(t.Context(), "/chat/completions", `{"model":"deepseek-flash"}`)
				u, err := req.URL.Parse(url + "/chat/completions")
				require.NoError(t, err)
				req.URL = u
				if name, value, ok := strings.Cut(header, ": "); ok {
					req.Header.Set(name, value)
				}
				_, use := ask(t, rt, req)
				require.Equal(t, want, use, "%s %s", url, header)
			}
		}
	}
}

func TestCacheCanBeBypassed(t *testing.T) {
	base := scripted(answers)
	tr := transportOver(t, base, WithCache(Cache{}))
	request := func(ctx context.Context, control ...string) *http.Request {
		req := chatRequest(ctx, false)
		for _, c := range control {
			req.Header.Add("Cache-Control", c)
		}
		return req
	}
	for i, row := range []struct {
		ctx     context.Context
		control []string
		use     string
		sent    bool
		passed  []string // the header as it arrives
	}{
		{t.Context(), []string{"no-store"}, "", true, nil},
		{BypassCache(t.Context()), nil, "", true, nil},
		{t.Context(), []string{"No-Cache, max-age=0"}, "miss", true, nil},
		{t.Context(), nil, "hit", false, nil}, // what no-cache has brought
		{t.Context(), []string{"no-cache"}, "miss", true, nil},
		{RefreshCache(t.Context()), nil, "miss", true, nil},
		{RefreshCache(t.Context()), []string{"max-age=0", "no-store"}, "", true, nil},
		{t.Context(), []string{"no-cache", "no-store"}, "", true, nil},
		{t.Context(), []string{"only-if-cached"}, "hit", false, nil},
		{BypassCache(t.Context()), []string{"max-age=0"}, "", true, []string{"max-age=0"}},
	} {
		before := len(base.sent())
		req := request(row.ctx, row.control...)
		_, use := ask(t, tr, req)
		require.Equal(t, row.use, use, "row %d", i)
		require.Equal(t, row.control, req.Header["Cache-Control"], "the caller's header is left alone")
		require.Equal(t, row.sent, len(base.sent()) > before, "row %d", i)
		if row.sent {
			require.Equal(t, row.passed, base.sent()[before].header["Cache-Control"], "row %d", i)
		}
	}
	// Where there is no cache it is a header like any other.
	plain := scripted(answers)
	ask(t, transportOver(t, plain), request(t.Context(), "no-store"))
	require.Equal(t, []string{"no-store"}, plain.sent()[0].header["Cache-Control"])
}

func TestKeptAnswersExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(answers)
		tr := transportOver(t, base, WithCache(Cache{TTL: time.Minute}))
		for _, want := range []string{"miss", "hit", "miss"} {
			_, use := ask(t, tr, chatRequest(t.Context(), false))
			require.Equal(t, want, use)
			time.Sleep(30 * time.Second)
		}
		tr = transportOver(t, base, WithCache(Cache{TTL: -1}))
		for range 2 {
			_, use := ask(t, tr, chatRequest(t.Context(), false))
			require.Equal(t, "miss", use)
		}
		require.Zero(t, tr.Stats().Cache.Entries)
	})
}

func TestBadCachesAreRefused(t *testing.T) {
	for field, c := range map[string]Cache{
		"Cache.MaxBytes":     {MaxBytes: -1},
		"Cache.MaxAnswer":    {MaxAnswer: -1},
		"Cache.StoreTimeout": {StoreTimeout: -1},
	} {
		_, err := NewCache(c)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
		_, err = NewTransport(WithAPIKeys("k"), WithBaseURL(DefaultBaseURL), WithCache(c))
		require.ErrorAs(t, err, &bad)
	}
	_, err := NewCache(Cache{Store: newMemoryStore(1), MaxBytes: 1})
	require.Error(t, err)
}

// foreignStore is somebody else's.
type foreignStore struct {
	mu     sync.Mutex
	values map[string][]byte
	ttl    time.Duration
	get    func(context.Context) error // before each use
	set    func(context.Context) error
}

func (s *foreignStore) Get(ctx context.Context, key string) ([]byte, error) {
	if s.get != nil {
		if err := s.get(ctx); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key], nil
}

func (s *foreignStore) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if s.set != nil {
		if err := s.set(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string][]byte{}
	}
	s.values[key], s.ttl = value, ttl
	return nil
}

func TestStoreIsShared(t *testing.T) {
	base := scripted(streamReply(wholeStream))
	store := &foreignStore{}
	one := transportOver(t, base, WithCache(Cache{Store: store, TTL: time.Minute}))
	two := transportOver(t, base, WithCache(Cache{Store: store}), WithPrices(PricesCNY()))
	_, use := ask(t, one, chatRequest(t.Context(), true))
	require.Equal(t, "miss", use)
	require.Equal(t, time.Minute, store.ttl)
	text, use := ask(t, two, chatRequest(t.Context(), true))
	require.Equal(t, "hit", use)
	require.Equal(t, wholeStream, text)
	require.Equal(t, CacheStats{Hits: 1, SavedPromptTokens: 3, SavedOutputTokens: 2}, two.Stats().Cache, "dollars are no yuan")
	for key := range store.values {
		require.Regexp(t, `^seawall:1:[0-9a-f]{64}$`, key)
	}
}

func TestNoCallFailsForItsStore(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	broken := func(context.Context) error { return errReset }
	for name, row := range map[string]struct {
		store *foreignStore
		ops   []string // of two calls
		hit   bool
		took  time.Duration
	}{
		"get fails":     {&foreignStore{get: broken}, []string{"get", "get"}, false, 0},
		"set fails":     {&foreignStore{set: broken}, []string{"set", "set"}, false, 0},
		"get hangs":     {&foreignStore{get: hang}, []string{"get", "get"}, false, 2 * time.Second},
		"set hangs":     {&foreignStore{set: hang}, []string{"set", "set"}, false, 2 * time.Second},
		"nothing fails": {&foreignStore{}, nil, true, 0},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stream %t", name, stream), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var ops []string
					step, want := answers, wholeAnswer
					if stream {
						step, want = streamReply(wholeStream), wholeStream
					}
					base := scripted(step)
					row.store.values = nil
					tr := transportOver(t, base, WithCache(Cache{Store: row.store}), WithObserver(Observer{StoreError: func(e StoreErrorEvent) {
						require.Error(t, e.Err)
						require.Equal(t, ModelFlash, e.Model)
						ops = append(ops, e.Op)
					}}))
					start := time.Now()
					for range 2 {
						text, _ := ask(t, tr, chatRequest(t.Context(), stream))
						require.Equal(t, want, text)
					}
					require.Equal(t, row.ops, ops)
					require.Equal(t, row.took, time.Since(start))
					stats := tr.Stats().Cache
					require.EqualValues(t, len(row.ops), stats.StoreErrors)
					require.Equal(t, row.hit, stats.Hits == 1)
				})
			})
		}
	}
}

// A damaged value is a miss, and is replaced.
func TestDamagedValuesAreMisses(t *testing.T) {
	store := &foreignStore{}
	tr := transportOver(t, scripted(streamReply(wholeStream)), WithCache(Cache{Store: store}))
	ask(t, tr, chatRequest(t.Context(), true))
	for key, value := range store.values {
		for i, damage := range []func([]byte) []byte{
			func(b []byte) []byte { return b[:len(b)-1] },
			func(b []byte) []byte { return append(b, 'x') },
			func(b []byte) []byte { b[len(b)-3] ^= 1; return b },
			func(b []byte) []byte { b[3]++; return b },
			func([]byte) []byte { return []byte{} },
			func([]byte) []byte { return []byte("{}") },
		} {
			store.values[key] = damage([]byte(string(value)))
			text, use := ask(t, tr, chatRequest(t.Context(), true))
			require.Equal(t, "miss", use)
			require.Equal(t, wholeStream, text)
			require.EqualValues(t, i+1, tr.Stats().Cache.StoreErrors)
			_, use = ask(t, tr, chatRequest(t.Context(), true))
			require.Equal(t, "hit", use)
		}
	}
}

// A store that panics does so on its caller's goroutine, and leaves nobody
// waiting.
func TestStoreThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &foreignStore{get: func(context.Context) error { time.Sleep(time.Millisecond); panic("store") }}
		tr := transportOver(t, scripted(answers), WithCache(Cache{Store: store}))
		var wg sync.WaitGroup
		wg.Go(func() {
			require.PanicsWithValue(t, "store", func() { _, _ = send(t.Context(), tr) })
		})
		synctest.Wait()
		_, err := send(t.Context(), tr)
		require.ErrorIs(t, err, errStorePanicked)
		wg.Wait()
		store.get = nil
		_, use := ask(t, tr, chatRequest(t.Context(), false))
		require.Equal(t, "miss", use)
	})
}

func TestMemoryStoreKeepsWhatWasUsedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := (&stored{key: "a", value: make([]byte, 1000)}).size()
		m := newMemoryStore(3 * one)
		get := func(key string) bool {
			v, err := m.Get(t.Context(), key)
			require.NoError(t, err)
			return v != nil
		}
		set := func(key string, size int) {
			require.NoError(t, m.Set(t.Context(), key, make([]byte, size), time.Minute))
			_, used := m.size()
			require.LessOrEqual(t, used, 3*one)
		}
		set("a", 1000)
		set("b", 1000)
		set("c", 1000)
		require.True(t, get("a"))
		set("d", 1000)
		require.False(t, get("b"))
		require.True(t, get("a") && get("c") && get("d"))
		set("c", 10) // in the place of the other
		n, used := m.size()
		require.Equal(t, 3, n)
		require.Equal(t, 3*one-990, used)
		set("e", 4000) // too large for all of it
		require.False(t, get("e"))
		require.True(t, get("a") && get("c") && get("d"))
		time.Sleep(time.Minute)
		require.False(t, get("a") || get("c") || get("d"))
		n, used = m.size()
		require.Zero(t, n)
		require.Zero(t, used)
	})
}

// FuzzKept: whatever a store returns, it is either a whole answer or refused.
func FuzzKept(f *testing.F) {
	stream := &keptAnswer{stream: true, at: time.Unix(1e9, 0), contentType: "text/event-stream", trace: "t", prompt: 1, completion: 2, amount: 3, currency: "USD"}
	require.True(f, stream.events([]byte(keepAlive+chunkHello+eventDone)))
	f.Add(stream.encode()[keptHead:])
	f.Add((&keptAnswer{contentType: "application/json", body: []byte(wholeAnswer)}).encode()[keptHead:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, rest []byte) {
		value := append(make([]byte, keptHead), rest...)
		_, err := readKept(value)
		require.ErrorIs(t, err, errKept, "without its checksum")
		sealKept(value)
		k, err := readKept(value)
		if err != nil {
			return
		}
		req := chatRequest(t.Context(), k.stream)
		resp := k.response(req)
		var text strings.Builder
		_, err = io.CopyBuffer(&text, struct{ io.Reader }{resp.Body}, make([]byte, 7))
		require.NoError(t, err)
		require.Equal(t, string(k.body), text.String())
		again, err := readKept(k.encode())
		require.NoError(t, err)
		require.Equal(t, k, again)
	})
}

// What has nothing to do with the cache costs nothing, and a hit little.
func BenchmarkCacheHit(b *testing.B) {
	for name, stream := range map[string]bool{"whole": false, "stream": true} {
		b.Run(name, func(b *testing.B) {
			step := answers
			if stream {
				step = streamReply(wholeStream)
			}
			tr := transportOver(b, scripted(step), WithCache(Cache{}))
			call := func() {
				resp, err := tr.RoundTrip(chatRequest(context.Background(), stream))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				_ = resp.Body.Close()
			}
			call()
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
			require.EqualValues(b, 1, tr.Stats().Cache.Misses)
		})
	}
}

// A store that is told apart from the cache is that of a cache that names none.
func TestCacheStoreIsTheCaches(t *testing.T) {
	apart, own := newMemoryStore(1<<20), newMemoryStore(1<<20)
	_, err := NewTransport(WithAPIKeys("k"), WithCacheStore(nil))
	require.ErrorContains(t, err, "CacheStore")
	kept := func(opts ...Option) {
		client, err := NewHTTPClient(append(opts, WithAPIKeys("k"), WithBaseURL(DefaultBaseURL), WithTransport(&noopBase{body: []byte(wholeAnswer)}))...)
		require.NoError(t, err)
		post(t, client, DefaultBaseURL)
	}
	size := func(m *memoryStore) int { n, _ := m.size(); return n }
	kept(WithCacheStore(apart))
	require.Zero(t, size(apart), "without a cache it is of no account")
	kept(WithCacheStore(apart), WithCache(Cache{Store: own}))
	require.Equal(t, [2]int{0, 1}, [2]int{size(apart), size(own)})
	kept(WithCacheStore(apart), WithCache(Cache{MaxBytes: 1000}))
	require.Equal(t, [2]int{1, 1}, [2]int{size(apart), size(own)})
}
