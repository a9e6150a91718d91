package main

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// openAI is openai-go with a client for each key, by turns.
var openAI = contender{
	name:  "openai-go",
	about: "one client a key, by turns, 10 retries; the `finish_reason` is checked",
	open: func(s *site) (client, error) {
		o := &openAIClient{hc: &http.Client{Transport: s.base, Timeout: attemptTimeout}}
		for _, k := range s.keys() {
			o.sdks = append(o.sdks, openai.NewClient(option.WithAPIKey(k), option.WithBaseURL(s.url),
				option.WithHTTPClient(o.hc), option.WithMaxRetries(10)))
		}
		return o, nil
	},
}

type openAIClient struct {
	hc   *http.Client
	sdks []openai.Client
	turn atomic.Uint64
}

func (o *openAIClient) close() { o.hc.CloseIdleConnections() }

func (o *openAIClient) do(ctx context.Context, q *question) (string, error) {
	sdk := &o.sdks[o.turn.Add(1)%uint64(len(o.sdks))]
	params := openai.ChatCompletionNewParams{Model: model}
	for _, m := range q.messages {
		switch m.Role {
		case "system":
			params.Messages = append(params.Messages, openai.SystemMessage(m.Content))
		case "assistant":
			params.Messages = append(params.Messages, openai.AssistantMessage(m.Content))
		default:
			params.Messages = append(params.Messages, openai.UserMessage(m.Content))
		}
	}
	off := option.WithJSONSet("thinking", map[string]any{"type": "disabled"})
	if !q.stream {
		c, err := sdk.Chat.Completions.New(ctx, params, off)
		if err != nil {
			return "", err
		}
		if len(c.Choices) == 0 || c.Choices[0].FinishReason != "stop" {
			return "", errNotWhole
		}
		return c.Choices[0].Message.Content, nil
	}
	stream := sdk.Chat.Completions.NewStreaming(ctx, params, off)
	defer stream.Close()
	var text []byte
	finished := false
	for stream.Next() {
		if c := stream.Current(); len(c.Choices) > 0 {
			text = append(text, c.Choices[0].Delta.Content...)
			finished = finished || c.Choices[0].FinishReason == "stop"
		}
	}
	if err := stream.Err(); err != nil {
		return "", err
	}
	if !finished {
		return "", errNotWhole
	}
	return string(text), nil
}
