package statuspage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/conformance"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/gateway/statuspage"
)

// bench is a gateway in a bubble, before a fake DeepSeek, with a status page.
type bench struct {
	*testing.T
	srv     *deepseektest.Server
	g       *gateway.Gateway
	page    *statuspage.Page
	client  *http.Client
	url     string
	viewer  *http.Client
	pageURL string
}

type setup struct {
	page     statuspage.Settings
	gateway  gateway.Settings
	accounts []deepseek.Account
	server   []deepseektest.Option
	opts     []deepseek.Option
}

const (
	keyA   = "sk-upstream-0123456789-a"
	keyB   = "sk-upstream-0123456789-b"
	prompt = "the prompt that nobody is to see"
	answer = "the answer that nobody is to see"
	flash  = `{"model": "deepseek-flash", "messages": [{"role": "user", "content": "` + prompt + `"}]}`
)

func (s setup) run(t *testing.T, do func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		if s.accounts == nil {
			s.accounts = []deepseek.Account{{Name: "main", Keys: []string{keyA}}}
		}
		b := &bench{T: t}
		server := append([]deepseektest.Option{deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer {
			return deepseektest.Answer{Content: answer}
		})}, s.server...)
		for _, a := range s.accounts {
			server = append(server, deepseektest.WithAccount(deepseektest.Account{Name: a.Name, Keys: a.Keys}))
		}
		b.srv = deepseektest.NewMemoryServer(server...)
		t.Cleanup(b.srv.Close)
		b.page = statuspage.New(s.page)
		s.gateway.OnEnd = b.page.OnEnd
		var err error
		b.g, err = gateway.New(s.gateway, append([]deepseek.Option{
			deepseek.WithBaseURL(b.srv.URL), deepseek.WithTransport(b.srv.Transport()), deepseek.WithAccounts(s.accounts...),
			deepseek.WithObserver(b.page.Observer()),
		}, s.opts...)...)
		require.NoError(t, err)
		b.page.Watch(b.g)
		b.client, b.url = conformance.Serve(t, b.g)
		b.viewer, b.pageURL = conformance.Serve(t, b.page)
		do(b)
		b.page.Close()
		time.Sleep(5 * time.Second) // net/http's servers linger
	})
}

// ask makes a request of the gateway and reads the answer.
func (b *bench) ask(body string) (status int, text string) {
	b.Helper()
	resp, err := b.client.Post(b.url+"/chat/completions", "application/json", strings.NewReader(body))
	require.NoError(b, err)
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

// message is what a viewer gets, as far as tests look at it.
type message struct {
	Full    bool
	Now     int64
	Edition string
	About   struct {
		Upstream, Note, Version string
		Started                 int64
		Viewers                 int
	}
	Outlook struct {
		Level, Text string
		Items       []struct {
			Level, Text, Doing string
			Since, Until       int64
		}
	}
	Totals struct {
		InFlight int `json:"in_flight"`
		Limit    int
		Waiting  int
		Longest  int64
		Spent    float64
		Saved    float64
		Hit      int64
	}
	Accounts []struct {
		Name         string
		Endpoint     string
		State        string
		Since, Until int64
		Keys         []struct {
			Key, State   string
			Since, Until int64
		}
		Models []struct {
			Model, State string
			InFlight     int `json:"in_flight"`
			Limit        int
			Answered     int
			Refused      int
			Until        int64
		}
	}
	Gone     []string
	Circuits []struct {
		Endpoint, Model, State string
		Since, Until           int64
	}
	Clients []struct {
		Name  string
		Spent float64
	}
	Series struct {
		From   int64
		Points [][]int64
	}
	Calls []struct {
		N                                      int64
		ID, Client, Path, Model, Outcome, Code string
		Error                                  string
		Status, Hit, Miss, Output, More        int
		Took                                   int64
		Cost                                   float64
		Trail                                  []struct{ Kind, Account, Key, Error, Model string }
	}
	Journal []struct {
		N           int64
		Times       int
		Level, Text string
	}
}

// watcher reads a stream of events.
type watcher struct {
	b     *bench
	body  io.ReadCloser
	lines *bufio.Reader
	raw   strings.Builder // all that came
	last  []byte
}

// watch opens a stream of events.
func (b *bench) watch() *watcher {
	b.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, b.pageURL+"/events", nil)
	require.NoError(b, err)
	resp, err := b.viewer.Do(req)
	require.NoError(b, err)
	require.Equal(b, http.StatusOK, resp.StatusCode)
	require.Equal(b, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	return &watcher{b: b, body: resp.Body, lines: bufio.NewReader(resp.Body)}
}

// next returns the next message.
func (w *watcher) next() (m message) {
	w.b.Helper()
	for {
		line, err := w.lines.ReadString('\n')
		require.NoError(w.b, err)
		w.raw.WriteString(line)
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			w.last = []byte(data)
			require.NoError(w.b, json.Unmarshal(w.last, &m), data)
			return m
		}
	}
}

// now returns the whole page as it is.
func (b *bench) now() message {
	b.Helper()
	w := b.watch()
	defer w.body.Close()
	m := w.next()
	require.True(b, m.Full)
	return m
}
