package gateway

import (
	"net/http"
	"sync"
	"time"
)

// patientWriter is a way back to a client of HTTP/2 that must take what it is sent.
// The connection's deadlines do not see one that opens no window for its stream:
// then nothing is written at all. net/http's own deadline of a stream ends it
// whether or not anything is to be written, so it is used to end it only.
type patientWriter struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration
	late     *time.Timer // set while the client is waited for; nil: it never was

	mu      sync.Mutex
	waiting bool // for the client; guarded by mu
}

// patiently is w with patience for its client, if it needs it. done is to be called
// when all is written: what is left in a buffer then would be waited for by net/http,
// for ever.
func patiently(w http.ResponseWriter, r *http.Request, patience time.Duration) (_ http.ResponseWriter, done func()) {
	if patience <= 0 || r.ProtoMajor < 2 {
		return w, func() {}
	}
	p := &patientWriter{ResponseWriter: w, rc: http.NewResponseController(w), patience: patience}
	return p, func() { _ = p.FlushError() }
}

// Unwrap is for [http.ResponseController].
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// await sets the time by which the client must have taken a piece; taken ends it.
func (w *patientWriter) await() {
	w.mu.Lock()
	w.waiting = true
	w.mu.Unlock()
	if w.late == nil {
		w.late = time.AfterFunc(w.patience, w.end)
	} else {
		w.late.Reset(w.patience)
	}
}

func (w *patientWriter) taken() {
	w.late.Stop()
	w.mu.Lock()
	w.waiting = false
	w.mu.Unlock()
}

// end ends the stream, if the client is waited for still: once the handler has
// returned, the writer is no longer its own.
func (w *patientWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting {
		_ = w.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

// mostAtOnce is how much must be taken within the client's time.
const mostAtOnce = 64 << 10

func (w *patientWriter) Write(p []byte) (n int, err error) {
	for {
		w.await()
		m, err := w.ResponseWriter.Write(p[:min(len(p), mostAtOnce)])
		w.taken()
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// FlushError is for [http.ResponseController].
func (w *patientWriter) FlushError() error {
	w.await()
	defer w.taken()
	return w.rc.Flush()
}
