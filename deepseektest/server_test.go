package deepseektest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPanicsOfTheTestsOwnFunctionsArePrinted(t *testing.T) {
	var printed bytes.Buffer
	usual := log.Writer()
	log.SetOutput(&printed)
	defer log.SetOutput(usual)
	bubble(t, func(t *testing.T, s *Server, c *http.Client) {
		s.Enqueue(Say("x").And(DropAfter(1)), Hang()) // broken on purpose: nothing to tell
		require.Error(t, post(t, s, c, "/chat/completions", chatRequest()).err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.Error(t, send(c, newRequest(t, s, "/chat/completions", chatRequest()).WithContext(ctx)).err)
		synctest.Wait()
		require.Empty(t, printed.String())

		require.ErrorIs(t, post(t, s, c, "/chat/completions", chatRequest()).err, io.EOF)
		synctest.Wait()
		require.Contains(t, printed.String(), "deepseektest: panic serving POST /chat/completions: no answer")
		require.Contains(t, printed.String(), "TestPanicsOfTheTestsOwnFunctionsArePrinted")
		require.Zero(t, s.InFlight(testKey, ""))

		s.Handle(func(r *Request) *Reply { panic("no reply to " + r.Path) })
		require.ErrorIs(t, get(t, s, c, "/models").err, io.EOF)
		synctest.Wait()
		require.Contains(t, printed.String(), "no reply to /models")
	}, WithAnswer(func(*Request) Answer { panic("no answer") }))
}

func TestMalformedChunksAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, s *Server, _ *http.Client) {
		sent := func(body string) net.Conn {
			conn, err := s.Transport().DialContext(t.Context(), "tcp", "fake.test:80")
			require.NoError(t, err)
			_, err = io.WriteString(conn, "POST /chat/completions HTTP/1.1\r\nHost: fake.test\r\nAuthorization: Bearer k\r\n"+
				"Transfer-Encoding: chunked\r\n\r\n"+body)
			require.NoError(t, err)
			return conn
		}
		conn := sent("xyz\r\n{}\r\n0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		conn.Close()
		require.Equal(t, 400, resp.StatusCode)
		require.Equal(t, "Bad Request", result{body: body}.errorText(t))

		sent("5\r\n{").Close() // no fault of the form: the client has left
		synctest.Wait()
		require.Equal(t, 1, s.Count(400))
		require.Equal(t, 1, s.Count(0))
	})
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
