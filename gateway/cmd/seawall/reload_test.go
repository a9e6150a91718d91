package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// rewrite replaces text in the process's configuration.
func (p *process) rewrite(old, fresh string) {
	p.Helper()
	data, err := os.ReadFile(p.file)
	require.NoError(p, err)
	require.Contains(p, string(data), old)
	require.NoError(p, os.WriteFile(p.file, []byte(strings.Replace(string(data), old, fresh, 1)), 0o600))
}

// count is how many lines of the log have the message.
func (p *process) count(msg string) int { return strings.Count(p.log(), `"msg":"`+msg+`"`) }

// waitCount waits for the nth line with the message.
func (p *process) waitCount(msg string, n int) {
	p.Helper()
	eventually(p, msg, func() bool { return p.count(msg) >= n })
}

func TestReload(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "models: {old: deepseek-flash}\n")
	c := client(t)
	ask := func(model string) int {
		resp := post(t, c, p.url+"/chat/completions", strings.Replace(chatBody, "deepseek-flash", model, 1))
		whole(t, resp)
		return resp.StatusCode
	}
	require.Equal(t, 200, ask("old"))
	require.Equal(t, 400, ask("new"))

	p.rewrite("old:", "new:")
	p.signal(syscall.SIGHUP)
	p.waitCount("reloaded", 1)
	require.Equal(t, 200, ask("new"))
	require.Equal(t, 400, ask("old"))

	// Without a signal too, as soon as it is noticed.
	p.rewrite("new:", "newer:")
	p.waitCount("reloaded", 2)
	require.Equal(t, 200, ask("newer"))

	// What is wrong is refused, told, and not tried again and again.
	p.rewrite("models:", "modles:")
	p.signal(syscall.SIGHUP)
	p.waitCount("the new configuration is refused, the old one stays", 1)
	require.Contains(t, p.log(), "modles")
	require.Equal(t, 200, ask("newer"))
	time.Sleep(3 * lookEvery)
	require.Equal(t, 1, p.count("the new configuration is refused, the old one stays"))
	p.rewrite("modles:", "models:")
	p.waitCount("reloaded", 3)
	p.rewrite("models:", "prices: {currency: CNY}\nmodels:")
	p.waitCount("the new configuration is refused, the old one stays", 2)
	require.Contains(t, p.log(), "prices.currency: was USD")
	p.rewrite("prices: {currency: CNY}\nmodels:", "models:")
	p.waitCount("reloaded", 4)

	// What cannot change while it runs is said to.
	p.rewrite("listen: 127.0.0.1:0", "listen: 127.0.0.1:1")
	p.signal(syscall.SIGHUP)
	require.Equal(t, []any{"listen"}, p.wait("some of the new configuration needs a restart")["fields"])
	require.Equal(t, 200, ask("newer"))
	p.stop()
}

func TestReloadOfSecrets(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(secret, []byte("sk-wrong-0123456789"), 0o600))
	roots := certificate(t, dir)
	p := serve(t, srv.URL, "accounts: [{keys: 'file:"+secret+"'}]\ntls: {cert: "+dir+"/cert.pem, key: "+dir+"/key.pem}\n")
	c := client(t)
	c.Transport = trusting(t, roots)
	require.Equal(t, http.StatusUnauthorized, status(t, c, p.url+"/models"))

	require.NoError(t, os.WriteFile(secret, []byte(upstreamKey+"\n"), 0o600))
	p.waitCount("reloaded", 1)
	require.Equal(t, http.StatusOK, status(t, c, p.url+"/models"))

	fresh := certificate(t, dir)
	p.waitCount("reloaded", 2)
	c.Transport = trusting(t, fresh)
	require.Equal(t, http.StatusOK, status(t, c, p.url+"/models"))
	c.Transport = trusting(t, roots)
	_, err := c.Get(p.url + "/models")
	require.ErrorContains(t, err, "certificate")
	p.stop()
}

// Where there were clients, a file without any is refused: it may have been emptied
// by accident, and where the gateway listens does not change.
func TestReloadDoesNotOpenTheGateway(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "clients:\n  - {name: a, keys: "+gateway.HashKey("sk-seawall-a")+"}\n")
	c := client(t)
	require.Equal(t, http.StatusUnauthorized, status(t, c, p.url+"/models"))
	for i, text := range []string{"", "listen: 127.0.0.1:0\nbase_url: " + srv.URL + "\n"} {
		require.NoError(t, os.WriteFile(p.file, []byte(text), 0o600))
		p.waitCount("the new configuration is refused, the old one stays", i+1)
		require.Equal(t, http.StatusUnauthorized, status(t, c, p.url+"/models"))
	}
	p.stop()
}

// A file that is replaced by one of the same size and time, as those of a build are,
// is another one.
func TestReloadOfAFileThatLooksTheSame(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	dir := t.TempDir()
	secret, fresh := filepath.Join(dir, "key"), filepath.Join(dir, "fresh")
	wrong := strings.Replace(upstreamKey, "upstream", "upstraem", 1)
	require.Len(t, wrong, len(upstreamKey))
	for path, key := range map[string]string{secret: wrong, fresh: upstreamKey} {
		require.NoError(t, os.WriteFile(path, []byte(key), 0o600))
		require.NoError(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	}
	p := serve(t, srv.URL, "accounts: [{keys: 'file:"+secret+"'}]\n")
	require.Equal(t, http.StatusUnauthorized, status(t, client(t), p.url+"/models"))
	require.NoError(t, os.Rename(fresh, secret))
	p.waitCount("reloaded", 1)
	require.Equal(t, http.StatusOK, status(t, client(t), p.url+"/models"))
	p.stop()
}

// A configuration that was refused for want of a file is read again when that is
// there.
func TestReloadWhenWhatWasMissingHasCome(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "accounts: [{keys: env:DEEPSEEK_API_KEY}]\n")
	p.rewrite("env:DEEPSEEK_API_KEY", "'file:late'")
	p.wait("the new configuration is refused, the old one stays")
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(p.file), "late"), []byte(upstreamKey), 0o600))
	p.waitCount("reloaded", 1)
	p.stop()
}

// SIGHUP has nothing to reload while the process ends, and must not end it at once.
func TestSignalsWhileItEnds(t *testing.T) {
	t.Parallel()
	srv := fake(t, deepseektest.WithPace(deepseektest.Pace{Token: 50 * time.Millisecond}), deepseektest.WithAnswerLength(0, 40))
	p := serve(t, srv.URL, "")
	stream := post(t, client(t), p.url+"/chat/completions", streamBody)
	p.signal(syscall.SIGTERM)
	p.wait("shutting down")
	for range 3 {
		p.signal(syscall.SIGHUP)
		time.Sleep(20 * time.Millisecond)
	}
	require.Contains(t, whole(t, stream), "data: [DONE]")
	require.NoError(t, p.ended())
	p.wait("ended")
}

// A certificate that comes with a configuration that is refused is not taken.
func TestRefusedReloadKeepsTheCertificate(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	dir := t.TempDir()
	roots := certificate(t, dir)
	p := serve(t, srv.URL, "tls: {cert: "+dir+"/cert.pem, key: "+dir+"/key.pem}\nstate: "+dir+"/spent\n")
	const refused = "the new configuration is refused, the old one stays"
	p.rewrite(dir+"/spent", dir+"/elsewhere")
	p.waitCount(refused, 1)
	certificate(t, dir)
	p.waitCount(refused, 2)
	c := client(t)
	c.Transport = trusting(t, roots)
	require.Equal(t, http.StatusOK, status(t, c, p.url+"/models"))
	p.stop()
}

// Many calls under way, streams and others, while the file is reloaded over and
// over: none is lost, and none of the clients' counts. Streams follow each other, so
// that there are some at every stage, and the others are held until all is over.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	free := sync.OnceFunc(func() { close(held) })
	var waiting atomic.Int64
	srv := fake(t, deepseektest.WithPace(deepseektest.Pace{FirstToken: 200 * time.Millisecond, Token: 20 * time.Millisecond}),
		deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
			if !r.Stream {
				waiting.Add(1)
				<-held
			}
			return deepseektest.Answer{Content: strings.Repeat("a word ", 30)}
		}))
	t.Cleanup(free)
	key := gateway.NewKey()
	callers := racedetector.Less(1000, 300)
	p := serve(t, srv.URL, "clients:\n  - {name: a, keys: "+gateway.HashKey(key)+", concurrency: 1000}\nretry: {max_attempts: 5}\nmodels: {m: deepseek-flash}\n")
	c := client(t)
	c.Transport.(*http.Transport).MaxIdleConnsPerHost = callers
	var calls atomic.Int64
	ask := func(body, want string) {
		calls.Add(1)
		req, err := http.NewRequest(http.MethodPost, p.url+"/chat/completions", strings.NewReader(body))
		if !assert.NoError(t, err) {
			return
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := c.Do(req)
		if assert.NoError(t, err) {
			assert.Contains(t, whole(t, resp), want)
		}
	}
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			if i%2 == 0 {
				ask(chatBody, `"choices"`)
				return
			}
			for over := false; !over; {
				select {
				case <-held:
					over = true
				default:
				}
				ask(streamBody, "data: [DONE]")
			}
		})
	}
	eventually(t, "calls under way", func() bool { return waiting.Load() == int64(callers/2) && srv.InFlight("main", "") > callers/2 })
	for i := range 10 {
		p.rewrite("max_attempts: "+string(rune('5'+i%2)), "max_attempts: "+string(rune('6'-i%2)))
		p.signal(syscall.SIGHUP)
		p.waitCount("reloaded", i+1)
	}
	require.GreaterOrEqual(t, srv.InFlight("main", ""), callers/2, "calls were under way all the time")
	free()
	all.Wait()
	p.waitCount("answered", int(calls.Load()))
	require.Zero(t, p.count("failed")+p.count("client left"))
	p.stop()
}
