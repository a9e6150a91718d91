package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/openai/openai-go/v3"
	goopenai "github.com/sashabaranov/go-openai"

	"github.com/seawall-go/deepseek"
)

const longStream = 5000 // chunks

// typed are the three typed clients over one in-memory answer; those of the
// peers also over Seawall's transport.
type typed struct {
	ours                   *deepseek.Client
	openai, openaiOver     openai.Client
	goopenai, goopenaiOver *goopenai.Client
}

func newTyped(a *answer) (*typed, error) {
	const url = deepseek.DefaultBaseURL
	ours, err := deepseek.New(deepseek.WithAPIKeys(apiKey), deepseek.WithBaseURL(url), deepseek.WithTransport(a))
	if err != nil {
		return nil, err
	}
	beneath, err := seawall(a, url)
	if err != nil {
		return nil, err
	}
	bare := &http.Client{Transport: a}
	return &typed{
		ours:   ours,
		openai: newOpenAI(bare, url), openaiOver: newOpenAI(beneath, url),
		goopenai: newGoOpenAI(bare, url), goopenaiOver: newGoOpenAI(beneath, url),
	}, nil
}

func typedWhole() (*table, error) {
	a := whole()
	c, err := newTyped(a)
	if err != nil {
		return nil, err
	}
	t := &table{title: "Typed clients: an answer in one piece, decoded, no network"}
	t.add("openai-go", func() error { return openaiWhole(c.openai) })
	t.add("go-openai (no retry)", func() error { return goopenaiWhole(c.goopenai) })
	t.add("**Seawall**, its default chain included", func() error { return oursWhole(c.ours) })
	t.add("openai-go over **Seawall**", func() error { return openaiWhole(c.openaiOver) })
	t.add("go-openai over **Seawall**", func() error { return goopenaiWhole(c.goopenaiOver) })
	return t, nil
}

func typedStream() (*table, error) {
	a, text := streamed(longStream)
	c, err := newTyped(a)
	if err != nil {
		return nil, err
	}
	t := &table{
		title: fmt.Sprintf("Typed clients: a stream of %d chunks of %d bytes, decoded, no network", longStream, len(a.body)/longStream),
		bytes: int64(len(a.body)),
	}
	t.add("openai-go", func() error { return openaiStream(c.openai, text) })
	t.add("go-openai (no retry)", func() error { return goopenaiStream(c.goopenai, text) })
	t.add("**Seawall**, its default chain included", func() error { return oursStream(c.ours, text) })
	t.add("openai-go over **Seawall**", func() error { return openaiStream(c.openaiOver, text) })
	t.add("go-openai over **Seawall**", func() error { return goopenaiStream(c.goopenaiOver, text) })
	return t, nil
}

func oursWhole(c *deepseek.Client) error {
	resp, err := c.Chat(context.Background(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}})
	if err != nil {
		return err
	}
	return same(resp.Text(), hello)
}

func openaiWhole(c openai.Client) error {
	resp, err := c.Chat.Completions.New(context.Background(), openaiRequest())
	if err != nil {
		return err
	}
	return same(resp.Choices[0].Message.Content, hello)
}

func goopenaiWhole(c *goopenai.Client) error {
	resp, err := c.CreateChatCompletion(context.Background(), goopenaiRequest())
	if err != nil {
		return err
	}
	return same(resp.Choices[0].Message.Content, hello)
}

func oursStream(c *deepseek.Client, want int) error {
	stream, err := c.ChatStream(context.Background(), &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User("Hi")}})
	if err != nil {
		return err
	}
	n := 0
	for chunk, err := range stream.Chunks() {
		if err != nil {
			return err
		}
		n += len(chunk.Text())
	}
	return same(n, want)
}

func openaiStream(c openai.Client, want int) error {
	stream := c.Chat.Completions.NewStreaming(context.Background(), openaiRequest())
	n := 0
	for stream.Next() {
		n += len(stream.Current().Choices[0].Delta.Content)
	}
	return errors.Join(stream.Err(), stream.Close(), same(n, want))
}

func goopenaiStream(c *goopenai.Client, want int) error {
	stream, err := c.CreateChatCompletionStream(context.Background(), goopenaiRequest())
	if err != nil {
		return err
	}
	n := 0
	for {
		chunk, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, stream.Close())
		}
		n += len(chunk.Choices[0].Delta.Content)
	}
	return errors.Join(stream.Close(), same(n, want))
}

func openaiRequest() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    "deepseek-flash",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hi")},
	}
}

func goopenaiRequest() goopenai.ChatCompletionRequest {
	return goopenai.ChatCompletionRequest{
		Model:    "deepseek-flash",
		Messages: []goopenai.ChatCompletionMessage{{Role: goopenai.ChatMessageRoleUser, Content: "Hi"}},
	}
}

func same[T comparable](got, want T) error {
	if got != want {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}
