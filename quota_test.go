package deepseek

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// At most so many requests in any minute, however they fall; the calls wait.
func TestQuotaOfRequestsIsKeptInEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Time
		base := scripted(func(req *http.Request) (*http.Response, error) {
			sent = append(sent, time.Now())
			return answers(req)
		})
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL),
			WithAccounts(Account{Name: "a", Keys: []string{"1"}, RequestsPerMinute: 10}))
		require.NoError(t, err)
		for i := range 35 {
			_, err := send(t.Context(), tr)
			require.NoError(t, err)
			if i < 15 {
				time.Sleep(2300 * time.Millisecond)
			}
		}
		for i := range sent {
			if i >= 10 {
				require.Greater(t, sent[i].Sub(sent[i-10]), 59*time.Second)
			}
		}
		require.Less(t, sent[34].Sub(sent[0]), 4*time.Minute, "and no less than that")
	})
}

func TestQuotaOfTokensIsCorrectedByTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota{tokensPerMinute: 1000}
		now := time.Now()
		thought, until := q.take(400, now)
		require.Equal(t, 100, thought)
		require.Zero(t, until)
		q.settle(thought, 100, 800, now)
		require.Equal(t, 900, q.minute.tokens)
		_, until = q.take(0, now)
		require.Zero(t, until, "an answer's length is learned")
		_, until = q.take(400, now)
		require.Equal(t, now.Add(time.Minute).Truncate(time.Second).UnixNano(), until)
		require.Equal(t, until, q.until(now), "the same for the next one")
		now = time.Unix(0, until)
		_, until = q.take(40_000, now)
		require.Zero(t, until, "more than the cap passes when there is nothing else")
	})
}

func TestQuotaGivesBackWhatWasNotLetIn(t *testing.T) {
	q := quota{requestsPerMinute: 5, tokensPerMinute: 1000}
	now := time.Unix(1_000_000, 0)
	thought, _ := q.take(4000, now)
	require.Equal(t, 1000, thought)
	_, until := q.take(4, now)
	require.NotZero(t, until)
	q.giveBack(thought, now)
	_, until = q.take(4, now)
	require.Zero(t, until)
	require.Equal(t, 2, q.minute.requests, "it was a request all the same")
}

// What finds no room in the rate was not sent, and takes nothing from the account's
// minute, however often it tries.
func TestQuotaOfWhatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue, err := NewQueue(Queue{})
		require.NoError(t, err)
		pool, err := NewPool(nil, Account{Name: "a", Keys: []string{"1"}, RequestsPerMinute: 10})
		require.NoError(t, err)
		rate, err := NewRateLimit(1, 1)
		require.NoError(t, err)
		rt := Chain(queue, pool.Middleware(), rate)(scripted(answers))
		start := time.Now()
		for range 10 {
			_, err := send(t.Context(), rt)
			require.NoError(t, err)
		}
		require.Equal(t, 9*time.Second, time.Since(start))
		require.Equal(t, 10, (*pool.accounts.Load())[0].quota.minute.requests)
	})
}

func TestQuotaAgainstACountByHand(t *testing.T) {
	q := quota{requestsPerMinute: 7}
	var sent []int64
	now := time.Unix(1_000_000, 0)
	for step := range 3000 {
		now = now.Add(time.Duration(step*step%13) * time.Second)
		inMinute := 0
		for _, at := range sent {
			if at > now.Unix()-60 {
				inMinute++
			}
		}
		if _, until := q.take(0, now); until == 0 {
			require.Less(t, inMinute, 7)
			sent = append(sent, now.Unix())
		} else {
			require.Equal(t, 7, inMinute)
			require.Greater(t, until, now.UnixNano())
		}
	}
}

// A call whose deadline is nearer than the end of the minute is told so at
// once, and another account takes what the first may not.
func TestQuotaRefusesAtOnceWhatCannotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(answers)
		accounts := []Account{{Name: "a", Keys: []string{"1"}, RequestsPerMinute: 2}, {Name: "b", Keys: []string{"2"}, RequestsPerMinute: 3}}
		tr, err := NewTransport(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAccounts(accounts...))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		for range 5 {
			_, err := send(ctx, tr)
			require.NoError(t, err)
		}
		_, err = send(ctx, tr)
		require.ErrorIs(t, err, ErrQueueFull)
		require.Zero(t, time.Since(began))
		require.Equal(t, StateCooling, tr.Stats().Accounts[0].Models[0].State)
		require.InDelta(t, 60, tr.Stats().Accounts[0].Models[0].For.Seconds(), 1)
		require.Len(t, base.sent(), 5)
	})
}
