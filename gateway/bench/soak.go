package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seawall-go/deepseek/deepseektest"
)

// soakSettings are how much the gateway has to bear.
type soakSettings struct {
	length  time.Duration
	clients int
}

// soakConfig has everything on, and times that are short, so that much happens.
const soakConfig = "queue: {max_length: 1000}\nretry: {max_attempts: 4, min_interval: 20ms, max_interval: 200ms}\n" +
	"breaker: {open_for: 200ms, max_open_for: 1s}\ntimeouts: {first_data: 2s, between_data: 500ms, silence: 500ms}\n" +
	"keep_alive: {every: 100ms, whole_after: 300ms}\nresume: on\nhedging: on\ncache: {ttl: 1m, max_bytes: 4MiB}\n"

// faults are what the fake DeepSeek does to a quarter of the requests, beside the
// 429s of its limit, which the gateway has to learn.
var faults = []deepseektest.Reply{
	deepseektest.ServiceUnavailable(), deepseektest.HTML(502), deepseektest.EmptyBody(500), deepseektest.EmptyBody200(),
	deepseektest.APIError(400, "bad"),
	deepseektest.ResetBeforeHeaders(), deepseektest.CloseBeforeHeaders(),
	deepseektest.CutAfter(0), deepseektest.CutAfter(7), deepseektest.CutInsideEvent(5), deepseektest.TruncatedJSON(),
	deepseektest.DropAfter(0), deepseektest.DropAfter(9), deepseektest.StallAfter(6),
	deepseektest.Queued(5, 100*time.Millisecond), deepseektest.QueueTimeout(3, 50*time.Millisecond),
	deepseektest.FinishReason("insufficient_system_resource"), deepseektest.BlankJSON(), deepseektest.NoUsage(),
}

// newFaulty is a fake DeepSeek on a bad day.
func newFaulty() http.Handler {
	s := deepseektest.NewHandler(
		deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}, Limits: map[string]int{"deepseek-flash": 40}}),
		deepseektest.WithPace(deepseektest.Pace{FirstToken: 10 * time.Millisecond, Token: time.Millisecond, Jitter: 0.5}),
		deepseektest.WithAnswerLength(10, 30), deepseektest.WithoutRecords(),
	)
	s.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
		if r.Method != http.MethodPost || rand.IntN(4) > 0 {
			return nil
		}
		return &faults[rand.IntN(len(faults))]
	})
	return s
}

// soak runs the gateway under full load with faults, and looks at what it takes
// meanwhile and what it has left when all is over.
func soak(ctx context.Context, settings soakSettings, out io.Writer) (err error) {
	s := new(servers)
	defer s.stop()
	if s.dir, err = os.MkdirTemp("", "seawall-soak"); err != nil {
		return err
	}
	bin, err := buildGateway(ctx, s.dir)
	if err != nil {
		return err
	}
	address, err := free()
	if err != nil {
		return err
	}
	cmd, err := again(ctx, "faulty", address)
	if err != nil {
		return err
	}
	if s.upstream, err = start("faulty", address, cmd); err != nil {
		return err
	}
	// One that has answered one call and no more is what the other is to be like in
	// the end.
	var fresh, soaked *process
	for _, p := range []**process{&fresh, &soaked} {
		if *p, err = startGateway(ctx, fmt.Sprint("gateway", len(s.measured)), bin, s.dir, address, soakConfig); err != nil {
			return err
		}
		s.measured = append(s.measured, *p)
		first := &soaker{address: (*p).address, client: newClient()}
		for range 20 {
			first.call(ctx, 0)
		}
		first.client.CloseIdleConnections()
	}

	d := &soaker{address: soaked.address, client: newClient()}
	fmt.Fprintf(out, "%v with %d calls at a time, a quarter of which meet a fault or several.\n", settings.length, settings.clients)
	fmt.Fprintf(out, "%8s %10s %8s %8s\n", "", "MiB", "files", "calls")
	loaded, stop := context.WithTimeout(ctx, settings.length)
	defer stop()
	var wg sync.WaitGroup
	for range settings.clients {
		wg.Go(func() {
			for loaded.Err() == nil {
				d.call(loaded, rand.IntN(100))
			}
		})
	}
	var resident []float64
	begun := time.Now()
	every := max(settings.length/40, 100*time.Millisecond)
	for tick := time.NewTicker(every); loaded.Err() == nil; {
		select {
		case <-loaded.Done():
		case <-tick.C:
			u := soaked.usage()
			resident = append(resident, mebibytes(u.resident))
			fmt.Fprintf(out, "%8v %10.1f %8d %8d\n", time.Since(begun).Round(every/10), mebibytes(u.resident), u.files, d.calls.Load())
		}
	}
	wg.Wait()
	d.client.CloseIdleConnections()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(out, "\n%d calls: %d answered whole, %d rejected with a status, %d broke off and said so, %d left by their clients; %d ended in silence.\n",
		d.calls.Load(), d.whole.Load(), d.rejected.Load(), d.broken.Load(), d.left.Load(), d.silent.Load())
	if settings.length < time.Minute {
		resident = nil // it has not come to rest
	}
	return settle(out, d, fresh, soaked, resident)
}

// settle compares what is left of a gateway with what a fresh one has.
func settle(out io.Writer, d *soaker, fresh, soaked *process, resident []float64) error {
	files := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if files = soaked.usage().files; files <= fresh.usage().files {
			break
		}
	}
	freshFiles := fresh.usage().files
	before, err := fresh.goroutines()
	if err != nil {
		return err
	}
	after, err := soaked.goroutines()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Afterwards: %d files, as %d of one that had nothing to do; %d goroutines, as %d.\n", files, freshFiles, after, before)
	var wrong []error
	if n := d.silent.Load(); n > 0 {
		wrong = append(wrong, fmt.Errorf("%d answers ended in silence: %s", n, d.end.Load()))
	}
	if d.whole.Load() == 0 {
		wrong = append(wrong, fmt.Errorf("nothing was answered: %v", d.last.Load()))
	}
	if files > freshFiles {
		wrong = append(wrong, errors.New("files are left"))
	}
	if after > before {
		wrong = append(wrong, errors.New("goroutines are left"))
	}
	if n := len(resident); n > 0 {
		early, late := median(resident[n/4:n/2]), median(resident[n*3/4:])
		fmt.Fprintf(out, "Resident memory: %.1f MiB in the second quarter, %.1f in the last.\n", early, late)
		if late > early*1.1+2 {
			wrong = append(wrong, errors.New("resident memory grows"))
		}
	}
	return errors.Join(wrong...)
}

func mebibytes(n int) float64 { return float64(n) / (1 << 20) }

// goroutineLine begins what Go tells of a goroutine when it is killed, but for
// number 0, which is none.
var goroutineLine = regexp.MustCompile(`(?m)^goroutine [1-9]\d* .*\[.*`)

// goroutines ends the process and returns how many goroutines it had.
func (p *process) goroutines() (int, error) {
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return 0, err
	}
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		return 0, fmt.Errorf("%s does not end", p.name)
	}
	log, err := os.ReadFile(p.log)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, line := range goroutineLine.FindAll(log, -1) {
		if !bytes.Contains(line, []byte("GC worker")) { // made when they are first needed
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("%s does not tell of its goroutines in %s", p.name, filepath.Base(p.log))
	}
	return n, nil
}

// soaker makes calls of all kinds.
type soaker struct {
	address string
	client  *http.Client

	calls, whole, rejected, broken, left, silent atomic.Int64
	last                                         atomic.Value // what was wrong with one
	end                                          atomic.Value // how one was that ended in silence
}

func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 1000, DisableCompression: true}}
}

// call makes a call. dice, of a hundred, say what is special about it.
func (s *soaker) call(ctx context.Context, dice int) {
	s.calls.Add(1)
	streamed := dice%2 == 0
	body := fmt.Sprintf(`{"model":"deepseek-flash","stream":%t,"messages":[{"role":"user","content":"%d"}]}`, streamed, rand.IntN(10_000))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch {
	case dice < 5: // it leaves
		time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, cancel)
	case dice < 7:
		body = body[:len(body)-2]
	case dice < 9: // hardly any two alike
		body = strings.Replace(body, `"content":"`, `"content":"`+strings.Repeat("x", rand.IntN(100_000)), 1)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.address+"/chat/completions", strings.NewReader(body))
	if err != nil {
		s.fail(ctx, err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		s.fail(ctx, err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		s.fail(ctx, err)
	case resp.StatusCode >= 400, bytes.HasPrefix(bytes.TrimSpace(text), []byte(`{"error"`)):
		s.rejected.Add(1)
	case streamed && (bytes.Contains(text, done) || finished.Match(text)), !streamed && json.Valid(text):
		s.whole.Add(1)
	default:
		s.silent.Add(1)
		s.end.Store(fmt.Sprintf("status %d, %v, asked for with %s: %s", resp.StatusCode, resp.Header, body, text))
	}
}

// finished ends a stream too: DeepSeek's mark of its end adds nothing to it.
var finished = regexp.MustCompile(`"finish_reason": ?"`)

func (s *soaker) fail(ctx context.Context, err error) {
	s.last.Store(err.Error())
	if ctx.Err() != nil {
		s.left.Add(1)
	} else {
		s.broken.Add(1)
	}
}
