// Go-openai has the SDK of sashabaranov, unmodified, make its calls through
// Seawall.
//
//	go run ./examples/go-openai
//
// Without DEEPSEEK_API_KEY it talks to a fake DeepSeek with faults.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	openai "github.com/sashabaranov/go-openai"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/examples/internal/fake"
)

func main() {
	api := fake.Unless(os.Getenv)
	defer api.Close()
	if err := run(context.Background(), os.Stdout, api.URL, api.Options...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, baseURL string, opts ...deepseek.Option) error {
	client, err := deepseek.NewHTTPClient(opts...)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()

	config := openai.DefaultConfig("set by the transport")
	config.BaseURL = baseURL
	config.HTTPClient = client
	sdk := openai.NewClientWithConfig(config)

	// Not streamed.
	answer, err := sdk.CreateChatCompletion(ctx, openai.ChatCompletionRequest{
		Model:    deepseek.ModelFlash,
		Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: "What is a sea wall?"}},
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, answer.Choices[0].Message.Content)
	fmt.Fprintln(out, "--", trail(answer.Header()))

	// Streamed.
	stream, err := sdk.CreateChatCompletionStream(ctx, openai.ChatCompletionRequest{
		Model:    deepseek.ModelFlash,
		Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: "And what is a groyne?"}},
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) { // never the end of half an answer
			break
		}
		if err != nil {
			return err
		}
		if len(chunk.Choices) > 0 {
			fmt.Fprint(out, chunk.Choices[0].Delta.Content)
		}
	}
	fmt.Fprintln(out)
	fmt.Fprintln(out, "--", trail(stream.Header()))
	return nil
}

// trail tells what an answer took. The header is there if it took more than one
// attempt.
func trail(h http.Header) string {
	if t := h.Get("Seawall-Attempts"); t != "" {
		return t
	}
	return "1 attempt"
}
