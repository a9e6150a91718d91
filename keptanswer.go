package deepseek

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/seawall-go/deepseek/internal/jsonscan"
	"github.com/seawall-go/deepseek/internal/sse"
)

// keptAnswer is a complete answer as the response cache keeps it.
type keptAnswer struct {
	stream      bool
	at          time.Time // when it was complete, to the second
	contentType string
	trace       string // X-Ds-Trace-Id
	prompt      int    // tokens
	completion  int
	amount      Money // what it had cost
	currency    string
	lengths     []byte // of a stream's events, as varints
	body        []byte
}

// keptMagic begins every value; its last byte is the version of the form. It
// is followed by a checksum of the rest, because a store may be anybody's.
const keptMagic = "swc\x01"

const keptHead = len(keptMagic) + 4

// encode returns the answer as a store's value.
func (k *keptAnswer) encode() []byte {
	b := make([]byte, keptHead, keptHead+len(k.body)+len(k.lengths)+len(k.contentType)+len(k.trace)+64)
	var flags byte
	if k.stream {
		flags = 1
	}
	b = append(b, flags)
	for _, n := range []int64{k.at.Unix(), int64(k.prompt), int64(k.completion), int64(k.amount)} {
		b = binary.AppendUvarint(b, uint64(max(n, 0)))
	}
	for _, s := range []string{k.contentType, k.trace, k.currency} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = append(binary.AppendUvarint(b, uint64(len(k.lengths))), k.lengths...)
	b = append(b, k.body...)
	sealKept(b)
	return b
}

// sealKept writes the head of a value.
func sealKept(b []byte) {
	copy(b, keptMagic)
	binary.BigEndian.PutUint32(b[len(keptMagic):], crc32.Checksum(b[keptHead:], castagnoli))
}

var errKept = errors.New("deepseek: a value of the response cache's store is not what was stored")

// readKept reads a value of a store. The answer's body and lengths are slices
// of it.
func readKept(value []byte) (*keptAnswer, error) {
	if len(value) < keptHead+1 || string(value[:len(keptMagic)]) != keptMagic ||
		binary.BigEndian.Uint32(value[len(keptMagic):]) != crc32.Checksum(value[keptHead:], castagnoli) {
		return nil, errKept
	}
	r := keptReader{rest: value[keptHead+1:]}
	k := &keptAnswer{stream: value[keptHead] == 1}
	k.at = time.Unix(r.number(), 0)
	k.prompt, k.completion, k.amount = int(r.number()), int(r.number()), Money(r.number())
	k.contentType, k.trace, k.currency = r.text(), r.text(), r.text()
	k.lengths = r.bytes()
	k.body = r.rest
	if r.bad || !k.whole() {
		return nil, errKept
	}
	return k, nil
}

// whole reports whether the lengths are those of the body's events.
func (k *keptAnswer) whole() bool {
	if !k.stream {
		return len(k.lengths) == 0
	}
	left := uint64(len(k.body))
	for rest := k.lengths; len(rest) > 0; {
		n, size := binary.Uvarint(rest)
		if size <= 0 || n == 0 || n > left {
			return false
		}
		left, rest = left-n, rest[size:]
	}
	return left == 0
}

// keptReader takes a value apart.
type keptReader struct {
	rest []byte
	bad  bool
}

func (r *keptReader) number() int64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > 1<<62 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return int64(n)
}

func (r *keptReader) bytes() []byte {
	n := r.number()
	if n > int64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// text reads what goes into a header.
func (r *keptReader) text() string {
	b := r.bytes()
	if slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c > '~' }) {
		r.bad = true
	}
	return string(b)
}

// response is the answer, once more.
func (k *keptAnswer) response(req *http.Request) *http.Response {
	age := max(0, int64(time.Since(k.at)/time.Second))
	resp := &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {k.contentType}, "Age": {strconv.FormatInt(age, 10)}},
		ContentLength: int64(len(k.body)), Request: req,
	}
	if k.trace != "" {
		resp.Header["X-Ds-Trace-Id"] = []string{k.trace}
	}
	if k.stream {
		resp.ContentLength = -1
		resp.Body = &keptStream{lengths: k.lengths, rest: k.body}
	} else {
		resp.Header["Content-Length"] = []string{strconv.Itoa(len(k.body))}
		resp.Body = newMemBody(k.body, verdict{})
	}
	return resp
}

// keptStream is a kept answer read as a stream: a read returns no more than one event. For permits
// and observers, it has ended.
type keptStream struct {
	lengths []byte // of the events to come
	event   []byte // what is left of the one being read
	rest    []byte // after it
}

func (r *keptStream) Read(p []byte) (int, error) {
	if len(r.event) == 0 {
		if len(r.lengths) == 0 {
			return 0, io.EOF
		}
		n, size := binary.Uvarint(r.lengths)
		r.lengths = r.lengths[size:]
		r.event, r.rest = r.rest[:n], r.rest[n:]
	}
	n := copy(p, r.event)
	r.event = r.event[n:]
	return n, nil
}

func (r *keptStream) Close() error              { return nil }
func (r *keptStream) soFar() verdict            { return verdict{} }
func (r *keptStream) onEnd(c *call, f finisher) { f.finish(c, verdict{}) }

// events cuts a stream into its events and leaves out what is none: comments, and
// the blank lines after them. It is false if that cannot be done, or an event says that
// this is no answer.
func (k *keptAnswer) events(log []byte) bool {
	k.body = make([]byte, 0, len(log))
	failed := false // if the last of them says so, in the format of /responses
	for r := sse.NewReader(bytes.NewReader(log), maxEvent); ; {
		event, err := r.Next()
		if err != nil {
			return err == io.EOF && !failed
		}
		if string(event.Data) != sse.Done && (!jsonscan.Whole(event.Data) || isBrokenOff(event.Data)) {
			return false // its readers were told that it broke
		}
		failed = bytes.Contains(event.Raw, []byte(`"response.failed"`))
		k.body = append(k.body, event.Raw...)
		k.lengths = binary.AppendUvarint(k.lengths, uint64(len(event.Raw)))
	}
}

// tellsFailure reports whether a body that is no stream tells that it is no answer: in
// the format of /responses by its error, in that of Anthropic by its stop_reason.
func tellsFailure(body []byte) bool {
	if reason, ok := jsonscan.Get(body, "stop_reason"); ok && isFinishReasonFault(reason) {
		return true
	}
	v, ok := jsonscan.Get(body, "error")
	return ok && !jsonscan.IsNull(v)
}

// isBrokenOff reports whether an event says, in the Anthropic format, that the server
// did not finish.
func isBrokenOff(event []byte) bool {
	if !bytes.Contains(event, []byte(`"stop_reason"`)) {
		return false
	}
	delta, _ := jsonscan.Get(event, "delta")
	reason, ok := jsonscan.Get(delta, "stop_reason")
	return ok && isFinishReasonFault(reason)
}

var (
	_ ender  = (*keptStream)(nil)
	_ judged = (*keptStream)(nil)
)
