package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seawall-go/deepseek"
)

// Store returns the store of a response cache ([deepseek.Cache]). What is larger
// than MaxValue is not kept, and not read either.
func (n *Connection) Store() deepseek.Store { return store{n} }

type store struct{ *Connection }

// key has no braces: answers are spread over a cluster.
func (s store) key(key string) string { return s.config.Prefix + ":cache:" + escape(key) }

func (s store) Get(ctx context.Context, key string) ([]byte, error) {
	most := s.config.MaxValue
	value, err := s.client.GetRange(ctx, s.key(key), 0, int64(most)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, err
	case len(value) == 0:
		return nil, nil
	case len(value) > most:
		return nil, fmt.Errorf("redis: a value of more than %d bytes is not read", most)
	}
	return value, nil
}

func (s store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if len(value) > s.config.MaxValue || ttl < time.Millisecond {
		return nil
	}
	return s.client.Set(ctx, s.key(key), value, ttl).Err()
}
