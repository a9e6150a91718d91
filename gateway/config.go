package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/internal/loopback"
)

// Config is what a configuration file says. What it leaves out has the default
// that its type documents; a file that says nothing serves DeepSeek, with the key
// in DEEPSEEK_API_KEY, on 127.0.0.1:8080.
type Config struct {
	// Listen is the address to listen on. Default 127.0.0.1:8080. Without clients
	// it must be a loopback address.
	Listen string
	// TLS is what to serve HTTPS with. Default: plain HTTP.
	TLS TLS

	// BaseURL is where the API is. Default: the environment's DEEPSEEK_BASE_URL,
	// else https://api.deepseek.com.
	BaseURL string
	// Accounts are DeepSeek accounts with their keys. Default: the keys in the
	// environment's DEEPSEEK_API_KEY or DEEPSEEK_API_KEYS, each its own account.
	Accounts []Account
	// Endpoints are several hosts that serve DeepSeek's models, in place of BaseURL
	// and Accounts. What is not asked of a model, such as the balance, goes to the
	// first. Default: the one.
	Endpoints []Endpoint
	// Models are other names that clients may use for models: "gpt-4o:
	// deepseek-flash". Default: none.
	Models map[string]string
	// FallbackModels are the models that answer in place of one that cannot, in this
	// order. Default: none.
	FallbackModels map[string][]string
	// Strategy is how an account is chosen: affinity, least_loaded or round_robin.
	// Default affinity.
	Strategy string

	MaxConcurrency int               // calls in flight over all; default: no limit
	RateLimit      RateLimit         // requests that start in a second; default: no limit
	Queue          deepseek.Queue    // how calls wait for room; default: 10000 of them, 10m
	Retry          Retry             // when calls are attempted again; default: up to 10 attempts
	Breaker        Breaker           // when a host is left alone; default: as in package deepseek
	Resume         Resume            // how an answer that broke goes on; default: off
	Hedging        Hedging           // a second attempt beside a late one; default: off
	Cache          Cache             // answers that are given again; default: off
	Timeouts       deepseek.Timeouts // how long an answer may make no progress; default: 10m, 2m, 60s
	KeepAlive      KeepAlive         // how waiting clients stay connected; default: after 10s, 45s

	// Clients are those who may use the gateway. Default: everybody on this machine.
	Clients []Client
	// State is the file in which what clients have spent is kept, relative to the
	// configuration's. Needed where a client has a budget.
	State string
	// Prices are what tokens cost. Default: DeepSeek's, in US dollars.
	Prices Prices

	// Status is where the status page is. Default: there is none.
	Status Status

	// Redis is where this gateway and others over the same accounts share limits,
	// permits, and what clients use. Default: nothing is shared.
	Redis Redis

	Server    Server    // what clients may take of the process
	Shutdown  Shutdown  // how the process ends
	Log       Log       // what is logged; default: info, as JSON
	Telemetry Telemetry // metrics and traces; default: none

	doc *document
}

// Account is a DeepSeek account. Limits belong to it, whichever key is used.
type Account struct {
	// Name is what logs call it. With several accounts each must have one.
	Name string
	// Keys are its API keys, at least one, as the file says where to read them.
	Keys Secrets
	// The rest is as in [deepseek.Account].
	MaxConcurrency    int // for each model, at first and at most; default: learned
	Weight            int // its share of the load; default 1
	RequestsPerMinute int // default: no cap
	TokensPerMinute   int // of prompts and answers; default: no cap
}

// TLS is a certificate with its key, as files in PEM form, relative to the
// configuration's. They are read again on each reload.
type TLS struct{ Cert, Key string }

// RateLimit starts at most PerSecond requests a second after a Burst. The zero
// value is no limit.
type RateLimit struct {
	PerSecond float64 // 0: no limit
	Burst     int     // at once; default 1
}

// Retry is as in package deepseek, or "off".
type Retry struct {
	Off bool // one attempt only
	deepseek.Retry
}

// Breaker is as in package deepseek, or "off".
type Breaker struct {
	Off bool // no host is ever left alone
	deepseek.Breaker
}

// Resume is as in package deepseek. The zero value is off.
type Resume struct {
	On bool // answers that broke go on
	deepseek.Resume
}

// Hedging is as in package deepseek. The zero value is off.
type Hedging struct {
	On bool // late attempts get a second one
	deepseek.Hedging
}

// Cache is as in package deepseek, in memory; it is one for all clients. The zero
// value is off.
type Cache struct {
	On        bool          // answers are kept
	TTL       time.Duration // for how long; default 1h; negative: only calls in flight are shared
	MaxBytes  Size          // of all that are kept; default 64MiB
	MaxAnswer Size          // of one; default 4MiB, or MaxBytes if that is less
}

// Currency is that of the prices, and of budgets.
func (c *Config) Currency() string { return cmp.Or(c.Prices.Currency, "USD") }

// Prices are changes to DeepSeek's own prices.
type Prices struct {
	// Currency is USD or CNY, for which DeepSeek's prices are known, or another, for
	// which they are not. Default USD.
	Currency string
	// The rest is as in [deepseek.Prices], beside or in place of what is known.
	Models   map[string]deepseek.ModelPrice
	Aliases  map[string]string
	Holidays []string
	// Peak is when peak prices hold, in place of DeepSeek's hours.
	Peak []deepseek.PeakHours
}

func (p Prices) prices() deepseek.Prices {
	all := deepseek.Prices{Currency: p.Currency, Models: map[string]deepseek.ModelPrice{}, Aliases: map[string]string{}}
	switch p.Currency {
	case "", "USD":
		all = deepseek.PricesUSD()
	case "CNY":
		all = deepseek.PricesCNY()
	}
	maps.Copy(all.Models, p.Models)
	maps.Copy(all.Aliases, p.Aliases)
	all.Holidays = append(all.Holidays, p.Holidays...)
	if p.Peak != nil {
		all.Peak = p.Peak
	}
	return all
}

// ReadConfig reads a file. All that is wrong with it is told at once, each as a
// [*FileError]. Nothing in it is more than names of secrets: these are read from
// the environment ("env:NAME") or from files of their own ("file:PATH", relative
// to the configuration's).
func ReadConfig(path string) (*Config, error) {
	file := lookAt(path)
	data, err := os.ReadFile(path)
	if err != nil {
		err := &FileError{File: path, Reason: reason(err)}
		return nil, &refusedConfig{err, []error{err}, []File{file}}
	}
	return parseConfig(path, data, file)
}

// DefaultConfig is what an empty file says.
func DefaultConfig() *Config {
	c := &Config{doc: new(document)}
	c.setDefaults()
	return c
}

func parseConfig(path string, data []byte, read ...File) (*Config, error) {
	c := new(Config)
	c.doc = parseDocument(path, data, c)
	c.doc.files = append(read, c.doc.files...)
	for _, file := range []*string{&c.State, &c.TLS.Cert, &c.TLS.Key} {
		*file = c.doc.relative(*file)
	}
	if c.TLS.Cert != "" {
		c.doc.files = append(c.doc.files, lookAt(c.TLS.Cert), lookAt(c.TLS.Key))
	}
	c.setDefaults()
	if len(c.doc.errs) == 0 {
		c.check()
	}
	if err := c.doc.err(); err != nil {
		return nil, &refusedConfig{err, c.doc.errs, c.doc.files}
	}
	return c, nil
}

func (c *Config) setDefaults() {
	c.Listen = cmp.Or(c.Listen, "127.0.0.1:8080")
	c.Strategy = cmp.Or(c.Strategy, "affinity")
	defaultTo(c.doc, "rate_limit.burst", &c.RateLimit.Burst, 1)
	c.Redis.Prefix = cmp.Or(c.Redis.Prefix, defaultRedisPrefix)
	defaultTo(c.doc, "redis.lease", &c.Redis.Lease, defaultRedisLease)
	defaultTo(c.doc, "redis.replicas", &c.Redis.Replicas, 1)
	s := &c.Server
	defaultTo(c.doc, "server.max_request", &s.MaxRequest, defaultMaxRequest)
	defaultTo(c.doc, "server.max_header", &s.MaxHeader, 64<<10)
	defaultTo(c.doc, "server.max_connections", &s.MaxConnections, 10_000)
	defaultTo(c.doc, "server.header_timeout", &s.HeaderTimeout, 10*time.Second)
	defaultTo(c.doc, "server.body_timeout", &s.BodyTimeout, 30*time.Second)
	defaultTo(c.doc, "server.write_timeout", &s.WriteTimeout, time.Minute)
	defaultTo(c.doc, "server.idle_timeout", &s.IdleTimeout, 2*time.Minute)
	defaultTo(c.doc, "shutdown.limit", &c.Shutdown.Limit, time.Minute)
	c.Log.Level = cmp.Or(c.Log.Level, "info")
	c.Log.Format = cmp.Or(c.Log.Format, "json")
	c.Telemetry.Metrics.Path = cmp.Or(c.Telemetry.Metrics.Path, "/metrics")
	defaultTo(c.doc, "telemetry.traces.ratio", &c.Telemetry.Traces.Ratio, 1)
	if len(c.Accounts) == 1 {
		c.Accounts[0].Name = cmp.Or(c.Accounts[0].Name, "main")
	}
	for i := range c.Endpoints {
		c.Endpoints[i].setDefaults()
	}
}

// check looks at what no single value can tell, and has the transport look at
// the rest.
func (c *Config) check() {
	fail := c.doc.failAt
	c.checkListen()
	if !slices.Contains([]string{"affinity", "least_loaded", "round_robin"}, c.Strategy) {
		fail("strategy", fmt.Sprintf("%q is none of affinity, least_loaded, round_robin", c.Strategy))
	}
	for name, model := range c.Models {
		if name == "" || model == "" {
			fail("models."+name, "must not be empty")
		}
	}
	c.checkZeros(map[string]any{
		"queue": c.Queue, "retry": c.Retry.Retry, "breaker": c.Breaker.Breaker, "hedging": c.Hedging.Hedging, "timeouts": c.Timeouts, "keep_alive": c.KeepAlive,
		"resume": c.Resume.Resume, "cache": c.Cache,
	})
	c.checkEndpoints()
	c.checkPrices()
	c.checkBudgets()
	c.Redis.check(fail)
	c.Server.check(fail)
	c.Shutdown.check(fail)
	c.Log.check(fail)
	c.Status.check(c.Listen, fail)
	c.Telemetry.check(c.Listen, fail)
	if c.Status.Listen != "" && c.Status.Listen == c.Telemetry.Metrics.Listen && !strings.HasSuffix(c.Status.Listen, ":0") {
		fail("telemetry.metrics.listen", "is where the status page is, too")
	}
	if len(c.doc.errs) == 0 {
		c.checkOptions()
	}
}

func (c *Config) checkListen() {
	if host, _, ok := splitAddress(c.Listen); !ok {
		c.doc.failAt("listen", fmt.Sprintf("%q is no address, such as 127.0.0.1:8080 or :8080", c.Listen))
	} else if len(c.Clients) == 0 && !loopback.IsHost(host) {
		c.doc.failAt("listen", "without clients the gateway listens on loopback only, such as 127.0.0.1:8080: whoever reaches it spends your money")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		c.doc.failAt("tls", "needs both cert and key")
	}
}

// checkPrices finds currencies without prices, such as one that is misspelt.
func (c *Config) checkPrices() {
	if p := c.Prices; len(p.Models) == 0 && !slices.Contains([]string{"", "USD", "CNY"}, p.Currency) {
		c.doc.failAt("prices.currency", fmt.Sprintf("%q is neither USD nor CNY, in which DeepSeek's prices are known, and there are no models with others", p.Currency))
	}
}

// splitAddress takes apart an address to listen on; port 0 is any.
func splitAddress(address string) (host string, port int, ok bool) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false
	}
	port, err = strconv.Atoi(text)
	return host, port, err == nil && port >= 0 && port <= 65535
}

// checkBudgets looks at what clients may spend, and where that is kept.
func (c *Config) checkBudgets() {
	if c.State != "" {
		if dir, err := os.Stat(filepath.Dir(c.State)); err != nil || !dir.IsDir() {
			c.doc.failAt("state", "cannot be written: there is no directory "+filepath.Dir(c.State))
		}
	}
	for i, client := range c.Clients {
		at := fmt.Sprintf("clients[%d].budget_per_month", i)
		if c.doc.given[at] && client.BudgetPerMonth == 0 {
			c.doc.failAt(at, "must be more than 0; without it there is no limit")
		}
		if client.BudgetPerMonth > 0 && c.State == "" && c.Redis.URL == "" {
			c.doc.failAt(at, "needs a file to keep what was spent, such as \"state: seawall.state\", or redis: a budget must not begin anew with each restart")
		}
	}
}

// checkOptions has the transport look at its options, by making one.
func (c *Config) checkOptions() {
	if _, err := New(c.Settings(), c.Options()...); err != nil {
		c.doc.errs = append(c.doc.errs, c.Locate(err))
	}
}

// Locate says where the file has the field that an error of package deepseek is about,
// or of another package that has such ones: it returns a [*FileError].
func (c *Config) Locate(err error) error {
	var bad *deepseek.ConfigError
	if !errors.As(err, &bad) {
		return c.doc.errorAt("", err.Error())
	}
	field, reason := c.path(bad.Field), bad.Reason
	if bad.Value != "" {
		reason = bad.Value + " " + reason
	}
	switch { // what is not in the file is in the environment
	case bad.Field == "APIKeys":
		field, reason = "accounts", "there are none, and the environment has no DEEPSEEK_API_KEY"
	case field == "keys":
		field, reason = "accounts", "a key in the environment's DEEPSEEK_API_KEY "+reason
	case field == "base_url" && c.BaseURL == "":
		reason = "DEEPSEEK_BASE_URL in the environment: " + reason
	}
	return c.doc.errorAt(field, reason)
}

// checkZeros refuses numbers that are written as 0, for which there would be the
// default: whoever writes 0 means none.
func (c *Config) checkZeros(sections map[string]any) {
	for name, section := range sections {
		v := reflect.ValueOf(section)
		for i := range v.NumField() {
			at := name + "." + fieldName(v.Type().Field(i).Name)
			if kind := v.Field(i).Kind(); c.doc.given[at] && kind != reflect.Bool && kind != reflect.String && v.Field(i).IsZero() {
				c.doc.failAt(at, "must not be 0; without it there is the default")
			}
		}
	}
}

// How a field of an account, an endpoint and a client is named.
var (
	ofAccount  = regexp.MustCompile(`^Account ("(?:[^"\\]|\\.)*")\.(.*)$`)
	ofEndpoint = regexp.MustCompile(`^Endpoint ("(?:[^"\\]|\\.)*")\.(.*)$`)
	ofClient   = regexp.MustCompile(`^Clients\[(\d+)\]\.(.*)$`)
	ofPrices   = regexp.MustCompile(`^Prices\.(Models|Aliases)\[("(?:[^"\\]|\\.)*")\](.*)$`)
)

// path is where the file has what package deepseek calls field.
func (c *Config) path(field string) string {
	prefix := ""
	if m := ofClient.FindStringSubmatch(field); m != nil {
		prefix, field = "clients["+m[1]+"].", m[2]
	}
	if m := ofAccount.FindStringSubmatch(field); m != nil {
		field = m[2]
		name, _ := strconv.Unquote(m[1])
		prefix = c.accountPath(name)
	}
	if m := ofEndpoint.FindStringSubmatch(field); m != nil {
		field = m[2]
		name, _ := strconv.Unquote(m[1])
		prefix = c.endpointPath(name)
	}
	if m := ofPrices.FindStringSubmatch(field); m != nil {
		field = m[3]
		name, _ := strconv.Unquote(m[2])
		prefix = "prices." + fieldName(m[1]) + "." + name
	}
	field, _, _ = strings.Cut(field, "[") // one key's is that of the list
	names := strings.Split(field, ".")
	for i, name := range names {
		names[i] = fieldName(name)
	}
	return prefix + strings.Join(names, ".")
}

// Settings are the gateway's own.
func (c *Config) Settings() Settings {
	return Settings{
		MaxRequest: int64(c.Server.MaxRequest), BodyTimeout: c.Server.BodyTimeout, WriteTimeout: c.Server.WriteTimeout, KeepAlive: c.KeepAlive,
		Models: c.Models, FallbackModels: c.FallbackModels, Clients: c.Clients, State: c.State,
	}
}

// Options are those of its transport.
func (c *Config) Options() []deepseek.Option {
	opts := []deepseek.Option{
		deepseek.WithQueue(c.Queue), deepseek.WithRetry(c.Retry.Retry), deepseek.WithBreaker(c.Breaker.Breaker),
		deepseek.WithTimeouts(c.Timeouts), deepseek.WithStrategy(c.strategy()), deepseek.WithPrices(c.Prices.prices()),
	}
	if c.BaseURL != "" {
		opts = append(opts, deepseek.WithBaseURL(c.BaseURL))
	}
	if len(c.Accounts) > 0 {
		opts = append(opts, deepseek.WithAccounts(accounts(c.Accounts)...))
	}
	for _, e := range c.Endpoints {
		opts = append(opts, deepseek.WithEndpoints(e.endpoint()))
	}
	if c.MaxConcurrency != 0 {
		opts = append(opts, deepseek.WithMaxConcurrency(c.MaxConcurrency))
	}
	if c.RateLimit.PerSecond != 0 {
		opts = append(opts, deepseek.WithRateLimit(c.RateLimit.PerSecond, c.RateLimit.Burst))
	}
	if c.Retry.Off {
		opts = append(opts, deepseek.WithoutRetry())
	}
	if c.Breaker.Off {
		opts = append(opts, deepseek.WithoutBreaker())
	}
	if c.Resume.On {
		opts = append(opts, deepseek.WithResume(c.Resume.Resume))
	}
	if c.Hedging.On {
		opts = append(opts, deepseek.WithHedging(c.Hedging.Hedging))
	}
	if k := c.Cache; k.On {
		opts = append(opts, deepseek.WithCache(deepseek.Cache{TTL: k.TTL, MaxBytes: int64(k.MaxBytes), MaxAnswer: int(k.MaxAnswer)}))
	}
	return opts
}

func (c *Config) strategy() deepseek.Strategy {
	switch c.Strategy {
	case "least_loaded":
		return deepseek.LeastLoaded{}
	case "round_robin":
		return deepseek.RoundRobin{}
	}
	return deepseek.Affinity{}
}

// Files are the files that the configuration is in, with those of secrets and the
// certificate.
func (c *Config) Files() []File { return c.doc.files }

// NeedsRestart are the fields in which c and another configuration differ and
// which no reload can change.
func (c *Config) NeedsRestart(other *Config) (fields []string) {
	a, b := c.Server, other.Server
	a.MaxRequest = b.MaxRequest
	for _, f := range []struct {
		name string
		same bool
	}{
		{"listen", c.Listen == other.Listen}, {"tls", (c.TLS.Cert == "") == (other.TLS.Cert == "")},
		{"status.listen", c.Status.Listen == other.Status.Listen}, {"server", a == b}, {"log.format", c.Log.Format == other.Log.Format},
		{"telemetry", c.Telemetry.same(&other.Telemetry)},
		{"redis", c.Redis == other.Redis},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// Level is the least that is logged.
func (c *Config) Level() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.Log.Level)) // checked
	return l
}
