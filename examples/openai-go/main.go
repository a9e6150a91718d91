// Openai-go has OpenAI's own SDK, unmodified, make its calls through Seawall.
//
//	go run ./examples/openai-go
//
// Without DEEPSEEK_API_KEY it talks to a fake DeepSeek with faults.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

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

	sdk := openai.NewClient(
		option.WithHTTPClient(client),
		option.WithBaseURL(baseURL),
		option.WithAPIKey("set by the transport"),
		option.WithMaxRetries(0), // the transport does that
	)

	// Not streamed.
	var resp *http.Response // for its header only
	answer, err := sdk.Chat.Completions.New(ctx, openai.ChatCompletionNewParams{
		Model:    deepseek.ModelFlash,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("What is a sea wall?")},
	}, option.WithResponseInto(&resp))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, answer.Choices[0].Message.Content)
	fmt.Fprintln(out, "--", trail(resp))

	// Streamed.
	stream := sdk.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model:    deepseek.ModelFlash,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("And what is a groyne?")},
	}, option.WithResponseInto(&resp))
	defer stream.Close()
	for stream.Next() {
		if chunk := stream.Current(); len(chunk.Choices) > 0 {
			fmt.Fprint(out, chunk.Choices[0].Delta.Content)
		}
	}
	fmt.Fprintln(out)
	if err := stream.Err(); err != nil { // also if the stream ended early
		return err
	}
	fmt.Fprintln(out, "--", trail(resp))
	return nil
}

// trail tells what an answer took. The header is there if it took more than one
// attempt.
func trail(resp *http.Response) string {
	if t := resp.Header.Get("Seawall-Attempts"); t != "" {
		return t
	}
	return "1 attempt"
}
