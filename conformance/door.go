package conformance

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/seawall-go/deepseek"
)

// Door is a way into the transport. Chat and Open must be set.
type Door struct {
	// Chat makes a call whose answer comes as a whole. The Result holds what
	// could be told of a failed call as well.
	Chat func(ctx context.Context, p Prompt) (Result, error)
	// Open makes a call whose answer is streamed, and returns when the door has
	// found out that it began. The Result is that of a call that failed.
	Open func(ctx context.Context, p Prompt) (Stream, Result, error)

	// Do sends any request, if the door takes any. URL is where to.
	Do  func(*http.Request) (*http.Response, error)
	URL string

	// Transport is what the calls go through; nil if the door hides it.
	Transport *deepseek.Transport

	// Retries is how often the door itself repeats a call that ended in a Go
	// error, which no transport can forbid it.
	Retries int
	// Remote says that the caller is at the other side of a network: Go errors
	// arrive as a status or a broken connection, deadlines do not arrive at all.
	Remote bool
	// HidesCause says that the door replaces whatever a call ended with by the
	// context's error, if the context has ended.
	HidesCause bool
	// Comments says that the door passes comments on, whatever the options say.
	Comments bool
	// HidesHeader says that the door does not tell an error's headers.
	HidesHeader bool
	// Framing says that the door understands lone CR, byte order marks and data
	// of several lines by itself or by its transport.
	Framing bool
}

// Prompt is what to ask.
type Prompt struct {
	Text  string // default "Hi"
	Model string // default deepseek-flash
}

func (p Prompt) withDefaults() Prompt {
	if p.Text == "" {
		p.Text = "Hi"
	}
	if p.Model == "" {
		p.Model = deepseek.ModelFlash
	}
	return p
}

// Result is what came of a call, as far as the door can tell.
type Result struct {
	Text      string
	Reasoning string
	Tools     string // the arguments of all tool calls, joined
	Finish    string
	Prompt    int // tokens; 0 if there was no usage
	Completed int

	Status int         // HTTP status; 0 if there was none
	Header http.Header // nil if the door hides it
	Body   string      // of an error

	Pieces int
	Clean  bool // the stream ended like a whole answer
}

func (r *Result) add(p Piece) {
	r.Text += p.Text
	r.Reasoning += p.Reasoning
	r.Tools += p.Tools
	if p.Finish != "" {
		r.Finish = p.Finish
	}
	if p.Prompt+p.Completed > 0 {
		r.Prompt, r.Completed = p.Prompt, p.Completed
	}
	r.Pieces++
}

// Piece is one event of a stream.
type Piece struct {
	Text, Reasoning, Tools, Finish string
	Prompt, Completed              int
}

// Stream is an answer that is being written.
type Stream interface {
	// Next returns io.EOF at what the door takes for the end of a whole answer.
	Next() (Piece, error)
	Close() error
}

// readAll reads a stream to its end. It does not close it: for the transport
// the end alone must be enough to give everything back.
func readAll(s Stream, res *Result) error {
	for {
		p, err := s.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			res.Clean = true
			return nil
		}
		if err != nil {
			return err
		}
		res.add(p)
	}
}
