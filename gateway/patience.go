package gateway

import (
	"net/http"
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
}

// patiently is w with patience for its client, if it needs it.
func patiently(w http.ResponseWriter, r *http.Request, patience time.Duration) http.ResponseWriter {
	if patience <= 0 || r.ProtoMajor < 2 {
		return w
	}
	return &patientWriter{ResponseWriter: w, rc: http.NewResponseController(w), patience: patience}
}

// Unwrap is for [http.ResponseController].
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// await sets the time by which the client must have taken a piece; stop ends it.
func (w *patientWriter) await() (stop func() bool) {
	if w.late == nil {
		w.late = time.AfterFunc(w.patience, func() { _ = w.rc.SetWriteDeadline(time.Unix(1, 0)) })
	} else {
		w.late.Reset(w.patience)
	}
	return w.late.Stop
}

// mostAtOnce is how much must be taken within the client's time.
const mostAtOnce = 64 << 10

func (w *patientWriter) Write(p []byte) (n int, err error) {
	for {
		stop := w.await()
		m, err := w.ResponseWriter.Write(p[:min(len(p), mostAtOnce)])
		stop()
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// FlushError is for [http.ResponseController].
func (w *patientWriter) FlushError() error {
	defer w.await()()
	return w.rc.Flush()
}
