package deepseek

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConversationIsToldByItsBeginning(t *testing.T) {
	for _, turns := range []struct {
		name  string
		same  []string
		other []string
	}{
		{"chat", []string{
			`{"model":"deepseek-flash","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}`,
			`{"model":"deepseek-flash","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"},{"role":"user","content":"And now?"}],"stream":true}`,
		}, []string{
			`{"model":"deepseek-flash","messages":[{"role":"system","content":"Be long."},{"role":"user","content":"Hi"}]}`,
			`{"model":"deepseek-flash","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Ho"}]}`,
			`{"model":"deepseek-flash","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"user_id":"u"}`,
		}},
		{"parts", []string{
			`{"messages":[{"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:1"}}]}]}`,
			`{"messages":[{"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:1"}}]},{"role":"assistant","content":"A cat."}]}`,
		}, []string{
			`{"messages":[{"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:2"}}]}]}`,
		}},
		{"responses", []string{
			`{"instructions":"Be brief.","input":"Hi"}`,
		}, []string{`{"instructions":"Be brief.","input":"Ho"}`, `{"instructions":"Be long.","input":"Hi"}`}},
		{"responses with items", []string{
			`{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}]}`,
			`{"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]},{"type":"function_call","name":"f"},{"role":"user","content":"Go on"}]}`,
		}, []string{`{"input":[{"role":"user","content":[{"type":"input_text","text":"Ho"}]}]}`}},
		{"anthropic, whose clients move the mark for the cache", []string{
			`{"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}}]}]}`,
			`{"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":"Hello"}]}`,
		}, []string{
			`{"system":[{"type":"text","text":"Be brief."}],"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}],"metadata":{"user_id":"u"}}`,
		}},
	} {
		t.Run(turns.name, func(t *testing.T) {
			key := conversationOf([]byte(turns.same[0])).key()
			require.NotZero(t, key)
			for _, body := range turns.same {
				require.Equal(t, key, conversationOf([]byte(body)).key(), body)
			}
			for _, body := range turns.other {
				require.NotEqual(t, key, conversationOf([]byte(body)).key(), body)
			}
		})
	}
	for _, body := range []string{``, `{}`, `[]`, `{"messages":[]}`, `{"prompt":"def f("}`, `{"system":"Be brief."}`} {
		require.Zero(t, conversationOf([]byte(body)).key(), body)
	}
}

func TestConversationOfTheContextComesFirst(t *testing.T) {
	key := func(ctx context.Context) uint64 {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, testURL, strings.NewReader(smallRequest))
		require.NoError(t, err)
		c, _, err := enter(req)
		require.NoError(t, err)
		return c.conversation.key()
	}
	ofBody := key(t.Context())
	require.Equal(t, conversationOf([]byte(smallRequest)).key(), ofBody)
	named := key(ContextWithConversation(t.Context(), "c-1"))
	require.NotEqual(t, ofBody, named)
	require.Equal(t, named, key(ContextWithConversation(t.Context(), "c-1")))
	require.NotEqual(t, named, key(ContextWithConversation(t.Context(), "c-2")))
}

// Every door sees the same conversation.
func TestConversationOfTheTypedClientIsThatOfTheBody(t *testing.T) {
	var got []uint64
	base := scripted(answers)
	c, err := New(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAPIKeys("sk-a"), WithMiddleware(layer(
		func(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
			got = append(got, c.conversation.key())
			return next.RoundTrip(req)
		})))
	require.NoError(t, err)
	req := &ChatRequest{Messages: []Message{System("Be brief."), User("Hi")}}
	_, err = c.Chat(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, []uint64{conversationOf([]byte(base.sent()[0].body)).key()}, got)
	require.NotZero(t, got[0])
}

func FuzzConversation(f *testing.F) {
	f.Add([]byte(smallRequest))
	f.Add([]byte(`{"messages":[{"role":"user","content":[{"text":1},{}]}],"metadata":{"user_id":[]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		key := conversationOf(body).key()
		if again := conversationOf(body).key(); key != again {
			t.Fatalf("key %d, then %d", key, again)
		}
	})
}

// conversationOf is the conversation of a whole request body.
func conversationOf(body []byte) conversation {
	c := new(call)
	c.read(body)
	return c.conversation
}
