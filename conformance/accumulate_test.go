package conformance_test

import (
	"testing"
	"testing/synctest"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// openai-go's accumulator, which takes no chunk of another answer, takes a
// stream that was continued for one.
func TestAccumulatorTakesAContinuedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := deepseektest.NewMemoryServer()
		defer srv.Close()
		base := srv.Transport()
		defer base.CloseIdleConnections()
		hc, err := deepseek.NewHTTPClient(deepseek.WithStreamResume(), deepseek.WithAPIKeys("sk-one"),
			deepseek.WithBaseURL(srv.URL), deepseek.WithTransport(base))
		require.NoError(t, err)
		sdk := openai.NewClient(option.WithHTTPClient(hc), option.WithBaseURL(srv.URL), option.WithAPIKey("x"), option.WithMaxRetries(0))
		answer := func() openai.ChatCompletionAccumulator {
			stream := sdk.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
				Model: deepseek.ModelFlash, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hi")},
				StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
			})
			defer stream.Close()
			var acc openai.ChatCompletionAccumulator
			for stream.Next() {
				require.True(t, acc.AddChunk(stream.Current()))
			}
			require.NoError(t, stream.Err())
			return acc
		}
		uncut := answer()
		for _, reply := range []deepseektest.Reply{deepseektest.CutAfter(50), deepseektest.FinishAfter(60, "aborted"), deepseektest.CutAfter(50).And(deepseektest.OpenAIUsageChunk())} {
			srv.Enqueue(reply, deepseektest.OpenAIUsageChunk())
			got := answer()
			require.Equal(t, uncut.Choices[0].Message.Content, got.Choices[0].Message.Content)
			require.Equal(t, uncut.Choices[0].FinishReason, got.Choices[0].FinishReason)
			require.Equal(t, uncut.Usage.CompletionTokens, got.Usage.CompletionTokens)
			require.Greater(t, got.Usage.PromptTokens, uncut.Usage.PromptTokens)
			require.Equal(t, got.Usage.PromptTokens+got.Usage.CompletionTokens, got.Usage.TotalTokens)
		}
	})
}
