package deepseek

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// Off peak, deepseek-flash: a hit costs 3, a miss 150, output 600 billionths a
// token. Bubbles begin on a Saturday.

// metered is a whole transport, and what its observer was told of the last call.
// It is for one call at a time.
func metered(tb testing.TB, base http.RoundTripper, opts ...Option) (*Transport, *CallEndEvent) {
	last := new(CallEndEvent)
	return transportOver(tb, base, append(opts, WithObserver(Observer{CallEnd: func(e CallEndEvent) { *last = e }}))...), last
}

func postTo(ctx context.Context, path, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, DefaultBaseURL+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

func data(events ...string) string {
	return "data: " + strings.Join(events, "\n\ndata: ") + "\n\n"
}

// Every format tells the same usage: 256 tokens of the prompt hit, 50 did not,
// 85 tokens of output, 31 of them reasoning where that is told.
func TestUsageOfEveryFormatIsPriced(t *testing.T) {
	const (
		chatUsage      = `{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31},"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50}`
		openAIUsage    = `{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31}}`
		responsesUsage = `{"input_tokens":306,"input_tokens_details":{"cached_tokens":256},"output_tokens":85,"output_tokens_details":{"reasoning_tokens":31},"total_tokens":391}`
		anthropicUsage = `{"input_tokens":50,"cache_creation_input_tokens":0,"cache_read_input_tokens":256,"output_tokens":85}`
	)
	chat, stream := `{"model":"deepseek-flash"}`, `{"model":"deepseek-flash","stream":true}`
	chunk := func(choices, usage string) string {
		return `{"id":"u","model":"deepseek-flash","choices":` + choices + `,"usage":` + usage + `}`
	}
	stop := `[{"index":0,"delta":{},"finish_reason":"stop"}]`
	for name, row := range map[string]struct {
		path, body string
		step       step
	}{
		"chat":              {"/chat/completions", chat, jsonReply(wholeAnswer)},
		"FIM":               {"/beta/completions", chat, jsonReply(`{"id":"u","choices":[{"text":"x","finish_reason":"stop"}],"usage":` + chatUsage + `}`)},
		"other host's":      {"/v1/chat/completions", chat, jsonReply(`{"id":"u","choices":[],"usage":` + openAIUsage + `}`)},
		"responses":         {"/responses", chat, jsonReply(`{"id":"r","object":"response","error":null,"usage":` + responsesUsage + `}`)},
		"anthropic":         {"/anthropic/v1/messages", chat, jsonReply(`{"id":"m","type":"message","usage":` + anthropicUsage + `}`)},
		"chat stream":       {"/chat/completions", stream, streamReply(data(chunk(`[{"index":0,"delta":{"content":"usage"}}]`, "null"), chunk(stop, chatUsage), "[DONE]"))},
		"last chunk":        {"/chat/completions", stream, streamReply(data(chunk(stop, "null"), chunk("[]", openAIUsage), "[DONE]"))},
		"every chunk":       {"/chat/completions", stream, streamReply(data(chunk(`[]`, `{"prompt_tokens":306,"completion_tokens":1}`), chunk(stop, chatUsage), "[DONE]"))},
		"responses stream":  {"/responses", stream, streamReply(data(`{"type":"response.created","response":{"id":"r","usage":null}}`, `{"type":"response.completed","response":{"id":"r","usage":`+responsesUsage+`}}`))},
		"anthropic stream":  {"/anthropic/v1/messages", stream, streamReply(data(`{"type":"message_start","message":{"id":"m","model":"deepseek-flash","usage":{"input_tokens":50,"cache_read_input_tokens":256,"output_tokens":1}}}`, `{"type":"content_block_delta","delta":{"text":"x"}}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":85}}`, `{"type":"message_stop"}`))},
		"anthropic, all":    {"/anthropic/v1/messages", stream, streamReply(data(`{"type":"message_start","message":{"id":"m","usage":{"input_tokens":306,"output_tokens":0}}}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":`+anthropicUsage+`}`, `{"type":"message_stop"}`))},
		"alias":             {"/chat/completions", `{"model":"deepseek-v4-flash"}`, jsonReply(wholeAnswer)},
		"as the answer":     {"/anthropic/v1/messages", `{"model":"gpt-9"}`, jsonReply(`{"id":"m","type":"message","model":"deepseek-flash","usage":` + anthropicUsage + `}`)},
		"as the answer too": {"/anthropic/v1/messages", `{"model":"gpt-9","stream":true}`, streamReply(data(`{"type":"message_start","message":{"id":"m","model":"deepseek-v4-flash","usage":`+anthropicUsage+`}}`, `{"type":"message_stop"}`))},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, last := metered(t, scripted(row.step))
				resp, err := tr.RoundTrip(postTo(t.Context(), row.path, row.body))
				require.NoError(t, err)
				_, err = readBody(resp)
				require.NoError(t, err)

				const amount, saved = 256*3 + 50*150 + 85*600, 256 * (150 - 3)
				require.Equal(t, Cost{Amount: amount, Currency: "USD", Saved: saved}, last.Cost)
				require.NotNil(t, last.Usage)
				u := *last.Usage
				require.True(t, u.ReasoningTokens == 31 || u.ReasoningTokens == 0)
				u.ReasoningTokens = 0
				require.Equal(t, Usage{PromptTokens: 306, CompletionTokens: 85, TotalTokens: 391,
					PromptCacheHitTokens: 256, PromptCacheMissTokens: 50, CachedTokens: 256}, u)
				want := Spend{Amount: amount, Saved: saved, Attempts: 1, CacheHitTokens: 256, CacheMissTokens: 50, OutputTokens: 85}
				stats := tr.Stats()
				require.Equal(t, want, stats.Spend)
				require.Equal(t, "USD", stats.Currency)
				require.Equal(t, want, stats.Accounts[0].Spend)
				require.Equal(t, want, stats.Accounts[0].Models[0].Spend)
			})
		})
	}
}

func TestUnknownModelsHaveNoPrice(t *testing.T) {
	tr, last := metered(t, scripted(jsonReply(`{"id":"u","model":"mystery-2","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}`)))
	resp, err := tr.RoundTrip(postTo(t.Context(), "/chat/completions", `{"model":"mystery"}`))
	require.NoError(t, err)
	_, _ = readBody(resp)
	require.Equal(t, Cost{Currency: "USD", Unpriced: true}, last.Cost)
	require.Equal(t, "0 USD+?", last.Cost.String())
	require.Equal(t, Spend{Attempts: 1, Unpriced: 1, CacheMissTokens: 10, OutputTokens: 5}, tr.Stats().Spend)
}

// What is estimated, and what is held to cost nothing.
func TestEstimates(t *testing.T) {
	const prompt = 4 * 400 // bytes: 400 tokens
	body := func(stream bool) string {
		head := fmt.Sprintf(`{"model":"deepseek-flash","stream":%t,"messages":[{"role":"user","content":"`, stream)
		return head + strings.Repeat("x", prompt-len(head)-4) + `"}]}`
	}
	delta := func(text string) string {
		return data(`{"id":"u","choices":[{"index":0,"delta":{"content":"` + text + `"},"finish_reason":null}],"usage":null}`)
	}
	const misses = 400 * 150
	for name, row := range map[string]struct {
		stream bool
		step   step
		path   string
		give   time.Duration // the caller's patience
		amount Money
		exact  bool
	}{
		"stream left after three tokens":       {true, streamReply(delta("a")+delta("b")+delta("c"), time.Hour), "", time.Second, misses + 3*600, false},
		"stream that breaks":                   {true, streamReply(delta("a")+delta("b"), errReset), "", 0, misses + 2*600, false},
		"stream that ends early":               {true, streamReply(delta("a") + delta("b")), "", 0, misses + 2*600, false},
		"stream that stalls":                   {true, streamReply(delta("a")+delta("b"), time.Hour), "", 0, misses + 2*600, false},
		"stream with an error in it":           {true, streamReply(delta("a") + data(`{"error":{"message":"x"}}`)), "", 0, misses + 600, false},
		"stream with an error only":            {true, streamReply(data(`{"type":"ping"}`, `{"error":{"message":"x"}}`)), "", 0, 0, true},
		"many tokens in an event":              {true, streamReply(delta("a") + delta(strings.Repeat("many", 25)+"a")), "", 0, misses + 25*600, false},
		"stream left in the queue":             {true, streamReply(strings.Repeat(keepAlive, 3), time.Hour), "", time.Second, 0, true},
		"stream that never left the queue":     {true, streamReply(strings.Repeat(keepAlive, 3)), "", 0, 0, true},
		"answered without usage":               {true, streamReply(delta("a") + chunkRole + eventDone), "", 0, misses + 2*600, false},
		"broken off, but told":                 {true, streamReply(delta("a") + data(`{"choices":[{"delta":{},"finish_reason":"aborted"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`)), "", 0, 9*150 + 600, true},
		"anthropic stream left":                {true, streamReply(data(`{"type":"message_start","message":{"usage":{"input_tokens":50,"cache_read_input_tokens":256,"output_tokens":1}}}`, `{"type":"content_block_delta","delta":{"text":"a"}}`, `{"type":"content_block_delta","delta":{"text":"0123456789abcdefghijklmnopqrstuvwxyz"}}`), time.Hour), "/anthropic/v1/messages", time.Second, 256*3 + 50*150 + 8*600, false},
		"whole answer not waited for":          {false, jsonReply("\n", time.Hour), "", time.Second, misses, false},
		"whole answer that never came":         {false, jsonReply("\n\n\n"), "", 0, 0, true},
		"whole answer cut short":               {false, jsonReply(`{"id":"0123456789abcdefghijklmnopqrstuv`), "", 0, misses + 9*600, false},
		"whole answer without usage":           {false, jsonReply(`{"id":"0123456789abcdefghijklmnopqr"}`), "", 0, misses + 9*600, false},
		"whole answer left before its status":  {false, hangs, "", time.Second, 0, true},
		"stream left before its status":        {true, hangs, "", time.Second, 0, true},
		"connection never made":                {false, fails(errReset), "", 0, 0, true},
		"refused":                              {false, status(503), "", 0, 0, true},
		"reset":                                {false, fails(errReset), "", 0, 0, true},
		"HTML":                                 {false, reply(200, "text/html", nil, "<html>"), "", 0, misses + 600, false},
		"not an answer of a model":             {false, jsonReply(`{"input_tokens":400}`), "/anthropic/v1/messages/count_tokens", 0, 0, true},
		"insufficient resources, usage told":   {false, jsonReply(`{"id":"u","choices":[{"finish_reason":"insufficient_system_resource"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`), "", 0, 9*150 + 600, true},
		"compressed, so that nobody can count": {false, reply(200, "application/json", []string{"Content-Encoding: gzip"}, strings.Repeat("z", 40)), "", 0, misses + 10*600, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, last := metered(t, scripted(row.step), WithoutRetry(), WithoutBreaker())
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if row.give > 0 {
					ctx, cancel = context.WithTimeout(ctx, row.give)
				}
				defer cancel()
				path := row.path
				if path == "" {
					path = "/chat/completions"
				}
				req := postTo(ctx, path, body(row.stream))
				require.EqualValues(t, prompt, req.ContentLength)
				resp, err := tr.RoundTrip(req)
				if err == nil {
					_, _ = readBody(resp)
				}
				synctest.Wait()
				require.Equal(t, row.amount, last.Cost.Amount)
				require.Equal(t, !row.exact, last.Cost.Estimated)
				s := tr.Stats().Spend
				require.Equal(t, row.amount, s.Amount)
				if row.exact {
					require.Zero(t, s.Estimated)
				} else {
					require.Equal(t, row.amount, s.Estimated)
					require.True(t, strings.HasPrefix(last.Cost.String(), "~"), last.Cost.String())
				}
				require.EqualValues(t, min(row.amount, 1), s.Attempts)
			})
		})
	}
}

// The attempts of a call add up: the one that broke off and the one that
// answered, each on its account's bill.
func TestCostIsOverAllAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fault := jsonReply(`{"id":"u","choices":[{"finish_reason":"aborted"}],"usage":{"prompt_tokens":100,"completion_tokens":10}}`)
		tr, last := metered(t, scripted(status(401), fault, status(503), answers), WithAPIKeys("key-two"))
		resp, err := send(t.Context(), tr)
		require.NoError(t, err)
		_, _ = readBody(resp)
		const first, second = 100*150 + 10*600, 256*3 + 50*150 + 85*600
		require.EqualValues(t, first+second, last.Cost.Amount)
		require.False(t, last.Cost.Estimated)
		require.Len(t, last.Attempts, 4)
		stats := tr.Stats()
		require.EqualValues(t, first+second, stats.Spend.Amount)
		require.EqualValues(t, 2, stats.Spend.Attempts)
		require.Equal(t, stats.Spend.Amount, stats.Accounts[0].Spend.Amount+stats.Accounts[1].Spend.Amount)
		require.NotNil(t, last.Usage)
		require.Equal(t, 306, last.Usage.PromptTokens, "the answer's")
	})
}

// A stream is priced at its first data, whenever it was sent and ends; any other
// answer when it is whole.
func TestMomentOfThePrice(t *testing.T) {
	for name, row := range map[string]struct {
		sent   time.Duration // after Monday 01:00, when the peak begins
		stream bool
		parts  []any
		atPeak bool
	}{
		"queued before, begun after":   {-time.Minute, true, []any{keepAlive, 30 * time.Second, keepAlive, 30 * time.Second, chunkRole, time.Second, chunkStop + eventDone}, true},
		"begun before, ended after":    {-time.Minute, true, []any{chunkRole, time.Minute, chunkStop + eventDone}, false},
		"whole, sent before":           {-time.Minute, false, []any{"\n", 59 * time.Second, "\n", time.Second, `{"id":"u","usage":{"prompt_tokens":3,"completion_tokens":2}}`}, true},
		"whole, just before the peak":  {-time.Minute, false, []any{"\n", 59 * time.Second, `{"id":"u","usage":{"prompt_tokens":3,"completion_tokens":2}}`}, false},
		"begun at peak, ended after":   {3*time.Hour - time.Second, true, []any{chunkRole, time.Minute, chunkStop + eventDone}, true},
		"begun when the peak was over": {3 * time.Hour, true, []any{chunkRole, chunkStop + eventDone}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				monday := time.Date(2000, 1, 3, 1, 0, 0, 0, time.UTC)
				time.Sleep(time.Until(monday.Add(row.sent)))
				reply := jsonReply(row.parts...)
				if row.stream {
					reply = streamReply(row.parts...)
				}
				tr, last := metered(t, scripted(reply))
				resp, err := tr.RoundTrip(chatRequest(t.Context(), row.stream))
				require.NoError(t, err)
				_, err = readBody(resp)
				require.NoError(t, err)
				want := Money(3*150 + 2*600)
				if row.atPeak {
					want *= 2
				}
				require.Equal(t, want, last.Cost.Amount)
			})
		})
	}
}

// Costs are counted for everybody, observed or not, and that costs nothing.
func TestCountingDoesNotAllocate(t *testing.T) {
	m, err := NewMeter(Prices{})
	require.NoError(t, err)
	c, to := &call{Context: t.Context(), model: ModelFlash}, &target{slot: new(slot), model: ModelFlash}
	usage, model := reported{prompt: 306, completion: 85, hit: 256, any: true}, []byte(`"deepseek-v4-flash"`)
	event := []byte(`{"model":"deepseek-flash","usage":{"input_tokens":50,"output_tokens":85,"cache_read_input_tokens":256}}`)
	var tl tally
	require.Zero(t, testing.AllocsPerRun(100, func() {
		tl = tally{}
		tl.accepted.Store(true)
		for range 10 {
			tl.event(250)
		}
		tl.note(c, usage, model, true)
		tl.noteIn(c, event, false)
		c.bill = bill{target: to, meter: m, tally: &tl, at: 1}
		c.bill.finish(c, verdict{outcome: answered})
	}))
	require.Positive(t, m.Spend().Amount)
}

// The meter prices what the guard counts, without any other layer.
func TestMeterAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMeter(PricesCNY())
		require.NoError(t, err)
		rt := Chain(m.Middleware(), NewGuard(Timeouts{}, false))(scripted(answers))
		for range 3 {
			resp, err := send(t.Context(), rt)
			require.NoError(t, err)
			_, err = io.ReadAll(resp.Body)
			require.NoError(t, err)
		}
		require.EqualValues(t, 3*(256*20+50*1000+85*4000), m.Spend().Amount)
		require.EqualValues(t, 3, m.Spend().Attempts)
		require.Equal(t, "CNY", m.Currency())

		unguarded := m.Middleware()(scripted(answers))
		_, err = send(t.Context(), unguarded)
		require.NoError(t, err)
		require.EqualValues(t, 3, m.Spend().Attempts)
	})
}

// A hostile usage makes no wrong turn, and hardly a wrong number.
func FuzzReported(f *testing.F) {
	for _, s := range []string{
		`{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50}`,
		`{"input_tokens":50,"cache_read_input_tokens":256,"output_tokens":85}`,
		`{"input_tokens":1e300,"input_tokens_details":{"cached_tokens":-5},"output_tokens":99999999999999999999}`,
		`{"prompt_tokens":null,"prompt_tokens_details":{"cached_tokens":"7"}}`,
	} {
		f.Add([]byte(s))
	}
	tariff, err := newTariff(Prices{})
	require.NoError(f, err)
	r, _ := tariff.rate(ModelPro, time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var told reported
		cursor := jsonscan.NewCursor(raw)
		if told.decode(&cursor); !told.any {
			return
		}
		u := told.usage()
		for _, n := range []int{u.PromptTokens, u.CompletionTokens, u.PromptCacheHitTokens, u.PromptCacheMissTokens, u.ReasoningTokens} {
			require.GreaterOrEqual(t, n, 0)
			require.Less(t, int64(n), int64(1)<<34)
		}
		amount, saved := r.of(&u)
		require.GreaterOrEqual(t, amount, Money(0))
		require.GreaterOrEqual(t, saved, Money(0))
	})
}
