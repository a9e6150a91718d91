package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/seawall-go/deepseek"
)

// exchange is one request of a client and what becomes of it. It is the context
// of the call that is made for it, so that the transport's observers find it.
type exchange struct {
	context.Context // the request's

	state *state
	id    string
	who   string // the client; empty if there are none
	r     *http.Request
	start time.Time
	route route
	question
	relay   relay
	visit   visit
	settled bool
	problem *problem // that the gateway itself found

	telemetry *telemetry // nil: none
	span      trace.Span // nil: none

	// The handler and, once it has begun, the call: the last to end writes the log.
	parties atomic.Int32
	err     error                 // why the client did not get a whole response
	call    deepseek.CallEndEvent // zero if there was no call
}

// exchangeKey finds the *exchange among a context's values.
type exchangeKey struct{}

// Value makes the exchange the context of its call.
func (x *exchange) Value(key any) any {
	if _, ok := key.(exchangeKey); ok {
		return x
	}
	return x.Context.Value(key)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// observer is what the gateway has to do with calls that go through its
// transport.
func observer() deepseek.Observer {
	return deepseek.Observer{
		CallStart: func(e deepseek.CallStartEvent) {
			if x := exchangeOf(e.Context); x != nil {
				x.parties.Add(1)
			}
		},
		CallEnd: func(e deepseek.CallEndEvent) {
			if x := exchangeOf(e.Context); x != nil {
				x.call = e
				x.settle() // before the client has its answer, and may ask again
				x.done()
			}
		},
	}
}

// serve makes the client a response. The error is why it is not complete.
func (x *exchange) serve() error {
	x.route, x.problem = findRoute(x.r)
	x.relay.format = x.route.format
	if problem := x.admit(); problem != nil { // strangers are told nothing else
		x.problem = problem
	}
	if x.problem != nil {
		return x.refuse()
	}
	var body []byte
	if x.route.asks || x.route.uploads && x.r.Method == http.MethodPost {
		if body, x.problem = readBody(x.relay.w, x.r, x.state.MaxRequest, x.state.BodyTimeout); x.problem != nil {
			return x.refuse()
		}
	}
	if x.route.asks {
		if x.question, x.problem = readQuestion(body); x.problem != nil {
			return x.refuse()
		}
		x.relay.stream = x.stream
		if body, x.problem = x.ask(body); x.problem != nil {
			return x.refuse()
		}
	}
	if x.route.asks { // what else there is may be no JSON, and does not wait for long
		x.relay.keepAlive(x.state.KeepAlive)
		defer x.relay.end() // the response is the server's again
	}
	resp, err := x.state.transport.RoundTrip(outgoing(x.context(), x.r, x.state.base, x.route, body))
	if err != nil {
		if x.gone() {
			return err
		}
		return x.relay.fail(problemOf(x, err))
	}
	defer resp.Body.Close()
	return x.relay.pass(resp)
}

// admit finds out who asks, and whether they may now.
func (x *exchange) admit() *problem {
	if len(x.state.roster) == 0 {
		return nil
	}
	key := presented(x.r.Header)
	c := x.state.roster.find(key)
	if c == nil {
		p := &problem{status: http.StatusUnauthorized, code: "invalid_api_key", message: "the key is not one of this gateway's"}
		if key == "" {
			p.message = "the request has no key: send it as Authorization: Bearer KEY, or as x-api-key"
		}
		return p
	}
	x.who = c.name
	if x.problem != nil {
		return nil
	}
	return x.visit.enter(c, x.start, x.state.Counters)
}

// ask finds out whether the client may ask the question, and puts the model's own
// name in the place of another.
func (x *exchange) ask(body []byte) ([]byte, *problem) {
	named := x.model
	model, other := x.state.Models[named]
	if !other {
		model = named
	}
	if c := x.visit.client; c != nil {
		if p := c.mayAsk(named, model); p != nil {
			return nil, p
		}
		now := time.Now() // the body may have taken its time
		if p := x.state.ledger.afford(c.name, c.budget(), x.state.currency, now); p != nil {
			return nil, p
		}
		if p := x.visit.book(now, len(body), x.state.Counters); p != nil {
			return nil, p
		}
	}
	if other {
		body, x.model = x.question.renamed(body, model), model
	}
	return body, nil
}

// context is that of the call: the exchange itself, unless there are models that
// may answer others but not this client.
func (x *exchange) context() context.Context {
	others := x.state.FallbackModels[x.model]
	if x.visit.client == nil || len(others) == 0 {
		return x
	}
	allowed := slices.DeleteFunc(slices.Clone(others), func(model string) bool { return x.visit.client.mayAsk(model) != nil })
	if len(allowed) == len(others) {
		return x
	}
	return deepseek.FallBackTo(x, allowed...)
}

// refuse tells the client what is wrong with its request.
func (x *exchange) refuse() error { return x.relay.fail(x.problem) }

// gone reports whether the client has given up, so that nobody reads what it is
// told. net/http also ends the context when the server is closed.
func (x *exchange) gone() bool { return x.Err() != nil && context.Cause(x) != ErrShutdown }

// rescue has a panic, which is a fault of this program, end the exchange alone,
// and tells of it. It is deferred.
func (x *exchange) rescue() {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler {
		x.err = fmt.Errorf("panic: %v", p)
		if x.state.Logger != nil {
			x.state.Logger.ErrorContext(x, "panic", slog.Any("value", p), slog.String("stack", string(debug.Stack())))
		}
	}
	panic(http.ErrAbortHandler)
}

// settle charges the client for what came of its request, once.
func (x *exchange) settle() {
	if x.visit.client == nil || x.settled {
		return
	}
	x.settled = true
	now := time.Now()
	x.visit.leave(now, &x.call)
	x.state.ledger.add(x.who, x.call.Cost.Amount, x.state.currency, now)
}

// done is called by the handler and the call when they have ended; the last one
// tells of it.
func (x *exchange) done() {
	if x.parties.Add(-1) > 0 {
		return
	}
	x.settle() // there may have been no call
	now := time.Now()
	x.telemetry.end(x)
	if x.state.Logger != nil {
		x.log(x.state.Logger)
	}
	if x.state.OnEnd != nil {
		x.state.OnEnd(x.requestEnd(now))
	}
}

// log writes the one line that there is of each exchange. Nothing of prompts or
// answers is in it.
func (x *exchange) log(l *slog.Logger) {
	level, outcome := slog.LevelInfo, x.outcome()
	if outcome == Failed {
		level = slog.LevelWarn
	}
	if !l.Enabled(x, level) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("method", shortened(x.r.Method)), slog.String("path", shortened(x.r.URL.Path)),
		slog.Int("status", x.relay.status), slog.Duration("duration", time.Since(x.start)))
	if x.who != "" {
		attrs = append(attrs, slog.String("client", x.who))
	}
	if x.route.asks {
		attrs = append(attrs, slog.String("model", shortened(x.model)), slog.Bool("stream", x.stream))
	}
	if x.problem != nil {
		attrs = append(attrs, slog.String("code", x.problem.code))
	}
	if len(x.call.Attempts) > 0 {
		attrs = append(attrs, slog.Duration("first_data", x.call.FirstData), slog.Any("trail", x.call.Attempts))
	}
	if u := x.call.Usage; u != nil {
		attrs = append(attrs, slog.Int("prompt_tokens", u.PromptTokens), slog.Int("completion_tokens", u.CompletionTokens),
			slog.Int("cache_hit_tokens", u.PromptCacheHitTokens))
	}
	if x.call.Cost != (deepseek.Cost{}) {
		attrs = append(attrs, slog.String("cost", x.call.Cost.String()))
	}
	if outcome == Failed {
		if err := cmp.Or(x.call.Err, x.err); err != nil {
			attrs = append(attrs, slog.String("error", deepseek.LogText(err)))
		}
	}
	// Without the place in the program, which it takes a while to find out.
	record := slog.NewRecord(time.Now(), level, string(outcome), 0)
	record.AddAttrs(attrs...)
	_ = l.Handler().Handle(x, record)
}

// shortened is what is told of a text that a client may make as long as it likes.
func shortened(s string) string { return s[:min(len(s), 128)] }

// newID is a name for an exchange, for logs and the X-Request-Id header.
func newID(random uint64) string {
	const digits = "0123456789abcdef"
	id := make([]byte, 16)
	for i := range id {
		id[i] = digits[random>>(60-4*i)&15]
	}
	return string(id)
}
