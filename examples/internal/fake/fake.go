// Package fake has the examples run without a key: against a fake DeepSeek in
// their own process.
package fake

import (
	"cmp"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// API is what an example talks to.
type API struct {
	Server  *deepseektest.Server // the fake one; nil for DeepSeek itself
	URL     string               // for SDKs that want to know it
	Options []deepseek.Option    // for deepseek.New and its siblings
	Close   func()
}

// Unless returns DeepSeek itself if there is a key in the environment, with no
// options: the key is found there. Otherwise it returns a fake server, which
// meets the first request with a 503 and the second with a reset.
func Unless(env func(string) string, opts ...deepseektest.Option) API {
	if env("DEEPSEEK_API_KEY") != "" || env("DEEPSEEK_API_KEYS") != "" {
		return API{URL: cmp.Or(env("DEEPSEEK_BASE_URL"), deepseek.DefaultBaseURL), Close: func() {}}
	}
	pace := deepseektest.WithPace(deepseektest.Pace{FirstToken: 200 * time.Millisecond, Token: 25 * time.Millisecond})
	s := deepseektest.NewMemoryServer(append([]deepseektest.Option{pace}, opts...)...)
	s.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.ResetBeforeHeaders())
	return API{
		Server: s,
		URL:    s.URL,
		Options: []deepseek.Option{
			deepseek.WithBaseURL(s.URL), deepseek.WithTransport(s.Transport()), deepseek.WithAPIKeys("sk-fake"),
		},
		Close: s.Close,
	}
}
