package conformance_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/conformance"
	"github.com/seawall-go/deepseek/deepseektest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// under makes a door over the client of NewHTTPClient.
func under(door func(client *http.Client, url string) conformance.Door) conformance.Open {
	return func(t *testing.T, srv *deepseektest.Server, opts ...deepseek.Option) conformance.Door {
		client, err := deepseek.NewHTTPClient(opts...)
		require.NoError(t, err)
		d := door(client, srv.URL)
		d.Transport = client.Transport.(*deepseek.Transport)
		return d
	}
}

func TestContract(t *testing.T) {
	doors := []struct {
		name string
		open conformance.Open
	}{
		{"nethttp", under(conformance.HTTP)},
		{"typed", func(t *testing.T, _ *deepseektest.Server, opts ...deepseek.Option) conformance.Door {
			client, err := deepseek.New(opts...)
			require.NoError(t, err)
			return conformance.Typed(client)
		}},
		{"openai-go", under(func(client *http.Client, url string) conformance.Door {
			return conformance.OpenAI(client, url, -1)
		})},
		{"openai-go-0-retries", under(func(client *http.Client, url string) conformance.Door {
			return conformance.OpenAI(client, url, 0)
		})},
		{"go-openai", under(conformance.GoOpenAI)},
		{"reverseproxy", func(t *testing.T, srv *deepseektest.Server, opts ...deepseek.Option) conformance.Door {
			tr, err := deepseek.NewTransport(opts...)
			require.NoError(t, err)
			d, err := conformance.Proxy(t, tr, srv.URL)
			require.NoError(t, err)
			return d
		}},
	}
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) { conformance.Run(t, d.open) })
	}
}
