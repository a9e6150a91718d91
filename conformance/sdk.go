package conformance

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/respjson"
	"github.com/openai/openai-go/v3/packages/ssestream"
	goopenai "github.com/sashabaranov/go-openai"

	"github.com/seawall-go/deepseek"
)

// notTheKey is what the SDKs are told to send. The transport must replace it.
const notTheKey = "sk-of-the-sdk"

// OpenAI is the door of github.com/openai/openai-go. With fewer than 0 retries
// it has its own default of 2.
func OpenAI(client *http.Client, url string, retries int) Door {
	opts := []option.RequestOption{
		option.WithHTTPClient(client), option.WithBaseURL(url), option.WithAPIKey(notTheKey),
	}
	if retries >= 0 {
		opts = append(opts, option.WithMaxRetries(retries))
	} else {
		retries = 2
	}
	sdk := openai.NewClient(opts...)
	params := func(p Prompt) openai.ChatCompletionNewParams {
		p = p.withDefaults()
		return openai.ChatCompletionNewParams{
			Model: p.Model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(p.Text)},
		}
	}
	failed := func(resp *http.Response, err error) (res Result) {
		if e, ok := errors.AsType[*openai.Error](err); ok {
			res.Status = e.StatusCode
			resp = e.Response
			if data, err := io.ReadAll(resp.Body); err == nil {
				res.Body = string(data)
			}
		}
		if resp != nil {
			res.Status, res.Header = resp.StatusCode, resp.Header
		}
		return res
	}
	d := Door{Retries: retries, HidesCause: true, URL: url}
	d.Chat = func(ctx context.Context, p Prompt) (Result, error) {
		var resp *http.Response
		c, err := sdk.Chat.Completions.New(ctx, params(p), option.WithResponseInto(&resp))
		if err != nil {
			return failed(resp, err), err
		}
		if c.JSON.ExtraFields["error"].Raw() != "" {
			return failed(resp, nil), &StatusError{resp.StatusCode, c.RawJSON()}
		}
		res := Result{Status: resp.StatusCode, Header: resp.Header, Body: c.RawJSON(), Clean: true}
		piece := Piece{Prompt: int(c.Usage.PromptTokens), Completed: int(c.Usage.CompletionTokens)}
		for _, ch := range c.Choices {
			piece.Text += ch.Message.Content
			piece.Reasoning += extra(ch.Message.JSON.ExtraFields)
			piece.Finish += ch.FinishReason
			for _, t := range ch.Message.ToolCalls {
				piece.Tools += t.Function.Arguments
			}
		}
		res.add(piece)
		return res, nil
	}
	d.Open = func(ctx context.Context, p Prompt) (Stream, Result, error) {
		var resp *http.Response
		s := sdk.Chat.Completions.NewStreaming(ctx, params(p), option.WithResponseInto(&resp))
		if err := s.Err(); err != nil {
			return nil, failed(resp, err), err
		}
		return openAIStream{s}, failed(resp, nil), nil
	}
	return d
}

func extra(fields map[string]respjson.Field) string {
	raw := fields["reasoning_content"].Raw()
	if raw == "" || raw == "null" {
		return ""
	}
	var s string
	_ = jsonUnmarshal(raw, &s)
	return s
}

type openAIStream struct {
	s *ssestream.Stream[openai.ChatCompletionChunk]
}

func (o openAIStream) Close() error { return o.s.Close() }

func (o openAIStream) Next() (Piece, error) {
	if !o.s.Next() {
		if err := o.s.Err(); err != nil {
			return Piece{}, err
		}
		return Piece{}, io.EOF
	}
	c := o.s.Current()
	p := Piece{Prompt: int(c.Usage.PromptTokens), Completed: int(c.Usage.CompletionTokens)}
	for _, ch := range c.Choices {
		p.Text += ch.Delta.Content
		p.Reasoning += extra(ch.Delta.JSON.ExtraFields)
		p.Finish += ch.FinishReason
		for _, t := range ch.Delta.ToolCalls {
			p.Tools += t.Function.Arguments
		}
	}
	return p, nil
}

// GoOpenAI is the door of github.com/sashabaranov/go-openai.
func GoOpenAI(client *http.Client, url string) Door {
	cfg := goopenai.DefaultConfig(notTheKey)
	cfg.BaseURL, cfg.HTTPClient = url, client
	sdk := goopenai.NewClientWithConfig(cfg)
	request := func(p Prompt) goopenai.ChatCompletionRequest {
		p = p.withDefaults()
		return goopenai.ChatCompletionRequest{
			Model: p.Model, Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: p.Text}},
		}
	}
	failed := func(err error) (res Result) {
		if e, ok := errors.AsType[*goopenai.APIError](err); ok {
			res.Status, res.Body = e.HTTPStatusCode, e.Message
		}
		if e, ok := errors.AsType[*goopenai.RequestError](err); ok {
			res.Status, res.Body = e.HTTPStatusCode, string(e.Body)
		}
		return res
	}
	d := Door{URL: url, HidesHeader: true}
	d.Chat = func(ctx context.Context, p Prompt) (Result, error) {
		c, err := sdk.CreateChatCompletion(ctx, request(p))
		if err != nil {
			return failed(err), err
		}
		res := Result{Status: http.StatusOK, Header: c.Header(), Clean: true}
		piece := Piece{Prompt: c.Usage.PromptTokens, Completed: c.Usage.CompletionTokens}
		for _, ch := range c.Choices {
			piece.Text += ch.Message.Content
			piece.Reasoning += ch.Message.ReasoningContent
			piece.Finish += string(ch.FinishReason)
			for _, t := range ch.Message.ToolCalls {
				piece.Tools += t.Function.Arguments
			}
		}
		res.add(piece)
		return res, nil
	}
	d.Open = func(ctx context.Context, p Prompt) (Stream, Result, error) {
		req := request(p)
		req.Stream = true
		s, err := sdk.CreateChatCompletionStream(ctx, req)
		if err != nil {
			return nil, failed(err), err
		}
		return goOpenAIStream{s}, Result{Status: http.StatusOK, Header: s.Header()}, nil
	}
	return d
}

type goOpenAIStream struct {
	s *goopenai.ChatCompletionStream
}

func (g goOpenAIStream) Close() error { return g.s.Close() }

func (g goOpenAIStream) Next() (Piece, error) {
	c, err := g.s.Recv()
	if err != nil {
		return Piece{}, err
	}
	var p Piece
	if c.Usage != nil {
		p.Prompt, p.Completed = c.Usage.PromptTokens, c.Usage.CompletionTokens
	}
	for _, ch := range c.Choices {
		p.Text += ch.Delta.Content
		p.Reasoning += ch.Delta.ReasoningContent
		p.Finish += string(ch.FinishReason)
		for _, t := range ch.Delta.ToolCalls {
			p.Tools += t.Function.Arguments
		}
	}
	return p, nil
}

// Typed is the door of this module's own client.
func Typed(client *deepseek.Client) Door {
	request := func(p Prompt) *deepseek.ChatRequest {
		p = p.withDefaults()
		return &deepseek.ChatRequest{Model: p.Model, Messages: []deepseek.Message{deepseek.User(p.Text)}}
	}
	failed := func(err error) (res Result) {
		if e, ok := errors.AsType[*deepseek.APIError](err); ok {
			res.Status, res.Header, res.Body = e.StatusCode, e.Header, string(e.Body)
		}
		return res
	}
	usage := func(p *Piece, u *deepseek.Usage) {
		if u != nil {
			p.Prompt, p.Completed = u.PromptTokens, u.CompletionTokens
		}
	}
	d := Door{Transport: client.Transport(), Framing: true}
	d.Chat = func(ctx context.Context, p Prompt) (Result, error) {
		c, err := client.Chat(ctx, request(p))
		if err != nil {
			return failed(err), err
		}
		piece := Piece{Text: c.Text(), Reasoning: c.Reasoning(), Finish: string(c.FinishReason())}
		for _, t := range c.ToolCalls() {
			piece.Tools += t.Function.Arguments
		}
		usage(&piece, c.Usage)
		res := Result{Status: http.StatusOK, Header: c.Header, Clean: true}
		res.add(piece)
		return res, nil
	}
	d.Open = func(ctx context.Context, p Prompt) (Stream, Result, error) {
		s, err := client.ChatStream(ctx, request(p))
		if err != nil {
			return nil, failed(err), err
		}
		next, stop := iter.Pull2(s.Chunks())
		return &typedStream{s, next, stop, usage}, Result{Status: http.StatusOK, Header: s.Response().Header}, nil
	}
	return d
}

type typedStream struct {
	s     *deepseek.ChatStream
	next  func() (*deepseek.ChatChunk, error, bool)
	stop  func()
	usage func(*Piece, *deepseek.Usage)
}

func (s *typedStream) Close() error {
	s.stop()
	return s.s.Close()
}

func (s *typedStream) Next() (Piece, error) {
	c, err, ok := s.next()
	switch {
	case !ok:
		return Piece{}, io.EOF
	case err != nil:
		s.stop()
		return Piece{}, err
	}
	p := Piece{Text: c.Text(), Reasoning: c.Reasoning(), Finish: string(c.FinishReason())}
	for _, ch := range c.Choices {
		for _, t := range ch.Delta.ToolCalls {
			p.Tools += t.Function.Arguments
		}
	}
	s.usage(&p, c.Usage)
	return p, nil
}

func hasKey(text string) bool { return strings.Contains(text, secret) }
