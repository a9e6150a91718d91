package main

import (
	"log/slog"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/redis"
)

// shared is what the process shares with other gateways. A nil one is nothing.
type shared struct {
	*redis.Connection
	replica *deepseek.Replica
}

// share begins to share, as the configuration says. Whether the server is there
// is seen later, and told in the log.
func share(c *gateway.Config, log *slog.Logger) (*shared, error) {
	k := c.Redis
	if k.URL == "" {
		return nil, nil
	}
	redis.SetLogger(log)
	n, err := redis.New(redis.Config{URL: string(k.URL), Prefix: k.Prefix, Lease: k.Lease})
	if err != nil {
		return nil, c.Locate(err)
	}
	r, err := deepseek.NewReplica(deepseek.Sharing{State: n.State(), Lease: k.Lease, Replicas: k.Replicas})
	if err != nil {
		_ = n.Close()
		return nil, err
	}
	return &shared{n, r}, nil
}

// options are those of the transport.
func (s *shared) options() deepseek.Option {
	return deepseek.WithOptions(deepseek.WithSharedState(s.replica), deepseek.WithCacheStore(s.Store()))
}

// close gives all permits to the others.
func (s *shared) close() {
	if s != nil {
		_ = s.replica.Close()
		_ = s.Connection.Close()
	}
}
