package conformance

import (
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// spareAccount is that of the other host, and spareModel its name for the model.
var spareAccount = deepseektest.Account{Name: "spare", Keys: []string{secret + "-x1-33333333"}}

const spareModel = "other-host/flash"

// withSpare has a second endpoint beside the server: another host, for when the
// server cannot.
func withSpare(srv *deepseektest.Server, base http.RoundTripper, accounts []deepseek.Account) (*deepseektest.Server, []deepseek.Option) {
	model := deepseektest.DefaultModels()[0]
	model.ID, model.Aliases = spareModel, nil
	spare := deepseektest.NewMemoryServer(deepseektest.WithAccount(spareAccount), deepseektest.WithModels(model),
		deepseektest.WithAnswer(func(*deepseektest.Request) deepseektest.Answer { return answer }))
	there, toSpare := hostOf(spare), spare.Transport()
	return spare, []deepseek.Option{
		deepseek.WithTransport(roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == there {
				return toSpare.RoundTrip(req)
			}
			return base.RoundTrip(req)
		})),
		deepseek.WithEndpoints(
			deepseek.Endpoint{Name: "main", BaseURL: srv.URL, Accounts: accounts},
			deepseek.Endpoint{Name: "spare", BaseURL: spare.URL, Priority: 1, Dialect: deepseek.DialectOpenAI,
				Accounts: []deepseek.Account{{Name: spareAccount.Name, Keys: spareAccount.Keys}},
				Models:   map[string]string{deepseek.ModelFlash: spareModel}},
		),
	}
}

func hostOf(srv *deepseektest.Server) string {
	u, err := url.Parse(srv.URL)
	if err != nil {
		panic(err)
	}
	return u.Host
}

// endpointTests are the table of outcomes with a second endpoint: what the first
// one cannot do, the other does at once; what is the request's own fault, or has
// reached the caller already, is not tried again.
func endpointTests() (tests []test) {
	for _, r := range rows() {
		if r.modes == nil {
			r.modes = bothModes
		}
		for _, m := range r.modes {
			tests = append(tests, r.elsewhere(m))
		}
	}
	return tests
}

// elsewhere is the row when every attempt at the first endpoint ends like it.
func (r row) elsewhere(m mode) test {
	c := test{name: r.name + " " + m.String(), single: true, spare: true}
	var tries atomic.Int64
	if r.base != nil {
		c.network = failing(r.base, -1, &tries)
	}
	c.do = func(x *bench) {
		if r.base == nil {
			x.srv.Enqueue(deepseektest.Repeat(10, r.reply)...)
		}
		res, err := x.call(bg, m, Prompt{})
		if !r.retried {
			assert.Empty(x, x.spare.Requests(), "requests at the other endpoint")
			if r.status == 200 {
				x.whole(res, err)
				return
			}
			require.Error(x, err)
			return
		}
		x.whole(res, err)
		wait := r.wait[0]
		if r.base != nil || r.where != anywhere {
			wait = 0
		}
		assert.InDelta(x, wait, x.elapsed(), float64(time.Millisecond), "no wait before the other endpoint")
		if r.base == nil {
			x.requests(1)
		} else {
			assert.EqualValues(x, 1, tries.Load(), "attempts at the first endpoint")
		}
		there := x.spare.Requests()
		require.Len(x, there, 1, "requests at the other endpoint")
		assert.Equal(x, spareAccount.Keys[0], there[0].Key)
		assert.Equal(x, spareModel, there[0].Model)
		assert.NotContains(x, string(there[0].Body), deepseek.ModelFlash)
	}
	return c
}
