package gateway_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/conformance"
	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

func TestContract(t *testing.T) {
	conformance.Run(t, func(t *testing.T, _ *deepseektest.Server, opts ...deepseek.Option) conformance.Door {
		g, err := gateway.New(gateway.Settings{}, opts...)
		require.NoError(t, err)
		client, url := conformance.Serve(t, g)
		d := conformance.HTTP(client, url)
		d.Transport, d.Remote, d.Comments = g.Transport(), true, true
		open := d.Open
		d.Open = func(ctx context.Context, p conformance.Prompt) (conformance.Stream, conformance.Result, error) {
			s, res, err := open(ctx, p)
			if err != nil {
				return nil, res, err
			}
			return thorough{s}, res, nil
		}
		return d
	})
}

// thorough reads on after an error event: the connection must break too, for
// clients that overlook the event.
type thorough struct{ conformance.Stream }

func (s thorough) Next() (conformance.Piece, error) {
	p, err := s.Stream.Next()
	if told, ok := errors.AsType[*conformance.StatusError](err); ok {
		for {
			_, err := s.Stream.Next()
			if _, again := errors.AsType[*conformance.StatusError](err); again {
				continue
			}
			return p, errors.Join(told, err)
		}
	}
	return p, err
}
