package deepseek

import (
	"bytes"
	"io"
	"net/http"
	"time"
)

// settleFor is how long the body of a failed response is waited for: the status has
// said what matters.
const settleFor = 10 * time.Second

// settle makes a failed response independent of its connection: what is small
// is read into memory, so that it can be handed out later while connection and
// permits already serve others. What is not small stays as it is; what does not
// come is cut off.
func settle(resp *http.Response) {
	if _, ok := resp.Body.(*memBody); ok {
		return
	}
	v, body := judge(resp, nil), resp.Body
	if data, long, _ := readError(body, body); long {
		resp.Body = &longBody{io.MultiReader(bytes.NewReader(data), body), body, data}
	} else {
		resp.Body = newMemBody(data, v)
	}
}

// readError reads the body of a failed response from r, and closes it, unless it is
// long: more is to come then than is kept. What does not come in time is done without;
// half an error body still tells more than none.
func readError(r io.Reader, body io.Closer) (data []byte, long bool, err error) {
	late := time.AfterFunc(settleFor, func() { _ = body.Close() }) // which wakes the read
	data, err = io.ReadAll(io.LimitReader(r, maxErrorBody+1))
	inTime := late.Stop()
	if err == nil && len(data) > maxErrorBody && inTime {
		return data, true, nil
	}
	if inTime {
		_ = body.Close()
	}
	return data, false, err
}

// longBody is the body of a failed response that is not small.
type longBody struct {
	io.Reader
	io.Closer
	head []byte // its beginning
}

// letGo frees the connection and permits of a settled response before others
// are tried. Of a long one only the beginning is left.
func letGo(resp *http.Response) {
	b, ok := resp.Body.(*longBody)
	if !ok {
		return
	}
	_ = b.Close()
	resp.Body = newMemBody(b.head, judgeStatus(resp))
	resp.ContentLength = int64(len(b.head))
	resp.Header.Del("Content-Length")
}

// discard gives back a response that nobody will read. It is drained first,
// for the connection's sake, only if that is sure to be short, in bytes and in
// time.
func discard(resp *http.Response) {
	if resp == nil {
		return
	}
	body := resp.Body
	_, inMemory := body.(*memBody)
	if inMemory || resp.ContentLength < 0 || resp.ContentLength > 16<<10 || isEventStream(resp.Header) {
		_ = body.Close()
		return
	}
	late := time.AfterFunc(drainFor, func() { _ = body.Close() })
	_, _ = io.CopyN(io.Discard, body, resp.ContentLength)
	if late.Stop() {
		_ = body.Close()
	}
}
