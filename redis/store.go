package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seawall-go/deepseek"
)

// Store returns the store of a response cache ([deepseek.Cache]). What is larger
// than MaxValue is not kept, and not read either.
//
// The server is waited for no longer than Timeout. After an answer that did not come,
// nothing is looked for or kept for a tenth of the lease, as if nothing were there.
func (n *Connection) Store() deepseek.Store { return store{n} }

type store struct{ *Connection }

// rests reports whether the store is left alone for a while.
func (s store) rests() bool { return time.Now().UnixNano() < s.restsUntil.Load() }

// rest leaves the store alone for a while if it did not answer.
func (s store) rest(ctx context.Context, err error) error {
	var answer redis.Error                                          // the server is there
	if err != nil && !errors.As(err, &answer) && ctx.Err() == nil { // a caller's time that is up says nothing
		s.restsUntil.Store(time.Now().Add(s.config.Lease / 10).UnixNano())
	}
	return err
}

// key has no braces: answers are spread over a cluster.
func (s store) key(key string) string { return s.config.Prefix + ":cache:" + url.PathEscape(key) }

func (s store) Get(ctx context.Context, key string) ([]byte, error) {
	if s.rests() {
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	most := s.config.MaxValue
	value, err := s.client.GetRange(within, s.key(key), 0, int64(most)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, s.rest(ctx, err)
	case len(value) == 0:
		return nil, nil
	case len(value) > most:
		return nil, fmt.Errorf("redis: a value of more than %d bytes is not read", most)
	}
	return value, nil
}

func (s store) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if len(value) > s.config.MaxValue || ttl < time.Millisecond || s.rests() {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	return s.rest(ctx, s.client.Set(within, s.key(key), value, ttl).Err())
}
