package deepseektest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func memoryPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := newMemoryListener()
	done := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		done <- c
	}()
	client, err := l.DialContext(t.Context(), "tcp", "")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	_, err = l.DialContext(t.Context(), "tcp", "")
	require.Error(t, err)
	return client, <-done
}

func TestMemoryConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPair(t)
		defer a.Close()
		defer b.Close()
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Minute)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout())
		require.Equal(t, time.Minute, time.Since(start))
		require.NoError(t, a.SetDeadline(time.Time{}))
		go func() { _, _ = b.Write([]byte("x")) }()
		_, err = a.Read(make([]byte, 1))
		require.NoError(t, err)

		require.NoError(t, b.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := b.Write(make([]byte, 2*memoryBuffer))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, memoryBuffer, n)
	})
}

func TestMemoryConnIsDurablyBlocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memoryPair(t)
		go func() {
			time.Sleep(time.Hour)
			b.Close()
		}()
		start := time.Now()
		_, err := a.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.Equal(t, time.Hour, time.Since(start))
		_, err = a.Write([]byte("x"))
		require.Error(t, err)
		a.Close()
		_, err = a.Read(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		require.Error(t, a.SetReadDeadline(time.Now()))
	})
}

func TestMemoryConnCarriesMoreThanItsBuffer(t *testing.T) {
	a, b := memoryPair(t)
	want := make([]byte, 3*memoryBuffer)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	go func() {
		_, _ = a.Write(want)
		a.Close()
	}()
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.True(t, string(want) == string(got))
	b.Close()
}

// A thousand calls over ten minutes, with queues, pauses, cuts and a limit.
func TestManyCallsInABubble(t *testing.T) {
	start := time.Now()
	pro := Account{Keys: []string{testKey}, Limits: map[string]int{"deepseek-flash": 400}}
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Timeline(Phase{From: 4 * time.Minute, To: 5 * time.Minute, Reply: ServiceUnavailable(), Probability: 0.5})
		rng := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		for range 1000 {
			at := time.Duration(rng.Int64N(int64(9 * time.Minute)))
			wg.Go(func() {
				time.Sleep(at)
				r := post(t, s, c, "/chat/completions", chatRequest(streaming))
				require.NoError(t, r.err)
			})
		}
		began := time.Now()
		wg.Wait()
		require.Greater(t, time.Since(began), 9*time.Minute)
		require.Equal(t, 1000, s.Count(200)+s.Count(429)+s.Count(503))
		require.Greater(t, s.Count(200), 900)
		require.Greater(t, s.MaxInFlight(testKey, "deepseek-flash"), 20)
		require.Zero(t, s.InFlight(testKey, ""))
	}, WithAccount(pro), WithAnswerLength(20, 40),
		WithPace(Pace{Headers: 100 * time.Millisecond, Queue: 10 * time.Second, KeepAlive: 5 * time.Second, FirstToken: time.Second, Token: 200 * time.Millisecond, Jitter: 0.3}))
	t.Logf("took %v", time.Since(start))
}
