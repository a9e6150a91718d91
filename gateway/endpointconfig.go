package gateway

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/seawall-go/deepseek"
)

// Endpoint is a host that serves DeepSeek's models, with accounts of its own.
// [deepseek.Endpoint] says more of the fields.
type Endpoint struct {
	Name     string            // default: the host of BaseURL
	BaseURL  string            // what comes before /chat/completions; default: DeepSeek's
	Accounts []Account         // at least one
	Priority int               // the lowest number is tried first; default 0
	Weight   int               // share of the calls among equals; default 1
	Models   map[string]string // its own names by those that clients use; default: the same
	Dialect  deepseek.Dialect  // what it understands; default: by the host
	Auth     deepseek.Auth     // the header for its keys; default: bearer
	Paths    []string          // what it serves beside /chat/completions; default: none
	Drop     []string          // members of requests to leave out; default: by the host
}

// setDefaults gives names to what has none. A host's one account is called as
// the host.
func (e *Endpoint) setDefaults() {
	base, err := url.Parse(cmp.Or(e.BaseURL, deepseek.DefaultBaseURL))
	if e.Name == "" && err == nil {
		e.Name = base.Host
	}
	if len(e.Accounts) == 1 {
		e.Accounts[0].Name = cmp.Or(e.Accounts[0].Name, e.Name)
	}
}

func (e *Endpoint) endpoint() deepseek.Endpoint {
	return deepseek.Endpoint{
		Name: e.Name, BaseURL: e.BaseURL, Accounts: accounts(e.Accounts), Priority: e.Priority, Weight: e.Weight,
		Models: e.Models, Dialect: e.Dialect, Auth: e.Auth, Paths: e.Paths, Drop: e.Drop,
	}
}

func accounts(configs []Account) []deepseek.Account {
	all := make([]deepseek.Account, len(configs))
	for i, a := range configs {
		all[i] = deepseek.Account{
			Name: a.Name, Keys: a.Keys, MaxConcurrency: a.MaxConcurrency, Weight: a.Weight,
			RequestsPerMinute: a.RequestsPerMinute, TokensPerMinute: a.TokensPerMinute,
		}
	}
	return all
}

// checkEndpoints looks at the endpoints and at all accounts.
func (c *Config) checkEndpoints() {
	fail := c.doc.failAt
	c.checkAccounts("accounts", c.Accounts)
	if len(c.Endpoints) == 0 {
		return
	}
	const inside = "goes into an endpoint, where there are endpoints"
	if len(c.Accounts) > 0 {
		fail("accounts", inside)
	}
	if c.BaseURL != "" {
		fail("base_url", inside)
	}
	names := map[string]bool{}
	for i, e := range c.Endpoints {
		at := fmt.Sprintf("endpoints[%d].", i)
		switch {
		case e.Name == "":
			fail(at+"base_url", fmt.Sprintf("%q is no URL, such as https://api.deepseek.com", e.BaseURL))
		case names[e.Name]:
			fail(at+"name", fmt.Sprintf("%q is taken by another endpoint", e.Name))
		case strings.ContainsFunc(e.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			fail(at+"name", fmt.Sprintf("%q must not have blanks", e.Name))
		}
		names[e.Name] = true
		if len(e.Accounts) == 0 {
			fail(at+"accounts", `must hold an account, such as "accounts: [{keys: env:DEEPSEEK_API_KEY}]"`)
		}
		if c.doc.given[at+"weight"] && e.Weight == 0 {
			fail(at+"weight", "must be at least 1; an endpoint that is not to be used is left out")
		}
		switch e.Dialect {
		case "", deepseek.DialectDeepSeek, deepseek.DialectOpenAI:
		default:
			fail(at+"dialect", fmt.Sprintf("%q is neither deepseek nor openai", e.Dialect))
		}
		switch e.Auth {
		case "", deepseek.AuthBearer, deepseek.AuthXAPIKey, deepseek.AuthAPIKey:
		default:
			fail(at+"auth", fmt.Sprintf("%q is none of bearer, x-api-key, api-key", e.Auth))
		}
		c.checkAccounts(at+"accounts", e.Accounts)
	}
}

func (c *Config) checkAccounts(path string, list []Account) {
	for i, a := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if a.Name == "" {
			c.doc.failAt(at, "needs a name, as there are several")
		}
		if c.doc.given[at+".weight"] && a.Weight == 0 {
			c.doc.failAt(at+".weight", "must be at least 1; an account that is not to be used is left out")
		}
		if len(a.Keys) == 0 {
			c.doc.failAt(at, `needs keys, such as "keys: [env:DEEPSEEK_API_KEY]"`)
		}
	}
}

// accountPath is where the file has the account of a name, the last if there are
// two.
func (c *Config) accountPath(name string) (path string) {
	find := func(at string, list []Account) {
		for i, a := range list {
			if a.Name == name {
				path = fmt.Sprintf("%s[%d].", at, i)
			}
		}
	}
	find("accounts", c.Accounts)
	for i, e := range c.Endpoints {
		find(fmt.Sprintf("endpoints[%d].accounts", i), e.Accounts)
	}
	return path
}

// endpointPath is where the file has the endpoint of a name.
func (c *Config) endpointPath(name string) string {
	for i, e := range c.Endpoints {
		if e.Name == name {
			return fmt.Sprintf("endpoints[%d].", i)
		}
	}
	return ""
}
