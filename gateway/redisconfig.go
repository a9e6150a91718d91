package gateway

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Redis says by which Redis server gateways share what they have in common. The
// zero value is none.
type Redis struct {
	// URL is where it is: redis://, rediss:// for TLS, or unix://. One with a
	// password is not written in the file: env:NAME or file:PATH.
	URL RedisURL
	// Prefix is what all keys there begin with. Gateways with the same share, so
	// they must have the same accounts, by name, and clients. Default seawall.
	Prefix string
	// Lease is how long a gateway's permits are kept for it when it is not heard of
	// any more. Default 5s.
	Lease time.Duration
	// Replicas is how many gateways there are believed to be while the server cannot
	// be reached and that is not known yet. Default 1.
	Replicas int
}

// RedisURL is a URL that may hold a password, which nothing prints.
type RedisURL string

func (u *RedisURL) read(d *document, n *yaml.Node, path string) {
	text := n.Value
	switch scheme, _, _ := strings.Cut(text, "://"); {
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "must be a single value")
		return
	case text == "":
		return
	case scheme == text: // it is not the URL itself
		secret, _, why := d.secretText(n)
		if text = strings.TrimSpace(secret); why == "" && text == "" {
			why = n.Value + " is empty"
		}
		if why != "" {
			d.fail(n, path, "%s", why)
			return
		}
	default:
		// What is no URL may be one with a password: do not repeat it.
		if u, err := url.Parse(text); err == nil && u.User != nil || strings.Contains(text, "@") {
			d.fail(n, path, "a URL with a password is not written here: say where it is, with env:NAME or file:PATH")
			return
		}
	}
	*u = RedisURL(text)
}

// String hides the password, and all if it may stand anywhere, as one that was not
// escaped.
func (u RedisURL) String() string {
	parsed, err := url.Parse(string(u))
	if at := strings.Count(string(u), "@"); err != nil || at > 1 || (parsed.User != nil) != (at == 1) {
		return ""
	}
	return parsed.Scheme + "://" + parsed.Host + parsed.Path
}

// GoString is String, so that %#v tells no more.
func (u RedisURL) GoString() string { return u.String() }

// MarshalText is String, for JSON, YAML and logs.
func (u RedisURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

var redisPrefix = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

const (
	defaultRedisPrefix = "seawall"
	defaultRedisLease  = 5 * time.Second
)

func (r *Redis) check(fail func(path, reason string)) {
	if r.URL == "" {
		if *r != (Redis{Prefix: defaultRedisPrefix, Lease: defaultRedisLease, Replicas: 1}) {
			fail("redis", `needs a url, such as "url: redis://127.0.0.1:6379" or "url: env:REDIS_URL"`)
		}
		return
	}
	u, err := url.Parse(string(r.URL))
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" || u.Scheme != "unix" && u.Host == "" {
		fail("redis.url", "is not of the form redis://[user:password@]host[:port][/database], rediss://… or unix://…")
	}
	if !redisPrefix.MatchString(r.Prefix) {
		fail("redis.prefix", fmt.Sprintf("%q must be at most 64 letters, digits and -_.:", r.Prefix))
	}
	if r.Lease < time.Second || r.Lease > 10*time.Minute {
		fail("redis.lease", "must be between 1s and 10m")
	}
	if r.Replicas < 1 || r.Replicas > 10_000 {
		fail("redis.replicas", "must be between 1 and 10000")
	}
}
