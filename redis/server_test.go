package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-go/deepseek/redis"
)

func TestMain(m *testing.M) {
	redis.SetLogger(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

// server is a redis-server of the test's own, which keeps nothing.
type server struct {
	testing.TB
	address string
	cmd     *exec.Cmd
	client  *goredis.Client
}

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

func newServer(t testing.TB) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed (Debian: apt-get install redis-server): what is shared by Redis is not tested")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{TB: t, address: l.Addr().String()}
	require.NoError(t, l.Close())
	s.client = goredis.NewClient(&goredis.Options{Addr: s.address, MaxRetries: -1})
	s.start()
	t.Cleanup(func() {
		_ = s.client.Close()
		if s.cmd != nil {
			s.kill()
		}
	})
	return s
}

func (s *server) start() {
	s.Helper()
	_, port, _ := net.SplitHostPort(s.address)
	s.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.TempDir())
	require.NoError(s, s.cmd.Start())
	s.eventually("redis-server answers", func() bool { return s.client.Ping(context.Background()).Err() == nil })
}

// kill ends the server, and all that it kept.
func (s *server) kill() {
	s.Helper()
	require.NoError(s, s.cmd.Process.Kill())
	_ = s.cmd.Wait()
	s.cmd = nil
}

// stall has the server answer nobody; resume has it go on. A signal may take its time.
func (s *server) stall() {
	s.Helper()
	require.NoError(s, s.cmd.Process.Signal(syscall.SIGSTOP))
	_, err := syscall.Wait4(s.cmd.Process.Pid, nil, syscall.WUNTRACED, nil)
	require.NoError(s, err)
}

func (s *server) resume() { require.NoError(s, s.cmd.Process.Signal(syscall.SIGCONT)) }

func (s *server) eventually(what string, so func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatal("never: " + what)
		}
	}
}

// connect connects to the server as one of its users.
func (s *server) connect(more ...func(*redis.Config)) *redis.Connection {
	s.Helper()
	c := redis.Config{URL: "redis://" + s.address, Lease: time.Second}
	for _, f := range more {
		f(&c)
	}
	n, err := redis.New(c)
	require.NoError(s, err)
	s.Cleanup(func() { _ = n.Close() })
	return n
}

func (s *server) do(args ...any) {
	s.Helper()
	require.NoError(s, s.client.Do(context.Background(), args...).Err(), fmt.Sprint(args...))
}
