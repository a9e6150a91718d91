package deepseektest

import (
	"cmp"
	"time"
)

// An Option configures a Server.
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

type config struct {
	accounts  []Account
	models    []Model
	pace      Pace
	framing   Framing
	cache     Cache
	seed      uint64
	beta      bool
	records   bool
	watch     func(Request)
	answer    func(*Request) Answer
	reasoning int
	content   int
}

func defaultConfig() config {
	return config{
		models:  DefaultModels(),
		seed:    1,
		beta:    true,
		records: true,
	}
}

// WithAccount adds an account. Once there is one, unknown keys get a 401; by
// default every key is accepted and is an account of its own, with the
// published limits and 100 dollars. The constructor panics if accounts share a
// key or a name, or one has no key or a limit for a model that there is not.
func WithAccount(a Account) Option {
	return option(func(c *config) { c.accounts = append(c.accounts, a) })
}

// WithModels replaces the models on offer. Without any it panics. The default is
// DefaultModels.
func WithModels(models ...Model) Option {
	if len(models) == 0 {
		panic("deepseektest: WithModels wants at least one model")
	}
	usual := DefaultModels()[0]
	all := make([]Model, len(models))
	for i, m := range models {
		m.Context = cmp.Or(m.Context, usual.Context)
		m.MaxOutput = cmp.Or(m.MaxOutput, usual.MaxOutput)
		m.Concurrency = cmp.Or(m.Concurrency, usual.Concurrency)
		all[i] = m
	}
	return option(func(c *config) { c.models = all })
}

// A Pace says how long the parts of an answer take. The zero value is the
// default: everything at once.
type Pace struct {
	// Headers is the time from the request to the response headers.
	Headers time.Duration
	// Queue is the time the request then waits for its turn. A stream gets
	// ": keep-alive" comments meanwhile, any other response blank lines.
	Queue time.Duration
	// KeepAlive is the time between two of those. Zero means 10 s: the real
	// interval is not known. A response that is no stream gets its blank
	// lines until it is complete.
	KeepAlive time.Duration
	// FirstToken is the silence between the queue and the first token.
	FirstToken time.Duration
	// Token is the time between two tokens.
	Token time.Duration
	// TokenSize is the length of a token in characters; zero means 4.
	TokenSize int
	// Jitter spreads the durations of each request by up to this fraction
	// in both directions: with 0.2 they are 80 to 120 percent. Zero is none.
	Jitter float64
}

func (p Pace) tokenSize() int {
	if p.TokenSize <= 0 {
		return 4
	}
	return p.TokenSize
}

func (p Pace) keepAlive() time.Duration {
	if p.KeepAlive <= 0 {
		return 10 * time.Second
	}
	return p.KeepAlive
}

// spread applies the jitter, with a random number from [0,1).
func (p Pace) spread(random float64) Pace {
	if p.Jitter == 0 {
		return p
	}
	f := 1 + p.Jitter*(2*random-1)
	for _, d := range []*time.Duration{&p.Headers, &p.Queue, &p.FirstToken, &p.Token} {
		*d = time.Duration(float64(*d) * f)
	}
	return p
}

// WithPace sets how long answers take. The default is no time at all.
// A single answer is slowed down by the Paced reply.
func WithPace(p Pace) Option {
	return option(func(c *config) { c.pace = p })
}

// A Framing is a legal but unusual way to write an event stream. The zero
// value is the default.
type Framing struct {
	// LineEnd is "\n" (the default), "\r\n" or "\r".
	LineEnd string
	// Fragment, if positive, flushes the stream every so many bytes, so that
	// reads end inside lines and characters.
	Fragment int
	// BOM starts the stream with a byte order mark.
	BOM bool
	// SplitData spreads the data of each event over two lines, if it is an
	// object of two members or more.
	SplitData bool
}

// WithFraming sets how streams are written.
func WithFraming(f Framing) Option {
	return option(func(c *config) { c.framing = f })
}

// WithCache configures the context cache.
func WithCache(cache Cache) Option {
	return option(func(c *config) { c.cache = cache })
}

// WithSeed seeds the ids, the jitter and the probabilities of Timeline. The
// default is 1.
func WithSeed(seed uint64) Option {
	return option(func(c *config) { c.seed = seed })
}

// WithoutBeta makes every path under /beta a 404, as on hosts other than
// DeepSeek's own.
func WithoutBeta() Option {
	return option(func(c *config) { c.beta = false })
}

// WithoutRecords keeps Requests empty, for simulations of very many calls.
// The counters (Count, MaxInFlight, Spent) still work.
func WithoutRecords() Option {
	return option(func(c *config) { c.records = false })
}

// WithObserver has f told of each request once it has ended: as Requests would
// tell of it, but also in simulations that keep no records. It is called by many
// goroutines at once, with no lock held. The default is nobody.
func WithObserver(f func(Request)) Option {
	return option(func(c *config) { c.watch = f })
}

// WithAnswer sets the function that writes the answers. It must return the
// same answer for the same messages if continuation is to be tested; the last
// message is not among them if it is an assistant message with prefix set,
// and the Server itself leaves out what that prefix already holds. It is
// called by many goroutines at once. The default derives a readable text of
// a few sentences from the messages.
func WithAnswer(f func(*Request) Answer) Option {
	return option(func(c *config) { c.answer = f })
}

// WithAnswerLength sets the length of the default answers in tokens. Zero
// leaves a part at its natural length, about 30 tokens of reasoning and 60 of
// content.
func WithAnswerLength(reasoning, content int) Option {
	return option(func(c *config) { c.reasoning, c.content = reasoning, content })
}
