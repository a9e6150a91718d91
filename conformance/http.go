package conformance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// StatusError is a response that is no answer, as the plain HTTP door tells it.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.Status, e.Body) }

// HTTP is the door of a program that speaks HTTP by itself.
func HTTP(client *http.Client, url string) Door {
	d := Door{Do: client.Do, URL: url, Framing: true}
	send := func(ctx context.Context, p Prompt, stream bool) (*http.Response, Result, error) {
		p = p.withDefaults()
		body, err := json.Marshal(map[string]any{
			"model": p.Model, "stream": stream, "messages": []any{map[string]string{"role": "user", "content": p.Text}},
		})
		if err != nil {
			return nil, Result{}, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/chat/completions", bytes.NewReader(body))
		if err != nil {
			return nil, Result{}, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return nil, Result{}, err
		}
		res := Result{Status: resp.StatusCode, Header: resp.Header}
		if resp.StatusCode != http.StatusOK {
			// Not closed: the end of the body must be enough.
			data, err := io.ReadAll(resp.Body)
			if err != nil {
				return nil, res, err
			}
			res.Body = string(data)
			return nil, res, &StatusError{resp.StatusCode, res.Body}
		}
		return resp, res, nil
	}
	d.Chat = func(ctx context.Context, p Prompt) (Result, error) {
		resp, res, err := send(ctx, p, false)
		if err != nil {
			return res, err
		}
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			return res, err
		}
		res.Body = string(data)
		var w wire
		if err := json.Unmarshal(data, &w); err != nil {
			return res, err
		}
		if w.Error != nil {
			return res, &StatusError{resp.StatusCode, res.Body}
		}
		res.add(w.piece())
		res.Clean = true
		return res, nil
	}
	d.Open = func(ctx context.Context, p Prompt) (Stream, Result, error) {
		resp, res, err := send(ctx, p, true)
		if err != nil {
			return nil, res, err
		}
		return &events{body: resp.Body, r: bufio.NewReader(resp.Body)}, res, nil
	}
	return d
}

// wire is an answer or a piece of one.
type wire struct {
	Choices []struct {
		Message, Delta struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
			ToolCalls []struct {
				Function struct {
					Arguments string `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
		}
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

func (w *wire) piece() (p Piece) {
	for _, c := range w.Choices {
		p.Text += c.Message.Content + c.Delta.Content
		p.Reasoning += c.Message.Reasoning + c.Delta.Reasoning
		for _, t := range append(c.Message.ToolCalls, c.Delta.ToolCalls...) {
			p.Tools += t.Function.Arguments
		}
		p.Finish += c.FinishReason
	}
	if w.Usage != nil {
		p.Prompt, p.Completed = w.Usage.Prompt, w.Usage.Completion
	}
	return p
}

// events reads an event stream by the letter of the standard, and takes every
// clean end for the end of the answer.
type events struct {
	body io.ReadCloser
	r    *bufio.Reader
	last byte // of the previous line's end
	bom  bool
	done bool
}

func (e *events) Close() error { return e.body.Close() }

func (e *events) line() (string, error) {
	var b []byte
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return "", err
		}
		if c == '\n' && e.last == '\r' && len(b) == 0 {
			e.last = 0
			continue
		}
		e.last = c
		if c == '\n' || c == '\r' {
			break
		}
		b = append(b, c)
	}
	s := string(b)
	if !e.bom {
		e.bom = true
		s = strings.TrimPrefix(s, "\ufeff")
	}
	return s, nil
}

// data returns the data of the next event.
func (e *events) data() (string, error) {
	var lines []string
	for {
		l, err := e.line()
		if err != nil {
			return "", err
		}
		if l == "" {
			if len(lines) > 0 {
				return strings.Join(lines, "\n"), nil
			}
			continue
		}
		if d, ok := strings.CutPrefix(l, "data:"); ok {
			lines = append(lines, strings.TrimPrefix(d, " "))
		}
	}
}

func (e *events) Next() (Piece, error) {
	if e.done {
		return Piece{}, io.EOF
	}
	d, err := e.data()
	if err != nil {
		return Piece{}, err
	}
	if d == "[DONE]" {
		e.done = true
		return Piece{}, io.EOF
	}
	var w wire
	if err := json.Unmarshal([]byte(d), &w); err != nil {
		return Piece{}, errors.New("event is no JSON: " + err.Error())
	}
	if w.Error != nil {
		return Piece{}, &StatusError{http.StatusOK, d}
	}
	return w.piece(), nil
}
