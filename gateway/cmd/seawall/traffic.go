package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
)

// The demo's own traffic: so many conversations at a time, more and fewer in the
// course of a tide.
const (
	conversationsLeast = 3
	conversationsMost  = 18
	tide               = 80 * time.Second
	thinking           = 700 * time.Millisecond // between an answer and the next question, about
)

// traffic makes requests of a handler until ctx ends.
func traffic(ctx context.Context, h http.Handler) {
	ctx = context.WithValue(ctx, ownTraffic{}, true)
	start := time.Now()
	var all sync.WaitGroup
	for i := range conversationsMost {
		all.Go(func() {
			for pause(ctx, time.Duration((0.5+rand.Float64())*float64(thinking))) {
				high := (1 - math.Cos(2*math.Pi*float64(time.Since(start))/float64(tide))) / 2
				if float64(i) < conversationsLeast+high*(conversationsMost-conversationsLeast) {
					converse(ctx, h, i)
				}
			}
		})
	}
	all.Wait()
}

// pause waits, and reports whether there is anything to go on for.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

var (
	topics = []string{"tides", "harbour walls", "groynes", "storm surges", "wave run-up", "beach nourishment"}
	asked  = []string{"Why is that?", "How high must it be?", "What does that cost a metre?", "And in a storm?", "Who found that out?", "Sum it up."}
)

// converse has a conversation of some turns. Each begins as the one before did, so
// that the context cache has something to save.
func converse(ctx context.Context, h http.Handler, number int) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	topic := topics[number%len(topics)]
	messages := []message{{"system", strings.Repeat("You are an engineer who builds sea walls, and tells about "+topic+". ", 90)}}
	request := struct {
		Model    string    `json:"model"`
		Stream   bool      `json:"stream"`
		Messages []message `json:"messages"`
	}{Model: deepseek.ModelFlash, Stream: number%3 != 0}
	switch dice := rand.IntN(100); {
	case dice < 30:
		request.Model = deepseek.ModelPro
	case dice < 31:
		request.Model = "deepseek-imaginary" // which the API rejects
	}
	for turn := range 2 + rand.IntN(4) {
		messages = append(messages, message{"user", "Tell me about " + topic + ". " + asked[(number+turn)%len(asked)]})
		request.Messages = messages
		body, _ := json.Marshal(request) // cannot fail
		once, leave := context.WithCancel(ctx)
		if rand.IntN(60) == 0 { // somebody loses patience
			time.AfterFunc(1500*time.Millisecond, leave)
		}
		answered := ask(once, h, body)
		leave()
		if !answered {
			pause(ctx, 5*time.Second) // as a program would that is told to come later
			return
		}
		messages = append(messages, message{"assistant", strings.Repeat("It depends on the waves. ", 12)})
	}
}

// ask makes one request and throws the answer away. It reports whether there was
// one.
func ask(ctx context.Context, h http.Handler, body []byte) bool {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { // a stream that broke
			panic(p)
		}
	}()
	r := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/chat/completions"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Host: "demo",
		ContentLength: int64(len(body)), Body: readCloser{bytes.NewReader(body)},
	}).WithContext(ctx)
	w := &sink{header: http.Header{}}
	h.ServeHTTP(w, r)
	return w.status == http.StatusOK
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// sink is a client that reads all at once and keeps nothing.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Flush()                      {}

// ownTraffic marks the contexts of the demo's own requests.
type ownTraffic struct{}

// othersOnly leaves the demo's own requests out of the log, where somebody looks
// for what became of theirs.
type othersOnly struct{ slog.Handler }

func (h othersOnly) Handle(ctx context.Context, r slog.Record) error {
	if ctx.Value(ownTraffic{}) != nil && r.Level < slog.LevelError {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h othersOnly) WithAttrs(attrs []slog.Attr) slog.Handler {
	return othersOnly{h.Handler.WithAttrs(attrs)}
}
func (h othersOnly) WithGroup(name string) slog.Handler { return othersOnly{h.Handler.WithGroup(name)} }
