package statuspage_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway/statuspage"
)

// All viewers get the same, once a second, and what they put together from the
// changes is what one sees who comes later.
func TestViewersShareOneSnapshot(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		require.True(b, b.page.Idle(), "nobody watches")
		first, second := b.watch(), b.watch()
		require.True(b, first.next().Full)
		require.True(b, second.next().Full)
		calls := 0
		points := int64(0)
		for i := range 10 {
			b.ask(flash)
			m := first.next()
			require.False(b, m.Full)
			require.Equal(b, m, second.next())
			require.Equal(b, string(first.last), string(second.last))
			require.Zero(b, m.Now%1000/100, "on the second")
			calls += len(m.Calls)
			points += int64(len(m.Series.Points))
			require.Len(b, m.Series.Points, 1, i)
			require.Equal(b, m.Now/1000-1, m.Series.From)
		}
		require.Equal(b, 10, calls)
		late := b.now()
		require.Len(b, late.Calls, 10)
		sum := int64(0)
		for _, p := range late.Series.Points {
			sum += p[0]
		}
		require.EqualValues(b, 10, sum)
		require.EqualValues(b, 10, points)
		require.Equal(b, late.Now/1000, late.Series.From+int64(len(late.Series.Points)))

		require.NoError(b, first.body.Close())
		require.NoError(b, second.body.Close())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(b, b.page.Idle(), "nobody watches any more")
	})
}

// What has not changed is not sent again.
func TestChanges(t *testing.T) {
	setup{accounts: []deepseek.Account{{Name: "a", Keys: []string{keyA}}, {Name: "b", Keys: []string{keyB}}}}.run(t, func(b *bench) {
		w := b.watch()
		require.Len(b, w.next().Accounts, 2)
		m := w.next()
		require.Empty(b, m.Accounts)
		require.Empty(b, m.Calls)
		b.ask(flash)
		require.Len(b, w.next().Accounts, 2, "each has a place for the model now")
		b.ask(flash)
		m = w.next()
		require.Len(b, m.Accounts, 1, "one has answered")
		require.Len(b, m.Calls, 1)
		require.NoError(b, b.g.Transport().Pool().Remove("a"))
		require.Equal(b, []string{"a"}, w.next().Gone)
		require.Len(b, b.now().Accounts, 1)
		require.NoError(b, w.body.Close())
	})
}

func TestTooManyViewers(t *testing.T) {
	setup{page: statuspage.Settings{Viewers: 2}}.run(t, func(b *bench) {
		first, second := b.watch(), b.watch()
		first.next()
		second.next()
		require.Equal(b, 2, second.next().About.Viewers)
		third := b.watch()
		text, err := io.ReadAll(third.body)
		require.NoError(b, err, "it ends")
		require.Contains(b, string(text), "retry: 15000\n")
		require.Contains(b, string(text), "event: busy\n")
		require.NoError(b, first.body.Close())
		time.Sleep(2 * time.Second)
		fourth := b.watch()
		require.True(b, fourth.next().Full)
		require.NoError(b, fourth.body.Close())
		require.NoError(b, second.body.Close())
	})
}

// A viewer that takes nothing is let go, and is no burden to others.
func TestSlowViewer(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		slow, quick := b.watch(), b.watch()
		deadline := time.Now().Add(30 * time.Minute)
		for b.page.Viewers() == 2 && time.Now().Before(deadline) {
			before := time.Now()
			for range 20 {
				b.ask(flash) // more to tell
			}
			quick.next()
			require.LessOrEqual(b, time.Since(before), 2*time.Second)
		}
		require.Equal(b, 1, b.page.Viewers(), "the slow one is gone")
		require.NoError(b, slow.body.Close())
		require.NoError(b, quick.body.Close())
	})
}

// One that missed a second is brought up to date with all of it.
func TestLateViewer(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		quick := b.watch()
		quick.next()
		var mu sync.Mutex
		w := &pausing{gate: &mu, header: http.Header{}}
		req, err := http.NewRequest(http.MethodGet, b.pageURL+"/events", nil)
		require.NoError(b, err)
		req.RemoteAddr = "127.0.0.1:1"
		ended := make(chan struct{})
		go func() { b.page.ServeHTTP(w, req); close(ended) }()
		quick.next()
		quick.next()
		w.hold(3 * time.Second)
		for range 6 {
			quick.next()
		}
		require.NoError(b, quick.body.Close())
		b.page.Close()
		<-ended
		require.Equal(b, 2, strings.Count(w.text.String(), `"full":true`), "at first, and after the pause")
	})
}

// pausing is a viewer that does not always read.
type pausing struct {
	header http.Header
	text   strings.Builder
	gate   *sync.Mutex
	until  time.Time
}

func (w *pausing) hold(d time.Duration) {
	w.gate.Lock()
	w.until = time.Now().Add(d)
	w.gate.Unlock()
}

func (w *pausing) Header() http.Header              { return w.header }
func (w *pausing) WriteHeader(int)                  {}
func (w *pausing) Flush()                           {}
func (w *pausing) SetWriteDeadline(time.Time) error { return nil }
func (w *pausing) Write(p []byte) (int, error) {
	w.gate.Lock()
	until := w.until
	w.gate.Unlock()
	time.Sleep(time.Until(until))
	return w.text.Write(p)
}

func TestCloseEndsStreams(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		w := b.watch()
		w.next()
		b.page.Close()
		b.page.Close()
		_, err := io.ReadAll(w.lines)
		require.NoError(b, err)
		synctest.Wait()
		require.Zero(b, b.page.Viewers())
		_, err = io.ReadAll(b.watch().lines)
		require.NoError(b, err, "who comes now is let go at once")
	})
}

// A page without a gateway has nothing to show, and says so.
func TestNothingToWatch(t *testing.T) {
	setup{}.run(t, func(b *bench) {
		b.page.Watch(nil)
		require.Equal(b, "Nothing to show yet", b.now().Outlook.Text)
	})
}
