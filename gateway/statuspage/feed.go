package statuspage

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// What viewers get, and how often. A viewer who has not taken what it was sent
// after patience is let go; it comes again by itself.
const (
	every    = time.Second
	patience = 10 * time.Second
	busyFor  = "15000" // milliseconds until one who found no place comes again
)

// feed makes what viewers are sent: once for all of them, and only while there
// are any. There is nobody who sends it: each viewer comes for it.
type feed struct {
	mu      sync.Mutex
	viewers int    // guarded by mu
	last    *frame // guarded by mu
}

// frame is the page at one moment, and what has changed since the frame before.
type frame struct {
	*snapshot
	before int64  // second of the frame that change follows on
	change []byte // nil: there is none before
	full   func() []byte
}

// since is what brings a viewer up to date who has seen a second; 0: nothing yet.
func (f *frame) since(second int64) []byte {
	if second == f.before && f.change != nil {
		return f.change
	}
	return f.full()
}

// enter takes a place among the viewers.
func (f *feed) enter(most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers >= most {
		return false
	}
	f.viewers++
	return true
}

func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers--; f.viewers == 0 {
		f.last = nil
	}
}

// frame returns the page as of this second. Who comes a moment late gets that of
// the next; only a clock that was set back begins anew.
func (p *Page) frame(now time.Time) *frame {
	f := &p.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && now.Unix() < f.last.second-setBack {
		f.last = nil
	}
	if f.last == nil || f.last.second < now.Unix() {
		f.last = newFrame(p.snapshot(now, f.viewers), f.last)
	}
	return f.last
}

// setBack is by how many seconds a clock must be behind to have been set back.
const setBack = 5

func newFrame(s *snapshot, last *frame) *frame {
	f := &frame{snapshot: s, full: sync.OnceValue(func() []byte { return event(s) })}
	if last != nil {
		f.before, f.change = last.second, event(s.after(last.snapshot))
	}
	return f
}

// event is a snapshot as an event of a stream.
func event(s *snapshot) []byte {
	var b bytes.Buffer
	b.WriteString("data: ")
	// Nothing in it can fail to be encoded; the line end is the encoder's.
	_ = json.NewEncoder(&b).Encode(s)
	b.WriteByte('\n')
	return slices.Clip(b.Bytes())
}

// events serves a viewer its stream.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // nginx
	if r.Method == http.MethodHead {
		return
	}
	if !p.feed.enter(p.settings.Viewers) {
		// Not a status: an EventSource would give up without telling which.
		_, _ = w.Write([]byte("retry: " + busyFor + "\nevent: busy\ndata: {}\n\n"))
		return
	}
	defer p.feed.leave()
	rc := http.NewResponseController(w)
	next := time.NewTimer(0)
	defer next.Stop()
	send := func(text []byte) bool {
		if rc.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return false
		}
		_, err := w.Write(text)
		return err == nil && rc.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	for seen := int64(0); ; {
		select {
		case <-next.C:
		case <-p.closed:
			return
		case <-r.Context().Done():
			return
		}
		now := time.Now()
		next.Reset(now.Truncate(every).Add(every).Sub(now))
		if f := p.frame(now); f.second != seen {
			if !send(f.since(seen)) {
				return
			}
			seen = f.second
		}
	}
}
