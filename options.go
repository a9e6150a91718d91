package deepseek

import (
	"cmp"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
)

// Option configures [New], [NewHTTPClient] and [NewTransport]. Options may be
// given in any order; of two that set the same thing the later one counts.
type Option interface {
	apply(*config) error
}

type optionFunc func(*config) error

func (f optionFunc) apply(c *config) error { return f(c) }

// WithOptions makes one option of several; nil ones are left out. Default: of none,
// it sets nothing.
func WithOptions(opts ...Option) Option {
	return optionFunc(func(c *config) error {
		for _, o := range opts {
			if o == nil {
				continue
			}
			if err := o.apply(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// Where calls go, and with which keys.

// WithAPIKeys adds keys, each as an account of its own. For several keys of one
// account use [WithAccounts]: they share its limit. Default: the environment's
// DEEPSEEK_API_KEY, or DEEPSEEK_API_KEYS, separated by commas.
func WithAPIKeys(keys ...string) Option {
	return optionFunc(func(c *config) error {
		for _, k := range keys {
			c.accounts = append(c.accounts, Account{Keys: []string{k}})
		}
		if len(keys) == 0 {
			return badConfig("APIKeys", "", "must hold at least one key")
		}
		return nil
	})
}

// WithAccounts adds accounts. Default: see [WithAPIKeys].
func WithAccounts(accounts ...Account) Option {
	return optionFunc(func(c *config) error {
		if len(accounts) == 0 {
			return badConfig("Accounts", "", "must hold at least one account")
		}
		c.accounts = append(c.accounts, accounts...)
		return nil
	})
}

// WithStrategy says how the account of a call is chosen. Default: [Affinity] over
// [LeastLoaded].
func WithStrategy(s Strategy) Option {
	return optionFunc(func(c *config) error {
		if s == nil {
			return badConfig("Strategy", "nil", "must not be nil")
		}
		c.strategy = s
		return nil
	})
}

// WithBaseURL sets the endpoint. Default: the environment's DEEPSEEK_BASE_URL,
// else https://api.deepseek.com. Requests for any other scheme, host or port
// are refused.
func WithBaseURL(url string) Option {
	return optionFunc(func(c *config) error { c.baseURL = url; return nil })
}

// WithEndpoints adds endpoints, each with accounts of its own, for calls to fail
// over to: see [Endpoint]. Requests are addressed to any of them, the typed
// client's to the first. It stands in place of [WithBaseURL], [WithAPIKeys] and
// [WithAccounts], which make one endpoint: any of these beside it is a
// [*ConfigError]. The environment is not looked at. Default: that one endpoint.
func WithEndpoints(endpoints ...Endpoint) Option {
	return optionFunc(func(c *config) error {
		if len(endpoints) == 0 {
			return badConfig("Endpoints", "", "must hold at least one endpoint")
		}
		c.endpoints = append(c.endpoints, endpoints...)
		return nil
	})
}

// How many calls at a time.

// WithMaxConcurrency limits the calls in flight over all accounts and models.
// Default: no limit but those of the accounts, which are learned.
func WithMaxConcurrency(n int) Option {
	return optionFunc(func(c *config) error {
		if n < 1 {
			return badConfig("MaxConcurrency", n, "must be at least 1")
		}
		c.maxConcurrency = n
		return nil
	})
}

// WithQueue says how calls wait for room. Default: the zero [Queue], 10,000
// calls for up to 10 minutes.
func WithQueue(q Queue) Option {
	return optionFunc(func(c *config) error { c.queue = q; return nil })
}

// WithRateLimit allows perSecond requests a second after a burst; burst must be at
// least 1. Default: no such limit; DeepSeek has none.
func WithRateLimit(perSecond float64, burst int) Option {
	return optionFunc(func(c *config) error {
		l, err := newRateLimit(perSecond, burst)
		c.rateLimit = l
		return err
	})
}

// WithSharedState shares limits, and what accounts and keys are put aside for, with
// other replicas: see [Replica]. The replica is this transport's, and that of its
// successors. Default: what there is belongs to this transport alone, at no cost.
func WithSharedState(r *Replica) Option {
	return optionFunc(func(c *config) error {
		if r == nil {
			return badConfig("SharedState", "nil", "must not be nil")
		}
		c.replica = r
		return nil
	})
}

// What happens on faults.

// WithRetry says when calls are attempted again. Default: the zero [Retry], up
// to 10 attempts.
func WithRetry(r Retry) Option {
	return optionFunc(func(c *config) error { c.retry, c.noRetry = r, false; return nil })
}

// WithoutRetry makes one attempt only, apart from going on to another key or
// account when one was refused, and to another endpoint when one has failed. Default:
// see [WithRetry].
func WithoutRetry() Option {
	return optionFunc(func(c *config) error { c.noRetry = true; return nil })
}

// WithStreamResume has an answer go on that broke after a part of it had come, by
// chat prefix completion, so that its reader notices nothing. It is [WithResume]
// of the zero [Resume]. Default: such an answer ends in a [*TruncatedError].
func WithStreamResume() Option { return WithResume(Resume{}) }

// WithResume says how an answer that broke goes on. Default: not at all; see
// [WithStreamResume].
func WithResume(r Resume) Option {
	return optionFunc(func(c *config) error { c.resume = &r; return nil })
}

// WithHedging makes a second attempt, on another account, beside one whose first
// data is late, and takes the answer that comes first. Default: off. The zero
// [Hedging] hedges what is later than 95 % of answers, for 5 % of calls and 10 more.
func WithHedging(h Hedging) Option {
	return optionFunc(func(c *config) error { c.hedging = &h; return nil })
}

// WithFallbackModels has other models answer where the one that was asked for
// cannot, and the response tell of it: see [NewFallback]. Default: none.
func WithFallbackModels(models map[string][]string) Option {
	return optionFunc(func(c *config) (err error) {
		c.fallback, err = newFallback(models)
		return err
	})
}

// WithBreaker says when an endpoint is left alone. Default: the zero
// [Breaker], which opens for 5 s when half of at least 20 attempts in 30 s fail, or 20
// in a row.
func WithBreaker(b Breaker) Option {
	return optionFunc(func(c *config) error { c.breaker, c.noBreaker = b, false; return nil })
}

// WithoutBreaker never leaves an endpoint alone. Default: see [WithBreaker].
func WithoutBreaker() Option {
	return optionFunc(func(c *config) error { c.noBreaker = true; return nil })
}

// WithTimeouts sets how long an answer may make no progress. Default: the zero
// [Timeouts], 10 minutes to the first data, 120 s between data, 60 s of silence.
func WithTimeouts(t Timeouts) Option {
	return optionFunc(func(c *config) error { c.timeouts = t; return nil })
}

// What it costs.

// WithPrices sets what tokens cost, for the costs in [Stats] and
// [CallEndEvent]. Default: the zero [Prices], which is [PricesUSD].
func WithPrices(p Prices) Option {
	return optionFunc(func(c *config) error { c.prices = p; return nil })
}

// What callers see.

// WithErrorResponses returns local refusals (breaker open, queue full, no account or
// endpoint) as HTTP responses, 503, 429 or 400, with a JSON error body, Retry-After
// and "X-Should-Retry: false", in place of Go errors. openai-go then does not retry
// them. Not for the typed client: it then returns [*APIError]. Default: Go errors.
func WithErrorResponses() Option {
	return optionFunc(func(c *config) error { c.errorResponses = true; return nil })
}

// WithStreamComments passes the comments in streams, such as ": keep-alive", on
// to the reader, once the first data has come. Default: they are left out,
// because go-openai gives up after 150 of them.
func WithStreamComments() Option {
	return optionFunc(func(c *config) error { c.keepComments = true; return nil })
}

// WithoutValidation has the typed client send requests that DeepSeek is known
// to reject, for other hosts that may not. Default: they are refused with a
// [*RequestError].
func WithoutValidation() Option {
	return optionFunc(func(c *config) error { c.noValidate = true; return nil })
}

// WithLogger logs what happens to calls: at Warn what an operator should know
// (failed calls, accounts put aside, an open breaker), at Info what was done
// about faults, at Debug the rest. Prompts, answers and keys are never logged.
// Default: nothing is logged.
func WithLogger(l *slog.Logger) Option {
	return optionFunc(func(c *config) error {
		if l == nil {
			return badConfig("Logger", "nil", "must not be nil")
		}
		c.observers = append(c.observers, LogObserver(l))
		return nil
	})
}

// WithObserver adds an observer. Default: none, at no cost.
func WithObserver(o Observer) Option {
	return optionFunc(func(c *config) error { c.observers = append(c.observers, o); return nil })
}

// What is not asked twice.

// WithCache answers requests that were answered before from a cache, and makes
// one call of equal ones in flight. Default: off. The zero [Cache] keeps answers
// for 1 hour in 64 MiB of memory.
func WithCache(k Cache) Option {
	return optionFunc(func(c *config) error { c.cache = &k; return nil })
}

// WithCacheStore has the cache of [WithCache], if there is one and it names no store
// of its own, keep answers in s. MaxBytes is then ignored. Default: in memory.
func WithCacheStore(s Store) Option {
	return optionFunc(func(c *config) error {
		if s == nil {
			return badConfig("CacheStore", "nil", "must not be nil")
		}
		c.cacheStore = s
		return nil
	})
}

// How requests are made.

// WithTransport sets the transport that sends requests. Default: an
// *http.Transport with HTTP/2, 10 s to connect, 10 s for TLS, no limit on the
// wait for headers (the server may queue a request for 10 minutes), and the
// proxy that the environment names: that of [NewBaseTransport], which may be changed
// and given here.
func WithTransport(rt http.RoundTripper) Option {
	return optionFunc(func(c *config) error {
		if rt == nil {
			return badConfig("Transport", "nil", "must not be nil")
		}
		c.base = rt
		return nil
	})
}

// WithMiddleware adds layers of the caller's own around a whole call, outside
// of retry; the first is the outermost. Default: none.
func WithMiddleware(layers ...Middleware) Option {
	return optionFunc(func(c *config) (err error) {
		c.middleware, err = addLayers("Middleware", c.middleware, layers)
		return err
	})
}

// WithAttemptMiddleware adds layers of the caller's own around each attempt, next
// to what requests are sent with; the first is the outermost. They see the request
// as it is sent, with the key, and the response as it comes. Default: none.
func WithAttemptMiddleware(layers ...Middleware) Option {
	return optionFunc(func(c *config) (err error) {
		c.attemptLayers, err = addLayers("AttemptMiddleware", c.attemptLayers, layers)
		return err
	})
}

func addLayers(field string, to, layers []Middleware) ([]Middleware, error) {
	if i := slices.IndexFunc(layers, func(m Middleware) bool { return m == nil }); i >= 0 {
		return to, badConfig(field, i, "is nil")
	}
	return append(to, layers...), nil
}

// config is what the options say.
type config struct {
	baseURL        string
	accounts       []Account
	strategy       Strategy
	endpoints      []Endpoint
	fallback       *fallback
	maxConcurrency int
	replica        *Replica // nil: none
	queue          Queue
	rateLimit      *rateLimit
	retry          Retry
	noRetry        bool
	resume         *Resume  // nil: no
	hedging        *Hedging // nil: off
	breaker        Breaker
	noBreaker      bool
	timeouts       Timeouts
	prices         Prices
	cache          *Cache // nil: none
	cacheStore     Store
	errorResponses bool
	keepComments   bool
	noValidate     bool
	observers      watchers
	base           http.RoundTripper
	middleware     []Middleware
	attemptLayers  []Middleware
}

func newConfig(opts []Option) (*config, error) {
	c := &config{}
	if err := WithOptions(opts...).apply(c); err != nil {
		return nil, err
	}
	if c.cache != nil && c.cache.Store == nil && c.cacheStore != nil {
		k := *c.cache
		k.Store, k.MaxBytes = c.cacheStore, 0
		c.cache = &k
	}
	if len(c.endpoints) > 0 {
		switch {
		case c.baseURL != "":
			return nil, badConfig("BaseURL", "", "must not be given beside WithEndpoints: put it into an Endpoint")
		case len(c.accounts) > 0:
			return nil, badConfig("Accounts", "", "must not be given beside WithEndpoints: put them into an Endpoint")
		}
		return c, nil
	}
	c.baseURL = cmp.Or(c.baseURL, os.Getenv("DEEPSEEK_BASE_URL"), DefaultBaseURL)
	if len(c.accounts) == 0 {
		for _, k := range strings.Split(cmp.Or(os.Getenv("DEEPSEEK_API_KEY"), os.Getenv("DEEPSEEK_API_KEYS")), ",") {
			if k = strings.TrimSpace(k); k != "" {
				c.accounts = append(c.accounts, Account{Keys: []string{k}})
			}
		}
	}
	if len(c.accounts) == 0 {
		return nil, badConfig("APIKeys", "", "there are none: use WithAPIKeys or WithAccounts, or set DEEPSEEK_API_KEY")
	}
	return c, nil
}
