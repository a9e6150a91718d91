package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server in a process of its own, with whatever processes it starts.
type process struct {
	name    string
	address string
	cmd     *exec.Cmd
	errs    bytes.Buffer
	log     string // the file that it logs to
	done    chan struct{}
	err     error // of its end
}

// free is an address that nobody listens on.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start starts a server and waits until it listens.
func start(name, address string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, address: address, cmd: cmd, done: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.errs
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return p, conn.Close()
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("%s: %w: %s", name, p.err, p.errs.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen on %s: %s", name, address, p.errs.String())
}

// stop ends the process in an orderly way if it can.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		return errors.New(p.name + " did not end")
	}
}

// pids are those of the process and its children.
func (p *process) pids() []int {
	pids := []int{p.cmd.Process.Pid}
	parent := strconv.Itoa(p.cmd.Process.Pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if fields := statFields(path); len(fields) > 1 && fields[1] == parent {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// statFields are those of a process's stat after its name, which may have blanks.
func statFields(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return strings.Fields(rest)
}

// clockTick is in what /proc counts time, on all of Go's architectures.
const clockTick = 10 * time.Millisecond

// usage is what a process takes.
type usage struct {
	cpu      time.Duration // since it was started
	resident int           // bytes
	files    int
}

func (p *process) usage() (u usage) {
	for _, pid := range p.pids() {
		dir := fmt.Sprintf("/proc/%d/", pid)
		if fields := statFields(dir + "stat"); len(fields) > 21 {
			user, _ := strconv.Atoi(fields[11])
			system, _ := strconv.Atoi(fields[12])
			pages, _ := strconv.Atoi(fields[21])
			u.cpu += time.Duration(user+system) * clockTick
			u.resident += pages * os.Getpagesize()
		}
		files, _ := os.ReadDir(dir + "fd")
		u.files += len(files)
	}
	return u
}

// servers are the processes that are measured, before one upstream.
type servers struct {
	dir      string
	upstream *process
	measured []*process
}

const upstreamKey = "sk-bench-0123456789"

// again is this program as another process.
func again(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asBench+"=1")
	return cmd, nil
}

// asBench has the test binary be the program itself.
const asBench = "SEAWALL_BENCH_AS_COMMAND"

func (s *servers) stop() {
	for _, p := range append(s.measured, s.upstream) {
		if p != nil {
			_ = p.stop()
		}
	}
	_ = os.RemoveAll(s.dir)
}

// buildGateway builds the command as it is shipped.
func buildGateway(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "seawall")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "github.com/seawall-go/deepseek/gateway/cmd/seawall")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return bin, nil
}

// startGateway starts the command with a configuration. It logs to a file.
func startGateway(ctx context.Context, name, bin, dir, upstream, config string) (*process, error) {
	address, err := free()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
	config = "listen: " + address + "\nbase_url: http://" + upstream + "\naccounts: [{keys: env:BENCH_KEY}]\n" + config
	if err := os.WriteFile(base+".yaml", []byte(config), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "serve", base+".yaml")
	cmd.Env = []string{"BENCH_KEY=" + upstreamKey}
	log, err := os.Create(base + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	p, err := start(name, address, cmd)
	if err != nil {
		text, _ := os.ReadFile(base + ".log")
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	p.log = base + ".log"
	return p, nil
}

// startNginx starts nginx as a proxy; nil if there is none.
func startNginx(ctx context.Context, dir, upstream string) (*process, error) {
	bin, err := exec.LookPath("nginx")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, nil
		}
	}
	address, err := free()
	if err != nil {
		return nil, err
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n"
	}
	config := user + `daemon off;
pid ` + dir + `/nginx.pid;
worker_processes auto;
error_log stderr error;
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path ` + dir + `/body;
	proxy_temp_path ` + dir + `/proxy;
	fastcgi_temp_path ` + dir + `/fastcgi;
	uwsgi_temp_path ` + dir + `/uwsgi;
	scgi_temp_path ` + dir + `/scgi;
	keepalive_requests 1000000;
	upstream api { server ` + upstream + `; keepalive 1000; keepalive_requests 1000000; }
	server {
		listen ` + address + `;
		client_max_body_size 48m;
		client_body_buffer_size 64k;
		location / {
			proxy_pass http://api;
			proxy_http_version 1.1;
			proxy_buffering off;
			proxy_read_timeout 10m;
			proxy_set_header Connection "";
			proxy_set_header Authorization "Bearer ` + upstreamKey + `";
		}
	}
}
`
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return start("nginx", address, exec.CommandContext(ctx, bin, "-c", path, "-e", "stderr"))
}
