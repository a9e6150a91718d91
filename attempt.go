package deepseek

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Attempt is one request that was sent for a call.
type Attempt struct {
	Endpoint string        // endpoint's name; empty if there is only one
	Account  string        // account's name; empty without a pool
	Key      string        // fingerprint of the key, never the key
	Model    string        // what the endpoint was asked for, by its own name; empty if the request named none
	Fallback bool          // Model is one that the call fell back to
	Status   int           // HTTP status; 0 if there was no response
	Err      error         // why there was no complete response; nil if there was
	Wait     time.Duration // slept or queued before it
	Duration time.Duration // from send to first data, to the whole of a body that is no stream, or to the failure
	TraceID  string        // x-ds-trace-id

	// With [WithStreamResume]: how the answer broke after its first data, where
	// another attempt was to continue it; and whether this attempt continues one.
	Broke     error
	Continues bool

	// Hedge: it was sent beside one that was late (see [Hedging]). Lost: another
	// attempt of the call, on its way at the same time, answered first, and this
	// one was cancelled; nobody is blamed for it. A hedge that has neither Lost nor
	// an error nor a bad status has won.
	Hedge bool
	Lost  bool
}

// String is such as "main#1f3a 503 in 0.21s" or "hedge on spare#77b0 200 in 1.10s".
// The text of Err and Broke is in it, which may hold what a server said in place of
// an answer, and that a prompt: LogValue leaves it out.
func (a Attempt) String() string { return a.text(error.Error) }

// LogValue is String, for log/slog, with errors as [LogText] tells them.
func (a Attempt) LogValue() slog.Value { return slog.StringValue(a.text(LogText)) }

func (a Attempt) text(tell func(error) string) string {
	var b strings.Builder
	if a.Hedge {
		b.WriteString("hedge on ")
	}
	if a.Endpoint != "" {
		b.WriteString(a.Endpoint + " ")
	}
	if a.Account != "" {
		b.WriteString(a.Account)
		if a.Key != "" {
			b.WriteString("#" + a.Key)
		}
		b.WriteByte(' ')
	}
	if a.Fallback {
		b.WriteString(a.Model + " ")
	}
	switch {
	case a.Err != nil:
		cause := strings.TrimPrefix(tell(a.Err), "deepseek: ")
		if a.Status != 0 {
			cause = strconv.Itoa(a.Status) + " " + cause
		}
		b.WriteString(cause)
	default:
		b.WriteString(strconv.Itoa(a.Status))
	}
	b.WriteString(" in " + seconds(a.Duration))
	if a.Continues {
		b.WriteString(", continuing")
	}
	if a.Broke != nil {
		b.WriteString(", then " + strings.TrimPrefix(tell(a.Broke), "deepseek: "))
	}
	return b.String()
}

// Attempts is the trail of a call, oldest attempt first.
type Attempts []Attempt

// String is one line, such as
// "2 attempts: main#1f3a 503 in 0.21s; waited 0.40s; spare#77b0 200 in 1.10s".
// As with [Attempt.String] a server's text may be in it; LogValue leaves it out.
func (as Attempts) String() string { return as.text(error.Error) }

// LogValue is String, for log/slog, with errors as [LogText] tells them.
func (as Attempts) LogValue() slog.Value { return slog.StringValue(as.text(LogText)) }

func (as Attempts) text(tell func(error) string) string {
	if len(as) == 0 {
		return "0 attempts"
	}
	var b strings.Builder
	b.WriteString(strconv.Itoa(len(as)) + " attempt")
	if len(as) > 1 {
		b.WriteByte('s')
	}
	b.WriteString(": ")
	for i, a := range as {
		if i > 0 {
			b.WriteString("; ")
		}
		if a.Wait > 0 {
			b.WriteString("waited " + seconds(a.Wait) + "; ")
		}
		b.WriteString(a.text(tell))
	}
	return b.String()
}

// hedged reports whether there is a hedge among them.
func (as Attempts) hedged() bool {
	return slices.ContainsFunc(as, func(a Attempt) bool { return a.Hedge })
}

// attempt is an [Attempt] as a call's record has it: its names are looked up only if
// somebody asks for them.
type attempt struct {
	*target
	err, broke     error
	traceID        string
	wait, duration time.Duration
	status         int32

	fallback, continues, hedge, lost bool
}

func (a *attempt) public() Attempt {
	return Attempt{
		Endpoint: a.label(), Account: a.account(), Key: a.fingerprint(), Model: a.model, Fallback: a.fallback,
		Status: int(a.status), Err: a.err, Wait: a.wait, Duration: a.duration, TraceID: a.traceID,
		Broke: a.broke, Continues: a.continues, Hedge: a.hedge, Lost: a.lost,
	}
}

// target is what an attempt is sent to. It is never changed; nil is nowhere in
// particular.
type target struct {
	endpoint *endpoint // nil where no transport or route has set it
	model    string    // by the endpoint's own name for it; empty: as the call names it
	slot     *slot     // nil without a pool, as is the key
	key      *apiKey
}

// place is the endpoint.
func (t *target) place() *endpoint {
	if t == nil {
		return nil
	}
	return t.endpoint
}

// label is the endpoint's name; empty if there is only one.
func (t *target) label() string {
	if t.place() == nil {
		return ""
	}
	return t.endpoint.label
}

// account is the account's name.
func (t *target) account() string {
	if t == nil || t.slot == nil {
		return ""
	}
	return t.slot.account.name
}

// fingerprint is that of the key.
func (t *target) fingerprint() string {
	if t == nil || t.key == nil {
		return ""
	}
	return t.key.fingerprint
}

// atDeepSeek reports whether the endpoint is DeepSeek itself, so that it has
// prefix completion, say, and DeepSeek's prices.
func (t *target) atDeepSeek() bool { return t.place() == nil || t.endpoint.deepSeek }
