package deepseektest

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

type fimBody struct {
	Model         *string         `json:"model"`
	Prompt        *string         `json:"prompt"`
	Suffix        *string         `json:"suffix"`
	Echo          *bool           `json:"echo"`
	Logprobs      *int64          `json:"logprobs"`
	MaxTokens     *int64          `json:"max_tokens"`
	Stop          json.RawMessage `json:"stop"`
	Stream        *bool           `json:"stream"`
	StreamOptions *struct {
		IncludeUsage *bool `json:"include_usage"`
	} `json:"stream_options"`
	Temperature *float64 `json:"temperature"`
	TopP        *float64 `json:"top_p"`
	UserID      *string  `json:"user_id"`
}

// fimTokens is the largest max_tokens of FIM completions.
const fimTokens = 4096

// decodeFIM reads a fill-in-the-middle request.
func decodeFIM(c *config, body []byte, beta bool) *ask {
	a := &ask{format: fimFormat, maxTokens: fimTokens}
	a.err = a.fim(c, body, beta)
	return a
}

func (a *ask) fim(c *config, body []byte, beta bool) *apiError {
	var in fimBody
	e := unmarshal(body, body, "", &in)
	a.stream = or(in.Stream, false)
	a.user = or(in.UserID, "")
	named := a.named(c, or(in.Model, ""))
	switch {
	case !beta:
		return errInvalid(`completions api is only available when using beta api (set base_url="https://api.deepseek.com/beta")`)
	case e != nil:
		return e
	case in.Model == nil:
		return missing(body, "model")
	case in.Prompt == nil:
		return missing(body, "prompt")
	case named != nil:
		return named
	}
	a.messages = []Message{{Role: "user", Content: *in.Prompt}}
	a.suffix = or(in.Suffix, "")
	a.echo = or(in.Echo, false)
	a.includeUsage = in.StreamOptions != nil && or(in.StreamOptions.IncludeUsage, false)
	if e := a.readStop(body, in.Stop); e != nil {
		return e
	}
	if a.echo && (in.Suffix != nil || in.Logprobs != nil) {
		return errInvalid("echo cannot be used together with suffix or logprobs")
	}
	if n := or(in.Logprobs, 0); n < 0 || n > 20 {
		return errInvalid("Invalid logprobs value, the valid range of logprobs is [0, 20]")
	}
	a.logprobs, a.topLogprobs = in.Logprobs != nil, int(or(in.Logprobs, 0))
	common := chatBody{Temperature: in.Temperature, TopP: in.TopP}
	if in.StreamOptions != nil {
		common.StreamOptions = in.StreamOptions
	}
	if e := a.ranges(&common); e != nil {
		return e
	}
	if in.MaxTokens != nil {
		if n := *in.MaxTokens; n < 1 || n > fimTokens {
			return errInvalid("Invalid max_tokens value, the valid range of max_tokens is [1, %d]", fimTokens)
		}
		a.maxTokens = int(*in.MaxTokens)
	}
	return a.fits(int(or(in.MaxTokens, 0)))
}

// fimEncoder writes text completions.
type fimEncoder struct {
	t      *turn
	head   string // up to the text
	offset int    // characters sent so far
}

func newFIMEncoder(t *turn) *fimEncoder {
	return &fimEncoder{t: t, head: `{"id":"` + t.id + `","object":"text_completion","created":` + strconv.FormatInt(t.created, 10) +
		`,"model":"` + t.ask.model.ID + `","system_fingerprint":"` + t.print + `","choices":[{"index":0,"text":`}
}

func (e *fimEncoder) open(b []byte, _ *Usage) []byte { return b }

func (e *fimEncoder) piece(b []byte, p *piece) []byte {
	if p.kind != contentPiece {
		return b
	}
	b = append(b, "data: "...)
	b = append(b, e.head...)
	b = appendString(b, p.text)
	b = e.logprobs(b, []piece{*p})
	e.offset += utf8.RuneCountInString(p.text)
	b = append(b, `,"finish_reason":null}]`...)
	if e.t.ask.includeUsage {
		b = append(b, `,"usage":null`...)
	}
	return append(b, "}\n\n"...)
}

func (e *fimEncoder) finish(b []byte, reason string, u *Usage, mode usageMode) []byte {
	b = append(b, "data: "...)
	b = e.choice(b, "", nil, reason)
	switch mode {
	case usageFinal:
		b = append(b, `,"usage":`...)
		b = appendUsage(b, u, false)
	case usageSeparate:
		b = append(b, ",\"usage\":null}\n\ndata: "...)
		b = append(b, e.head[:len(e.head)-len(`{"index":0,"text":`)]...)
		b = append(b, `],"usage":`...)
		b = appendUsage(b, u, false)
	}
	return append(b, "}\n\n"...)
}

// choice appends the text made of the pieces, with the reason why it ends.
func (e *fimEncoder) choice(b []byte, text string, list []piece, reason string) []byte {
	b = append(b, e.head...)
	b = appendString(b, text)
	b = e.logprobs(b, list)
	b = append(b, `,"finish_reason":`...)
	b = appendString(b, reason)
	return append(b, `}]`...)
}

func (e *fimEncoder) logprobs(b []byte, list []piece) []byte {
	b = append(b, `,"logprobs":`...)
	if !e.t.ask.logprobs || len(list) == 0 {
		return append(b, "null"...)
	}
	return appendTextLogprobs(b, list, e.t.ask.topLogprobs, e.offset)
}

func (e *fimEncoder) done(b []byte) []byte { return append(b, "data: [DONE]\n\n"...) }

func (e *fimEncoder) fail(b []byte, err *apiError) []byte {
	b = append(b, "data: "...)
	b = appendError(b, err, false)
	return append(b, "\n\n"...)
}

func (e *fimEncoder) whole(b []byte, out *Answer, reason string, u *Usage, mode usageMode) []byte {
	b = e.choice(b, out.Content, e.t.pieces, reason)
	if mode != usageNone {
		b = append(b, `,"usage":`...)
		b = appendUsage(b, u, false)
	}
	return append(b, '}')
}
