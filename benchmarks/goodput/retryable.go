package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// retryable is go-retryablehttp set up with care: the answer is read and
// checked inside of what it repeats, and each repetition takes the next key.
var retryable = contender{
	name: "go-retryablehttp",
	about: "repeats until the deadline, the reading and checking of the answer included (SetResponseHandler); " +
		"each time with the next key (PrepareRetry), at once after a 401, 402 or 403, else after 250 ms to 4 s with jitter, or Retry-After",
	open: func(s *site) (client, error) {
		r := &retryableClient{site: s, keys: s.keys()}
		r.c = &retryablehttp.Client{
			HTTPClient:   &http.Client{Transport: s.base, Timeout: attemptTimeout},
			RetryMax:     1000, // the deadline is the end
			RetryWaitMin: waitMin,
			RetryWaitMax: waitMax,
			Backoff:      r.backoff,
			CheckRetry:   worthRepeating,
			PrepareRetry: func(req *http.Request) error { r.sign(req); return nil },
			ErrorHandler: retryablehttp.PassthroughErrorHandler,
		}
		return r, nil
	},
}

type retryableClient struct {
	c    *retryablehttp.Client
	site *site
	keys []string
	turn atomic.Uint64
}

func (r *retryableClient) close() { r.c.HTTPClient.CloseIdleConnections() }

func (r *retryableClient) sign(req *http.Request) {
	req.Header.Set("Authorization", "Bearer "+r.keys[r.turn.Add(1)%uint64(len(r.keys))])
}

func (r *retryableClient) do(ctx context.Context, q *question) (text string, err error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodPost, r.site.url+"/chat/completions", q.body())
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	r.sign(req.Request)
	req.SetResponseHandler(func(resp *http.Response) (err error) {
		text, err = read(resp, q.stream)
		return err
	})
	resp, err := r.c.Do(req)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return read(resp, false)
	}
	return text, nil
}

// worthRepeating is what is not the caller's fault, and what another key may
// do better.
func worthRepeating(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if status := statusOf(err); status != 0 {
		return worthRepeatingStatus(status), nil
	}
	if err != nil {
		return true, nil
	}
	return worthRepeatingStatus(resp.StatusCode), nil
}

func worthRepeatingStatus(status int) bool {
	return otherKeyMayDo(status) || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
}

func otherKeyMayDo(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusPaymentRequired || status == http.StatusForbidden
}

// backoff is none where another key may do better, and else the site's, unless
// the server says how long.
func (r *retryableClient) backoff(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil && otherKeyMayDo(resp.StatusCode) && attempt < 8 {
		return 0
	}
	if resp != nil && resp.Header.Get("Retry-After") != "" {
		return retryablehttp.DefaultBackoff(least, most, attempt, resp)
	}
	return r.site.backoff(attempt)
}

// statusOf is the status that an error tells of, or 0.
func statusOf(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}
