package deepseek

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

// noopBase answers at once, as little as a server can.
type noopBase struct{ body []byte }

const wholeAnswer = `{"id":"u","object":"chat.completion","created":1784697182,"model":"deepseek-flash","choices":[{"index":0,"message":{"role":"assistant","content":"Hello there, how can I help you today?","reasoning_content":"The user says hi."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":306,"completion_tokens":85,"total_tokens":391,"prompt_tokens_details":{"cached_tokens":256},"completion_tokens_details":{"reasoning_tokens":31},"prompt_cache_hit_tokens":256,"prompt_cache_miss_tokens":50},"system_fingerprint":"fp"}`

func (b *noopBase) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "X-Ds-Trace-Id": {"0123456789abcdef0123456789abcdef"}},
		Body:          io.NopCloser(bytes.NewReader(b.body)),
		ContentLength: int64(len(b.body)), Request: req,
	}, nil
}

const smallRequest = `{"messages":[{"role":"user","content":"Hi"}],"model":"deepseek-flash"}`

func post(tb testing.TB, client *http.Client, base string) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/chat/completions", bytes.NewReader([]byte(smallRequest)))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer placeholder")
	resp, err := client.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		tb.Fatal(err)
	}
	_ = resp.Body.Close()
}

// TestOverheadAllocations: the whole default chain costs at most 15 allocations
// beyond bare net/http, and the pool's part does not grow with its keys.
func TestOverheadAllocations(t *testing.T) {
	base := &noopBase{body: []byte(wholeAnswer)}
	bare := testing.AllocsPerRun(2000, func() { post(t, &http.Client{Transport: base}, DefaultBaseURL) })
	for _, keys := range []int{1, 10, 10_000} {
		client, err := NewHTTPClient(WithAPIKeys(manyKeys(keys)...), WithTransport(base), WithBaseURL(DefaultBaseURL))
		require.NoError(t, err)
		ours := testing.AllocsPerRun(2000, func() { post(t, client, DefaultBaseURL) })
		t.Logf("%d keys: %.0f allocations, bare %.0f", keys, ours, bare)
		if !racedetector.On {
			require.LessOrEqual(t, ours-bare, 15.0, "%d keys", keys)
		}
	}
}

// TestRecordsFitTheAllocator: one word more, and the next size of memory is taken
// for each call.
func TestRecordsFitTheAllocator(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	require.LessOrEqual(t, unsafe.Sizeof(call{}), uintptr(512))
	require.LessOrEqual(t, unsafe.Sizeof(watched{}), uintptr(320))
}

func BenchmarkOverhead(b *testing.B) {
	base := &noopBase{body: []byte(wholeAnswer)}
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		client := &http.Client{Transport: base}
		for b.Loop() {
			post(b, client, DefaultBaseURL)
		}
	})
	b.Run("chain", func(b *testing.B) {
		b.ReportAllocs()
		client, err := NewHTTPClient(WithAPIKeys("sk-one"), WithTransport(base), WithBaseURL(DefaultBaseURL))
		require.NoError(b, err)
		for b.Loop() {
			post(b, client, DefaultBaseURL)
		}
	})
}

func BenchmarkPoolChoice(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(map[int]string{10: "10 keys", 10_000: "10000 keys"}[n], func(b *testing.B) {
			b.ReportAllocs()
			pool := newTestPool(b, n)
			m := pool.model("deepseek-flash")
			c := &call{Context: context.Background()}
			for b.Loop() {
				p, err := m.acquire(c, 0, nil)
				if err != nil {
					b.Fatal(err)
				}
				p.finish(c, verdict{outcome: answered})
			}
		})
	}
}
