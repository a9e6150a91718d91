package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asCommand has the test binary be the command itself, so that tests can run it
// as a process of its own without building it.
const asCommand = "SEAWALL_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	flag.Parse()
	// Those that run beside others mostly wait for their processes.
	if err := flag.Set("test.parallel", strconv.Itoa(max(8, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	upstreamKey = "sk-upstream-0123456789"
	chatBody    = `{"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}]}`
	streamBody  = `{"model": "deepseek-flash", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}`
)

// process is the command at work.
type process struct {
	testing.TB
	cmd  *exec.Cmd
	file string // its configuration
	url  string
	done chan error

	mu   sync.Mutex
	logs bytes.Buffer // guarded by mu
	more chan struct{}
}

// command prepares the command with arguments and the key in its environment.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = []string{asCommand + "=1", "DEEPSEEK_API_KEY=" + upstreamKey, "HOME=" + t.TempDir()}
	return cmd
}

// serve starts the command with a configuration, which is completed with the
// address to listen on and that of the upstream server, and waits until it serves.
func serve(t testing.TB, upstream, config string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "seawall.yaml")
	config = "listen: 127.0.0.1:0\nbase_url: " + upstream + "\n" + config
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := &process{TB: t, cmd: command(t, "serve", file), file: file, done: make(chan error, 1), more: make(chan struct{}, 1)}
	p.start()
	line := p.wait("serving")
	scheme := "http://"
	if line["tls"] == true {
		scheme = "https://"
	}
	p.url = scheme + line["address"].(string)
	return p
}

func (p *process) start() {
	p.Helper()
	errs, err := p.cmd.StderrPipe()
	require.NoError(p, err)
	require.NoError(p, p.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewReader(errs); ; {
			line, err := lines.ReadBytes('\n')
			p.mu.Lock()
			p.logs.Write(line)
			p.mu.Unlock()
			select {
			case p.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		<-read
		p.done <- p.cmd.Wait()
	}()
	p.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-read
		if p.Failed() {
			p.Logf("log:\n%s", p.log())
		}
		require.NotContains(p, p.log(), upstreamKey)
		require.NotContains(p, p.log(), "DATA RACE")
	})
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logs.String()
}

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

// wait waits for a line of the log with this message, and returns it.
func (p *process) wait(msg string) map[string]any {
	p.Helper()
	for deadline := time.After(patience); ; {
		for line := range strings.Lines(p.log()) {
			var m map[string]any
			if json.Unmarshal([]byte(line), &m) == nil && m["msg"] == msg {
				return m
			}
		}
		select {
		case <-p.more:
		case <-deadline:
			p.Fatalf("no line %q in the log", msg)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.Helper()
	require.NoError(p, p.cmd.Process.Signal(s))
}

// ended waits for the process to end.
func (p *process) ended() error {
	p.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(patience):
		p.Fatal("the process does not end")
		return nil
	}
}

// stop ends the process in an orderly way.
func (p *process) stop() {
	p.Helper()
	p.signal(syscall.SIGTERM)
	require.NoError(p, p.ended())
}

// client is one whose connections end with the test.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// post sends a request and returns the response before its body has come.
func post(t testing.TB, c *http.Client, url, body string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	return resp
}

// all reads a body to its end, however that comes.
func all(resp *http.Response) (string, error) {
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

func whole(t testing.TB, resp *http.Response) string {
	t.Helper()
	text, err := all(resp)
	require.NoError(t, err)
	return text
}

// status asks for a page and returns its status.
func status(t testing.TB, c *http.Client, url string) int {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	whole(t, resp)
	return resp.StatusCode
}

// dial opens a connection to the process.
func (p *process) dial() net.Conn {
	p.Helper()
	_, address, _ := strings.Cut(p.url, "://")
	conn, err := net.Dial("tcp", address)
	require.NoError(p, err)
	p.Cleanup(func() { _ = conn.Close() })
	require.NoError(p, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// eventually waits until a thing is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
