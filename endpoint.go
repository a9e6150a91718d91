package deepseek

import (
	"cmp"
	"hash/crc32"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/seawall-go/deepseek/internal/loopback"
)

// Endpoint is a host that serves DeepSeek's models: DeepSeek itself, or another
// one that speaks OpenAI's format. Its keys go to it alone.
//
// With several endpoints a call goes to the usable one whose Priority is lowest,
// and to the next one at once when that fails, is left alone by its breaker, has
// no room, or has no account that is fit to serve. See [NewRoute].
type Endpoint struct {
	// Name is what errors, statistics and the Seawall-Endpoint header call it.
	// Default: the host of BaseURL.
	Name string
	// BaseURL is what comes before /chat/completions. Default https://api.deepseek.com.
	BaseURL string
	// Accounts are those that this endpoint knows, at least one. Over all
	// endpoints of a transport their names are different.
	Accounts []Account
	// Priority orders the endpoints: the lowest number is tried first. Default 0.
	Priority int
	// Weight is its share of the calls beside others of the same priority.
	// Default 1.
	Weight int
	// Models are its models: its own names for them by the names that callers use,
	// which may be the same. It serves no others. Default nil: it serves every
	// model by the name that the caller uses.
	Models map[string]string
	// Dialect says what it understands. Default: DialectDeepSeek for hosts in
	// deepseek.com and loopback addresses, DialectOpenAI for all others.
	Dialect Dialect
	// Auth says in which header its keys are sent. Default AuthBearer.
	Auth Auth
	// Paths are what it serves of calls that are addressed to another endpoint,
	// beside /chat/completions: "/responses", say. Only for DialectOpenAI; default
	// none.
	Paths []string
	// Drop names members of a request's JSON that it rejects, so that they are
	// left out: "thinking"; or inside of messages "messages.reasoning_content".
	// Default nil: what is known of the host; with DialectOpenAI at least
	// "user_id", which is DeepSeek's. Empty but not nil: nothing is left out.
	Drop []string
}

// Dialect is what a host understands.
type Dialect string

const (
	// DialectDeepSeek is all of DeepSeek's API: beta, prefix completion, FIM,
	// strict tools, /responses, the Anthropic format, balance.
	DialectDeepSeek Dialect = "deepseek"
	// DialectOpenAI is /chat/completions in OpenAI's format.
	DialectOpenAI Dialect = "openai"
)

// rejects is what hosts are known to answer with a 400 or 422 for. Azure's
// deployments of DeepSeek: "Unrecognized request argument supplied: thinking".
// Mistral: "Extra inputs are not permitted".
var rejects = []struct {
	host string // it and what is below it
	drop []string
}{
	{"ai.azure.com", []string{"user_id", "thinking"}},
	{"openai.azure.com", []string{"user_id", "thinking"}},
	{"api.mistral.ai", []string{"user_id", "thinking", "messages.reasoning_content"}},
}

// isWithin reports whether host is domain or below it.
func isWithin(host, domain string) bool {
	rest, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// isDeepSeek reports whether a host is DeepSeek itself, or a stand-in for it on
// this machine.
func isDeepSeek(host string) bool { return loopback.IsHost(host) || isWithin(host, deepSeekDomain) }

const deepSeekDomain = "deepseek.com"

// withDefaults fills in what the endpoint leaves open, and checks it.
func (e Endpoint) withDefaults() (Endpoint, *url.URL, error) {
	field := func(name string) string {
		if e.Name == "" {
			return "Endpoint." + name
		}
		return "Endpoint " + strconv.Quote(e.Name) + "." + name
	}
	e.BaseURL = cmp.Or(e.BaseURL, DefaultBaseURL)
	base, err := parseBaseURL(e.BaseURL)
	if err != nil {
		bad := err.(*ConfigError)
		return e, nil, badConfig(field(bad.Field), bad.Value, bad.Reason)
	}
	e.Name = cmp.Or(e.Name, base.Host)
	if e.Dialect == "" {
		e.Dialect = DialectOpenAI
		if isDeepSeek(base.Hostname()) {
			e.Dialect = DialectDeepSeek
		}
	}
	e.Auth = cmp.Or(e.Auth, AuthBearer)
	if e.Drop == nil && e.Dialect != DialectDeepSeek {
		e.Drop = []string{"user_id"}
		for _, known := range rejects {
			if isWithin(base.Hostname(), known.host) {
				e.Drop = known.drop
			}
		}
	}
	if err := e.check(field); err != nil {
		return e, nil, err
	}
	e.Weight = cmp.Or(e.Weight, 1)
	return e, base, nil
}

// check refuses impossible values. field is what errors call a field.
func (e *Endpoint) check(field func(name string) string) error {
	switch {
	case strings.ContainsFunc(e.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return badConfig("Endpoint.Name", strconv.Quote(e.Name), "must not have blanks: it is written into a header")
	case len(e.Accounts) == 0:
		return badConfig(field("Accounts"), "", "must hold at least one account")
	case e.Weight < 0:
		return badConfig(field("Weight"), e.Weight, "must not be negative")
	case e.Dialect != DialectDeepSeek && e.Dialect != DialectOpenAI:
		return badConfig(field("Dialect"), strconv.Quote(string(e.Dialect)), "must be DialectDeepSeek or DialectOpenAI")
	case e.Auth != AuthBearer && e.Auth != AuthXAPIKey && e.Auth != AuthAPIKey:
		return badConfig(field("Auth"), strconv.Quote(string(e.Auth)), "must be AuthBearer, AuthXAPIKey or AuthAPIKey")
	case len(e.Paths) > 0 && e.Dialect == DialectDeepSeek:
		return badConfig(field("Paths"), e.Paths, "is for DialectOpenAI only")
	}
	for model, name := range e.Models {
		if model == "" || name == "" {
			return badConfig(field("Models"), strconv.Quote(model)+": "+strconv.Quote(name), "must not hold an empty name")
		}
	}
	for _, p := range e.Paths {
		if !strings.HasPrefix(p, "/") {
			return badConfig(field("Paths"), strconv.Quote(p), "must begin with /")
		}
	}
	for _, name := range e.Drop {
		switch strings.TrimPrefix(name, inMessages) {
		case "", "model", "messages", "stream", "role", "content":
			return badConfig(field("Drop"), strconv.Quote(name), "must be a member that a request can do without")
		}
	}
	return nil
}

// NewPool returns a pool of the endpoint's accounts that s chooses among, which
// sends their keys as the endpoint wants them. nil stands for [Affinity].
func (e Endpoint) NewPool(s Strategy) (*Pool, error) {
	e, _, err := e.withDefaults()
	if err != nil {
		return nil, err
	}
	return newPool(&Pool{prefix: e.Name + "-", auth: e.Auth, noBalance: e.Dialect != DialectDeepSeek}, s, e.Accounts)
}

// endpoint is an Endpoint as calls are sent to it.
type endpoint struct {
	name     string
	label    string // the name, where there are several endpoints
	base     *url.URL
	origin   origin
	prefix   string // path of the base
	root     string // the same without what names a part of DeepSeek's API
	hash     uint64 // of the name
	priority int
	weight   float64
	models   map[string]string
	form     form
	paths    []string
	deepSeek bool
	itself   bool // DeepSeek, and no stand-in for it
	vague    bool // nobody said so, and the base URL is as that of vLLM is

	pool    *Pool    // nil under a route of the caller's own
	breaker *breaker // nil: none

	health byModel[*health]

	self target // the endpoint, and nothing chosen of it
}

func newEndpoint(config Endpoint) (*endpoint, error) {
	told := config.Dialect != ""
	config, base, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		name: config.Name, hash: mix(uint64(crc32.Checksum([]byte(config.Name), castagnoli))), base: base, origin: newOrigin(base), prefix: base.EscapedPath(),
		priority: config.Priority, weight: float64(config.Weight), models: config.Models,
		form: newForm(config.Drop), paths: append([]string{"/chat/completions"}, config.Paths...),
		deepSeek: config.Dialect == DialectDeepSeek,
	}
	e.self.endpoint = e
	e.itself = e.deepSeek && isWithin(base.Hostname(), deepSeekDomain)
	e.vague = e.deepSeek && !e.itself && !told && strings.HasSuffix(e.prefix, "/v1")
	e.root = e.prefix
	if e.deepSeek {
		for _, part := range deepSeekParts {
			e.root = strings.TrimSuffix(e.root, part)
		}
	}
	return e, nil
}

// newEndpoints makes endpoints of different names.
func newEndpoints(configs []Endpoint) ([]*endpoint, error) {
	all := make([]*endpoint, len(configs))
	for i, config := range configs {
		e, err := newEndpoint(config)
		if err != nil {
			return nil, err
		}
		for _, other := range all[:i] {
			if other.name == e.name {
				return nil, badConfig("Endpoint.Name", strconv.Quote(e.name), "is that of two endpoints")
			}
		}
		all[i] = e
	}
	if len(all) > 1 {
		for _, e := range all {
			e.label = e.name
		}
	}
	return all, nil
}

// deepSeekParts are what DeepSeek's base URLs may name of the API
// (https://api-docs.deepseek.com). A path brings its own.
var deepSeekParts = []string{"/v1", "/beta"}

// plain reports whether requests are sent to the endpoint as they are.
func (e *endpoint) plain() bool { return e.models == nil && !e.form.changes() }

// called returns the endpoint's own name of a model; ok is false if it does not
// serve it. A request that names no model has nothing to be called.
func (e *endpoint) called(model string) (name string, ok bool) {
	if e.models == nil || model == "" {
		return model, true
	}
	name, ok = e.models[model]
	return name, ok
}

// within returns what path, escaped, has after the endpoint's base, and the
// length of that base; ok is false if it is not below it.
func (e *endpoint) within(path string) (rest string, length int, ok bool) {
	rest, ok = strings.CutPrefix(path, e.root)
	if !ok || rest != "" && rest[0] != '/' {
		return "", 0, false
	}
	if e.deepSeek {
		if after, ok := strings.CutPrefix(rest, "/v1"); ok && strings.HasPrefix(after, "/") {
			rest = after
		}
	}
	return rest, len(e.root), true
}

// serves reports whether a call that is addressed to another endpoint may go to
// this one, by what its path has after the other's base.
func (e *endpoint) serves(rest string) bool {
	if !e.deepSeek {
		return slices.Contains(e.paths, rest)
	}
	switch rest {
	case "/chat/completions", "/beta/chat/completions", "/beta/completions", "/responses", "/anthropic/v1/messages":
		return true
	}
	return rest == "/models" || strings.HasPrefix(rest, "/models/")
}

// at returns where the endpoint has what comes after a base: the URL of a
// request that is like u.
func (e *endpoint) at(u *url.URL, rest string) *url.URL {
	prefix := e.prefix
	if e.deepSeek {
		for _, part := range []string{"/beta/", "/anthropic/", "/user/"} {
			if strings.HasPrefix(rest, part) {
				prefix = e.root
			}
		}
	}
	to := e.join(prefix, rest)
	to.RawQuery, to.ForceQuery = u.RawQuery, u.ForceQuery
	return to
}

// join is a URL at the endpoint. Both parts of its path are escaped.
func (e *endpoint) join(prefix, rest string) *url.URL {
	to := &url.URL{Scheme: e.base.Scheme, Host: e.base.Host, Path: prefix + rest}
	if strings.Contains(to.Path, "%") {
		if plain, err := url.PathUnescape(to.Path); err == nil {
			to.Path, to.RawPath = plain, to.Path
		}
	}
	return to
}

// url is the URL of a path of the API for the typed client. A base URL may name
// a part of DeepSeek's API, as SDKs' settings do; the path brings its own. What
// stands in for DeepSeek may have all but the beta address below its /v1 only, as
// vLLM does.
func (e *endpoint) url(path string) string {
	prefix := e.root
	if e.deepSeek && !e.itself && !strings.HasPrefix(path, betaPart) {
		prefix = strings.TrimSuffix(e.prefix, "/beta")
	}
	return e.join(prefix, path).String()
}

// betaPart begins the paths of DeepSeek's beta API.
const betaPart = "/beta/"
