package redis

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/seawall-go/deepseek"
)

// Config says which server, and what of it. Either URL or Client is needed.
type Config struct {
	// URL is where the server is: redis://[user:password@]host[:port][/database],
	// rediss:// for TLS, or unix://[user:password@]/path/of/the/socket[?db=N].
	URL string
	// Client is a client of the caller's own, for clusters and sentinels, say. It
	// should end when contexts do (ContextTimeoutEnabled). It is not closed.
	Client redis.UniversalClient
	// Prefix is what all keys begin with: letters, digits and -_.: of which there
	// are at most 64. Programs with other accounts or clients need another one.
	// Default "seawall".
	Prefix string
	// MaxValue is the largest answer that the store keeps, in bytes. Default 1 MiB.
	MaxValue int
	// Lease is for how long a gateway counts that is not heard of, for
	// [Connection.Counters]. Default 5 s; at least 100 ms.
	Lease time.Duration
	// Timeout is how long a call may wait for a kept answer, and a gateway's request
	// to be counted, before it goes on without. Default 100 ms.
	Timeout time.Duration
}

// String tells where the server is, without the password.
func (c Config) String() string {
	where := "a client of the caller's"
	if c.URL != "" {
		where = "a URL that cannot be shown"
		u, err := url.Parse(c.URL)
		if err == nil && (u.User != nil) == strings.Contains(c.URL, "@") && strings.Count(c.URL, "@") < 2 {
			where = u.Scheme + "://" + u.Host + u.Path
		} // else a password may stand anywhere, not escaped
	}
	return "redis " + c.Prefix + " at " + where
}

// GoString is String, so that %#v tells no password either.
func (c Config) GoString() string { return c.String() }

// MarshalText is String, for JSON and logs.
func (c Config) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

const (
	defaultPrefix   = "seawall"
	defaultMaxValue = 1 << 20
	defaultLease    = 5 * time.Second
	defaultTimeout  = 100 * time.Millisecond
	dialTimeout     = time.Second
)

func (c Config) withDefaults() (Config, error) {
	bad := func(field, value, reason string) (Config, error) {
		return c, &deepseek.ConfigError{Field: "Redis." + field, Value: value, Reason: reason}
	}
	c.Prefix = cmp.Or(c.Prefix, defaultPrefix)
	c.MaxValue = cmp.Or(c.MaxValue, defaultMaxValue)
	c.Lease = cmp.Or(c.Lease, defaultLease)
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	switch {
	case (c.URL == "") == (c.Client == nil):
		return bad("URL", "", "either it or Client is needed")
	case len(c.Prefix) > 64 || strings.ContainsFunc(c.Prefix, notOfPrefix):
		return bad("Prefix", fmt.Sprintf("%q", c.Prefix), "must be at most 64 letters, digits and -_.:")
	case c.MaxValue < 0 || c.MaxValue > 512<<20:
		return bad("MaxValue", fmt.Sprint(c.MaxValue), "must be between 0 and 512 MiB")
	case c.Lease < 100*time.Millisecond:
		return bad("Lease", c.Lease.String(), "must be at least 100ms")
	case c.Timeout < 0:
		return bad("Timeout", c.Timeout.String(), "must not be negative")
	}
	return c, nil
}

func notOfPrefix(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:", r))
}

// Connection is a connection to a server, for one of this package's purposes or
// several. It is safe for concurrent use.
type Connection struct {
	config Config
	client redis.UniversalClient
	name   string // of this process

	restsUntil atomic.Int64 // of the store, nanoseconds since 1970

	counters func() *Counters
	mu       sync.Mutex
	counting *Counters // once there are any; guarded by mu
}

// New returns a connection. It does not try whether the server is there: what is
// not there today may be tomorrow. Close ends it.
func New(c Config) (*Connection, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	n := &Connection{config: c, client: c.Client, name: rand.Text()}
	if n.client == nil {
		options, err := parseURL(c.URL)
		if err != nil {
			return nil, &deepseek.ConfigError{Field: "Redis.URL", Reason: err.Error()}
		}
		n.client = redis.NewClient(options)
	}
	n.counters = sync.OnceValue(func() *Counters {
		counters := newCounters(n)
		n.mu.Lock()
		n.counting = counters
		n.mu.Unlock()
		return counters
	})
	return n, nil
}

// parseURL is the options of a URL, which may hold a password: no error repeats
// it.
func parseURL(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("is no URL")
	}
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return nil, errors.New("must begin with redis://, rediss:// or unix://")
	case u.Scheme != "unix" && u.Host == "":
		return nil, errors.New("names no host")
	}
	options, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("is not of the form redis://[user:password@]host[:port][/database]")
	}
	// Who waits for an answer says for how long, and does not want to wait for more
	// tries. Whatever else the client would do by itself is not needed here.
	options.MaxRetries = -1
	options.ContextTimeoutEnabled = true
	options.DialTimeout = dialTimeout
	options.DialerRetries = 1
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// Close ends the connection: counters first, which tell the server what it does
// not know yet.
func (n *Connection) Close() error {
	n.mu.Lock()
	counters := n.counting
	n.mu.Unlock()
	if counters != nil {
		counters.close()
	}
	if n.config.Client != nil {
		return nil
	}
	return n.client.Close()
}

// key is a key. All of one prefix are together on one node of a cluster: scripts
// work on several.
func (n *Connection) key(parts ...string) string {
	return "{" + n.config.Prefix + "}:" + strings.Join(parts, ":")
}

// escape makes a text fit for one part of a key among others.
func escape(text string) string { return strings.ReplaceAll(url.PathEscape(text), ":", "%3A") }

// String names the connection without its password.
func (n *Connection) String() string { return "redis " + n.config.Prefix }
