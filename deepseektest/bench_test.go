package deepseektest

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// One stream of 100 tokens over a connection in memory.
func BenchmarkStream(b *testing.B) {
	s := NewMemoryServer(WithAnswerLength(40, 60), WithoutRecords())
	defer s.Close()
	c := &http.Client{Transport: s.Transport()}
	const body = `{"model":"deepseek-flash","stream":true,"messages":[{"role":"user","content":"Hello"}]}`
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequest(http.MethodPost, s.URL+"/chat/completions", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer k")
		resp, err := c.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
