package sse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

type got struct{ name, data, raw string }

// readAll returns copies of all events; a nil Data shows as "<none>".
func readAll(r *Reader) ([]got, error) {
	var all []got
	for {
		e, err := r.Next()
		if err != nil {
			return all, err
		}
		all = append(all, copied(e))
	}
}

// readEager is readAll by way of Buffered, wherever that has an event.
func readEager(r *Reader) ([]got, error) {
	var all []got
	for {
		e, ready := r.Buffered()
		if !ready {
			var err error
			if e, err = r.Next(); err != nil {
				return all, err
			}
		}
		all = append(all, copied(e))
	}
}

func copied(e Event) got {
	g := got{string(e.Name), string(e.Data), string(e.Raw)}
	if e.Data == nil {
		g.data = "<none>"
	}
	return g
}

func TestNextReadsWhatServersSend(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []got
	}{
		{"nothing", "", nil},
		{"LF", "data: a\n\ndata: b\n\n", []got{{"", "a", "data: a\n\n"}, {"", "b", "data: b\n\n"}}},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []got{{"", "a", "data: a\r\n\r\n"}, {"", "b", "data: b\r\n\r\n"}}},
		{"CR", "data: a\r\rdata: b\r\r", []got{{"", "a", "data: a\r\r"}, {"", "b", "data: b\r\r"}}},
		{"mixed ends", "data: a\r\n\ndata: b\r\r\ndata: c\n\r", []got{{"", "a", "data: a\r\n\n"}, {"", "b", "data: b\r\r\n"}, {"", "c", "data: c\n\r"}}},
		{"byte order mark", "\ufeffdata: a\n\n", []got{{"", "a", "data: a\n\n"}}},
		{"no space after the colon", "data:x\n\ndata:  y\n\n", []got{{"", "x", "data:x\n\n"}, {"", " y", "data:  y\n\n"}}},
		{"several data lines", "data: a\ndata\ndata: b\n\n", []got{{"", "a\n\nb", "data: a\ndata\ndata: b\n\n"}}},
		{"name, id, retry", "event: x\nid: 1\nretry: 5\ndata: a\n\n", []got{{"x", "a", "event: x\nid: 1\nretry: 5\ndata: a\n\n"}}},
		{"empty data", "data:\n\n", []got{{"", "", "data:\n\n"}}},
		{"comments and blank lines between", "\n\n: keep-alive\n\n:\ndata: a\n\n\n\n", []got{{"", "a", "data: a\n\n"}}},
		{"comment inside", "event: x\n: c\ndata: a\n: d\n\n", []got{{"x", "a", "event: x\ndata: a\n\n"}}},
		{"block without data", "retry: 3000\n\ndata: a\n\n", []got{{"", "a", "data: a\n\n"}}},
		{"unknown field", "datax: 1\nfoo\ndata: a\n\n", []got{{"", "a", "datax: 1\nfoo\ndata: a\n\n"}}},
		{"end without blank line", "data: a\n", []got{{"", "a", "data: a\n\n"}}},
		{"end without newline: done", "data: [DONE]", []got{{"", "[DONE]", "data: [DONE]\n\n"}}},
		{"end without newline: JSON", `data: {"a":1}`, []got{{"", `{"a":1}`, "data: {\"a\":1}\n\n"}}},
		{"end after CR", "data: a\r", []got{{"", "a", "data: a\r\n\n"}}},
		{"end inside a comment", "data: a\n\n: keep", []got{{"", "a", "data: a\n\n"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			events, err := readAll(NewReader(strings.NewReader(c.in), 0))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, c.want, events)

			events, err = readAll(NewReader(iotest.OneByteReader(strings.NewReader(c.in)), 0))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, dataOf(c.want), dataOf(events), "byte by byte")
		})
	}
}

func dataOf(all []got) (data []string) {
	for _, g := range all {
		data = append(data, g.name+":"+g.data)
	}
	return data
}

func TestEndInsideAnEventIsUnexpected(t *testing.T) {
	for _, in := range []string{`data: {"a":`, "data: [DON", "dat", "event: x\n", "event: x", "data: 12", "data: a\ndata: b", "data: {}\ndata: x"} {
		events, err := readAll(NewReader(strings.NewReader("data: first\n\n"+in), 0))
		require.Equal(t, io.ErrUnexpectedEOF, err, in)
		require.Len(t, events, 1, in)
	}
}

func TestKeepCommentsReturnsEveryByte(t *testing.T) {
	in := ": a\n\n: b\nevent: x\n: inside\ndata: 1\n\nretry: 5\n\n\r\n:c\r\ndata: 2\r\n\r\n"
	r := NewReader(strings.NewReader(in), 0)
	r.KeepComments(true)
	events, err := readAll(r)
	require.Equal(t, io.EOF, err)
	require.Equal(t, []got{
		{"", "<none>", ": a\n"}, {"", "<none>", "\n"}, {"", "<none>", ": b\n"},
		{"x", "1", "event: x\n: inside\ndata: 1\n\n"}, {"", "<none>", "retry: 5\n\n"}, {"", "<none>", "\r\n"},
		{"", "<none>", ":c\r\n"}, {"", "2", "data: 2\r\n\r\n"},
	}, events)
}

func TestEventsBeforeAnErrorAreDelivered(t *testing.T) {
	boom := errors.New("reset by peer")
	for _, tail := range []string{"", "data: b", "data: b\n", "data: {}", "data: [DONE]\n"} {
		events, err := readAll(NewReader(io.MultiReader(strings.NewReader("data: a\n\n"+tail), iotest.ErrReader(boom)), 0))
		require.Equal(t, boom, err, tail)
		require.Equal(t, []string{":a"}, dataOf(events), tail)
	}
	r := NewReader(iotest.DataErrReader(io.MultiReader(strings.NewReader("data: a\n\n"), iotest.ErrReader(boom))), 0)
	events, err := readAll(r)
	require.Equal(t, boom, err)
	require.Len(t, events, 1)
	_, err = r.Next()
	require.Equal(t, boom, err, "errors are final")
}

// pieces is a source that blocks forever, that is fails the test, when it is
// read beyond what has been sent.
type pieces struct {
	t    *testing.T
	left []string
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		p.t.Fatal("would block for more than was needed")
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; p.left[0] == "" {
		p.left = p.left[1:]
	}
	return n, nil
}

func TestEventIsReturnedAsSoonAsItsBlankLineCame(t *testing.T) {
	p := &pieces{t: t}
	r := NewReader(p, 0)
	for i, in := range []string{"data: 0\n\n", "data: 1\r\n\r", "\ndata: 2\r\r", "data: 3\r\n\r\n", ": ka\r\n\r\ndata: 4\n\n"} {
		p.left = append(p.left, in)
		e, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(e.Data))
	}
}

func TestBufferedDoesNotRead(t *testing.T) {
	r := NewReader(&pieces{t, []string{"data: a\n\ndata: b\n\n: c\n\ndata: c", "\n\ndata: d\n\n"}}, 0)
	_, ready := r.Buffered()
	require.False(t, ready, "nothing has been read")
	e, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "a", string(e.Data))
	e, ready = r.Buffered()
	require.True(t, ready)
	require.Equal(t, "b", string(e.Data))
	for range 2 {
		_, ready = r.Buffered()
		require.False(t, ready, "a part of the next one has come")
	}
	e, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, "data: c\n\n", string(e.Raw))
	e, err = r.Next()
	require.NoError(t, err)
	require.Equal(t, "d", string(e.Data))
}

func TestLateLFReachesTheNextRaw(t *testing.T) {
	for _, comment := range []string{"", ": ka\r\n\r\n"} {
		r := NewReader(&pieces{t: t, left: []string{"data: 1\r\n\r", "\n" + comment + "data: 2\r\n\r\n"}}, 0)
		one, err := r.Next()
		require.NoError(t, err)
		raw := string(one.Raw)
		two, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, "data: 1\r\n\r\ndata: 2\r\n\r\n", raw+string(two.Raw))
	}
}

func TestTooLongAnEventIsAClearError(t *testing.T) {
	line := "data: " + strings.Repeat("x", 100_000) + "\n"
	events, err := readAll(NewReader(strings.NewReader("data: a\n\n"+line+"\n"), 100_000))
	require.ErrorIs(t, err, ErrEventTooLong)
	require.ErrorContains(t, err, "more than 100000 bytes")
	require.Len(t, events, 1)

	_, err = readAll(NewReader(strings.NewReader(strings.Repeat(line, 20)), 1_000_000))
	require.ErrorIs(t, err, ErrEventTooLong)

	events, err = readAll(NewReader(strings.NewReader(line+"\n"+line+"\n"), len(line)+1))
	require.Equal(t, io.EOF, err)
	require.Len(t, events, 2)

	events, err = readAll(NewReader(strings.NewReader(strings.Repeat(": keep-alive\n\n", 10_000)+"data: a\n\n"), 100))
	require.Equal(t, io.EOF, err, "comments between events do not add up")
	require.Len(t, events, 1)
}

func TestReaderOfNothingDoesNotSpin(t *testing.T) {
	_, err := NewReader(readerFunc(func([]byte) (int, error) { return 0, nil }), 0).Next()
	require.Equal(t, io.ErrNoProgress, err)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestBufferOfAHugeEventIsGivenUp(t *testing.T) {
	in := "data: " + strings.Repeat("x", 1<<20) + "\n\n"
	r := NewReader(&pieces{t: t, left: []string{in, "data: a\n\n"}}, 0)
	_, err := r.Next()
	require.NoError(t, err)
	require.Greater(t, len(r.buf), 1<<20)
	_, err = r.Next()
	require.NoError(t, err)
	require.Len(t, r.buf, startBuffer)
}

// chunked gives what in holds in pieces of the sizes in cuts, over and over.
func chunked(in, cuts []byte) io.Reader {
	i := 0
	return readerFunc(func(b []byte) (int, error) {
		if len(in) == 0 {
			return 0, io.EOF
		}
		n := len(in)
		if len(cuts) > 0 {
			n = min(n, int(cuts[i%len(cuts)])%17+1)
			i++
		}
		n = copy(b, in[:n])
		in = in[n:]
		return n, nil
	})
}

// reference is the specification's algorithm on the whole input at once.
func reference(in string) (all []string) {
	in = strings.TrimPrefix(in, "\ufeff")
	in = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(in)
	lines := strings.Split(in, "\n")
	var data []string
	name := ""
	for _, line := range lines[:len(lines)-1] {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				all = append(all, name+":"+strings.Join(data, "\n"))
			}
			data, name = nil, ""
		case field == "data":
			data = append(data, value)
		case field == "event":
			name = value
		}
	}
	return all
}

func FuzzReader(f *testing.F) {
	for _, in := range []string{"data: a\n\n", "\ufeffevent: x\r\ndata: {}\r\n\r\n: c\r\r\ndata: [DONE]", "data\r\r\n: x\r\n:y\rdata: 1\n: z\r\n\r\n", "data: a\n: c\r"} {
		f.Add([]byte(in), []byte{0, 3, 1})
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		events, err := readAll(NewReader(bytes.NewReader(in), 0))
		again, err2 := readAll(NewReader(chunked(in, cuts), 0))
		require.Equal(t, err, err2)
		require.Equal(t, dataOf(events), dataOf(again))
		eager, err5 := readEager(NewReader(chunked(in, cuts), 0))
		require.Equal(t, err2, err5)
		require.Equal(t, again, eager)
		want := reference(string(in))
		require.LessOrEqual(t, len(events), len(want)+1, "at most the one that the input ends in")
		require.GreaterOrEqual(t, len(events), len(want))
		require.Equal(t, want, dataOf(events[:len(want)]))
		// What was handed out raw reads as the same events.
		var raw, kept strings.Builder
		for _, e := range again {
			raw.WriteString(e.raw)
		}
		if bytes.HasPrefix([]byte(raw.String()), []byte("\ufeff")) {
			return
		}
		third, err3 := readAll(NewReader(strings.NewReader(raw.String()), 0))
		require.Equal(t, io.EOF, err3)
		require.Equal(t, dataOf(again), dataOf(third))

		r := NewReader(chunked(in, cuts), 0)
		r.KeepComments(true)
		keptEvents, err4 := readAll(r)
		for _, e := range keptEvents {
			kept.WriteString(e.raw)
		}
		if err4 == io.EOF && bytes.HasSuffix(in, []byte("\n\n")) {
			require.Equal(t, string(bytes.TrimPrefix(in, []byte("\ufeff"))), kept.String())
		}
	})
}

func BenchmarkNext(b *testing.B) {
	event := []byte("data: {\"id\":\"daca7221-40a7-4917-aefe-4528b88c1a45\",\"object\":\"chat.completion.chunk\",\"created\":1784697182,\"model\":\"deepseek-flash\",\"system_fingerprint\":\"8b330d02d0\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" the\",\"reasoning_content\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n")
	stream := bytes.Repeat(event, 1000)
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	src := bytes.NewReader(stream)
	r := NewReader(src, 0)
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			src.Reset(stream)
			r.err = nil
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	stream := strings.Repeat(": c\n\nevent: x\ndata: {\"a\":1}\n\n", 2000)
	r := NewReader(strings.NewReader(stream), 0)
	_, err := r.Next()
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = r.Next() }))
}
