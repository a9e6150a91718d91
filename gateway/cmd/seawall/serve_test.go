package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	goopenai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
)

// fake is a fake DeepSeek on loopback.
func fake(t testing.TB, opts ...deepseektest.Option) *deepseektest.Server {
	srv := deepseektest.NewServer(append(opts, deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{upstreamKey}}))...)
	t.Cleanup(srv.Close)
	return srv
}

// Programs that know nothing of all this, in the two SDKs that there are for Go.
func TestSDKs(t *testing.T) {
	t.Parallel()
	srv := fake(t, deepseektest.WithAnswer(func(r *deepseektest.Request) deepseektest.Answer {
		if len(r.Tools) > 0 {
			return deepseektest.Answer{ToolCalls: []deepseektest.ToolCall{{Name: r.Tools[0], Arguments: `{"city":"Beijing"}`}}}
		}
		return deepseektest.Answer{Content: "It holds, " + r.LastUser() + "."}
	}))
	key := gateway.NewKey()
	p := serve(t, srv.URL, "clients:\n  - {name: sdk, keys: "+gateway.HashKey(key)+"}\nmodels: {gpt-4o: deepseek-flash}\n")
	srv.Enqueue(deepseektest.ServiceUnavailable(), deepseektest.ResetBeforeHeaders()) // which nobody notices

	t.Run("openai-go", func(t *testing.T) {
		sdk := openai.NewClient(option.WithBaseURL(p.url+"/v1"), option.WithAPIKey(key), option.WithHTTPClient(client(t)))
		params := openai.ChatCompletionNewParams{Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("openai-go")}}
		answer, err := sdk.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		require.Equal(t, "It holds, openai-go.", answer.Choices[0].Message.Content)
		require.Positive(t, answer.Usage.TotalTokens)

		stream := sdk.Chat.Completions.NewStreaming(t.Context(), params)
		var text strings.Builder
		for stream.Next() {
			for _, c := range stream.Current().Choices {
				text.WriteString(c.Delta.Content)
			}
		}
		require.NoError(t, stream.Err())
		require.Equal(t, "It holds, openai-go.", text.String())

		params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_weather"})}
		answer, err = sdk.Chat.Completions.New(t.Context(), params)
		require.NoError(t, err)
		require.Equal(t, `{"city":"Beijing"}`, answer.Choices[0].Message.ToolCalls[0].Function.Arguments)
		params.Tools = nil

		models, err := sdk.Models.List(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, models.Data)

		srv.Enqueue(deepseektest.CutAfter(2))
		stream = sdk.Chat.Completions.NewStreaming(t.Context(), params)
		for stream.Next() {
		}
		require.ErrorContains(t, stream.Err(), "truncated", "half an answer is an error")

		stranger := openai.NewClient(option.WithBaseURL(p.url+"/v1"), option.WithAPIKey("sk-wrong"), option.WithHTTPClient(client(t)))
		_, err = stranger.Chat.Completions.New(t.Context(), params)
		var api *openai.Error
		require.ErrorAs(t, err, &api)
		require.Equal(t, http.StatusUnauthorized, api.StatusCode)
		require.Equal(t, "invalid_api_key", api.Code)
	})
	t.Run("go-openai", func(t *testing.T) {
		config := goopenai.DefaultConfig(key)
		config.BaseURL, config.HTTPClient = p.url, client(t)
		sdk := goopenai.NewClientWithConfig(config)
		request := goopenai.ChatCompletionRequest{Model: "deepseek-flash", Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "go-openai"}}}
		answer, err := sdk.CreateChatCompletion(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, "It holds, go-openai.", answer.Choices[0].Message.Content)

		read := func() (string, error) {
			stream, err := sdk.CreateChatCompletionStream(t.Context(), request)
			require.NoError(t, err)
			defer stream.Close()
			var text strings.Builder
			for {
				chunk, err := stream.Recv()
				if err != nil {
					return text.String(), err
				}
				for _, c := range chunk.Choices {
					text.WriteString(c.Delta.Content)
				}
			}
		}
		text, err := read()
		require.Equal(t, io.EOF, err)
		require.Equal(t, "It holds, go-openai.", text)
		srv.Enqueue(deepseektest.CutAfter(2))
		_, err = read()
		require.NotEqual(t, io.EOF, err)
		require.ErrorContains(t, err, "truncated", "half an answer is an error")
	})
	c := client(t)
	require.Equal(t, http.StatusOK, status(t, c, p.url+"/healthz"))
	require.Equal(t, http.StatusOK, status(t, c, p.url+"/readyz"))
	p.stop()
	require.NotContains(t, p.log(), key)
}

// On SIGTERM streams go on to their end.
func TestDrain(t *testing.T) {
	t.Parallel()
	srv := fake(t, deepseektest.WithPace(deepseektest.Pace{Token: 20 * time.Millisecond}))
	p := serve(t, srv.URL, "shutdown: {limit: 20s}\n")
	stream := post(t, client(t), p.url+"/chat/completions", streamBody)
	p.signal(syscall.SIGTERM)
	p.wait("shutting down")
	require.Contains(t, whole(t, stream), "data: [DONE]")
	require.NoError(t, p.ended())
	require.Equal(t, true, p.wait("ended")["complete"])
}

// For a while /readyz sends others elsewhere, and who comes all the same is
// served.
func TestDrainDelay(t *testing.T) {
	inBubble(t, "shutdown: {delay: 300ms, limit: 10s}\n", func(b *bubble) {
		stream := post(b, b.client, b.url+"/chat/completions", streamBody)
		require.Equal(b, http.StatusOK, status(b, b.client, b.url+"/readyz"))
		begun := time.Now()
		b.end()
		synctest.Wait()
		require.Equal(b, http.StatusServiceUnavailable, status(b, b.client, b.url+"/readyz"))
		require.Equal(b, http.StatusOK, status(b, b.client, b.url+"/healthz"))
		time.Sleep(time.Until(begun.Add(299 * time.Millisecond)))
		require.Equal(b, http.StatusOK, status(b, b.client, b.url+"/models"))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		_, err := b.client.Get(b.url + "/models")
		require.Error(b, err, "nobody listens any more")
		require.Contains(b, whole(b, stream), "data: [DONE]")
		require.NoError(b, <-b.ended)
		require.Contains(b, b.logs.String(), `"complete":true`)
		b.ended <- nil
	}, deepseektest.WithPace(deepseektest.Pace{Token: 20 * time.Millisecond}))
}

// What has not ended by then is told why it ends.
func TestDrainHasALimit(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "shutdown: {limit: 300ms}\n")
	c := client(t)
	srv.Enqueue(deepseektest.StallAfter(3), deepseektest.Hang())
	stream := post(t, c, p.url+"/chat/completions", streamBody)
	hanging := make(chan *http.Response)
	go func() { hanging <- post(t, c, p.url+"/chat/completions", chatBody) }()
	eventually(t, "two in flight", func() bool { return len(srv.Requests()) == 2 })
	p.signal(syscall.SIGTERM)
	text, err := all(stream)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Contains(t, text, `"code":"shutting_down"}}`)
	resp := <-hanging
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, whole(t, resp), "shutting down")
	require.NoError(t, p.ended())
}

func TestSecondSignal(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "")
	srv.Enqueue(deepseektest.StallAfter(3))
	stream := post(t, client(t), p.url+"/chat/completions", streamBody)
	p.signal(syscall.SIGTERM)
	p.wait("shutting down")
	p.signal(syscall.SIGTERM)
	require.ErrorContains(t, p.ended(), "exit status 1")
	_, err := all(stream)
	require.Error(t, err)
}

// Clients that take their time do not take anybody else's.
func TestSlowClients(t *testing.T) {
	const config = "server: {header_timeout: 300ms, body_timeout: 1s, write_timeout: 500ms, idle_timeout: 400ms, max_header: 8KiB}\n"
	head := "POST /chat/completions HTTP/1.1\r\nHost: gateway\r\n"
	slow := func(name string, do func(b *bubble, conn net.Conn)) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, config, func(b *bubble) {
				do(b, b.dial())
				require.Equal(b, http.StatusOK, status(b, b.client, b.url+"/models"), "for others")
			}, deepseektest.WithAnswerLength(0, 200_000))
		})
	}
	// gone waits until the connection is closed, and returns when that is.
	gone := func(b *bubble, conn net.Conn) time.Duration {
		begun := time.Now()
		_, err := io.ReadAll(conn)
		require.False(b, isTimeout(err), "it is cut off")
		return time.Since(begun)
	}
	slow("nothing at all", func(b *bubble, conn net.Conn) {
		require.Equal(b, 300*time.Millisecond, gone(b, conn))
	})
	slow("header by the byte", func(b *bubble, conn net.Conn) {
		go func() {
			for _, c := range []byte(head + "X-Long: " + strings.Repeat("x", 1000)) {
				if _, err := conn.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		require.Equal(b, 300*time.Millisecond, gone(b, conn))
	})
	slow("body by the byte", func(b *bubble, conn net.Conn) {
		_, err := io.WriteString(conn, head+"Content-Length: 1000\r\n\r\n{")
		require.NoError(b, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(b, err)
		require.Equal(b, http.StatusRequestTimeout, resp.StatusCode)
		require.Contains(b, whole(b, resp), "request_timeout")
	})
	slow("a large body that keeps coming", func(b *bubble, conn net.Conn) {
		piece := strings.Repeat(" ", 256<<10)
		go func() {
			_, _ = io.WriteString(conn, head+"Transfer-Encoding: chunked\r\n\r\n")
			for range 28 { // 7 MiB in 5.6 s
				_, _ = io.WriteString(conn, "40000\r\n"+piece+"\r\n")
				time.Sleep(200 * time.Millisecond)
			}
			_, _ = io.WriteString(conn, "2\r\n{}\r\n0\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(b, err)
		text := whole(b, resp)
		require.Equal(b, http.StatusBadRequest, resp.StatusCode, text)
		require.Contains(b, text, "model", "the server's own answer")
	})
	slow("a large body that does not keep coming", func(b *bubble, conn net.Conn) {
		go func() {
			_, _ = io.WriteString(conn, head+"Transfer-Encoding: chunked\r\n\r\n200000\r\n"+strings.Repeat(" ", 2<<20)+"\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(b, err)
		require.Equal(b, http.StatusRequestTimeout, resp.StatusCode)
	})
	slow("answer that is not read", func(b *bubble, conn net.Conn) {
		_, err := io.WriteString(conn, head+"Content-Length: "+strconv.Itoa(len(streamBody))+"\r\n\r\n"+streamBody)
		require.NoError(b, err)
		synctest.Wait()
		require.Equal(b, 1, b.fake.InFlight("main", ""))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		require.Zero(b, b.fake.InFlight("main", ""), "its place is free again")
		require.True(b, b.fake.Requests()[0].Left)
	})
	slow("a connection that is not used any more", func(b *bubble, conn net.Conn) {
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
		require.NoError(b, err)
		require.Equal(b, 400*time.Millisecond, gone(b, conn))
	})
	for name, bomb := range map[string]string{"one": "X: " + strings.Repeat("x", 1<<20), "many": strings.Repeat("X: y\r\n", 10_000)} {
		slow("header bomb of "+name, func(b *bubble, conn net.Conn) {
			go func() { _, _ = io.WriteString(conn, "GET /models HTTP/1.1\r\nHost: gateway\r\n"+bomb+"\r\n\r\n") }()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(b, err)
			require.Equal(b, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
			require.Empty(b, b.fake.Requests())
		})
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// More connections than there may be wait to be accepted, and are served when
// others have gone.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	p := serve(t, srv.URL, "server: {max_connections: 3}\n")
	var held []net.Conn
	for range 3 {
		conn := p.dial()
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
		require.NoError(t, err)
		_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		held = append(held, conn)
	}
	c := client(t)
	answered := make(chan int)
	go func() { answered <- status(t, c, p.url+"/models") }()
	select {
	case <-answered:
		t.Fatal("a fourth was accepted")
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, held[0].Close())
	require.Equal(t, http.StatusOK, <-answered)
	c.CloseIdleConnections()
	for range 10 { // none is lost count of
		require.Equal(t, http.StatusOK, status(t, c, p.url+"/models"))
		c.CloseIdleConnections()
	}
	for _, conn := range held[1:] {
		_ = conn.Close()
	}
	p.stop()
}

// certificate makes one for 127.0.0.1 and writes it, with its key, to dir.
func certificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "seawall test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(cert))
	return pool
}

// trusting connects to who has a certificate of roots.
func trusting(t testing.TB, roots *x509.CertPool) *http.Transport {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// Over TLS there is HTTP/2, where many streams share a connection and each breaks
// by itself.
func TestTLS(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	dir := t.TempDir()
	roots := certificate(t, dir)
	p := serve(t, srv.URL, "tls: {cert: "+dir+"/cert.pem, key: "+dir+"/key.pem}\nserver: {header_timeout: 500ms}\n")
	c := &http.Client{Transport: trusting(t, roots)}
	resp := post(t, c, p.url+"/chat/completions", streamBody)
	require.Equal(t, 2, resp.ProtoMajor)
	require.Contains(t, whole(t, resp), "data: [DONE]")

	srv.Enqueue(deepseektest.StallAfter(3))
	open := post(t, c, p.url+"/chat/completions", streamBody)
	srv.Enqueue(deepseektest.CutAfter(3))
	text, err := all(post(t, c, p.url+"/chat/completions", streamBody))
	require.Error(t, err)
	require.Contains(t, text, `"code":"truncated"`)
	require.Contains(t, whole(t, post(t, c, p.url+"/chat/completions", chatBody)), "choices")
	require.NoError(t, open.Body.Close())
	eventually(t, "its place is free again", func() bool { return srv.InFlight("main", "") == 0 })

	plain := p.dial()
	_, err = io.WriteString(plain, "GET /models HTTP/1.1\r\nHost: gateway\r\n\r\n")
	require.NoError(t, err)
	resp, err = http.ReadResponse(bufio.NewReader(plain), nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
	_, err = io.ReadAll(p.dial())
	require.False(t, isTimeout(err), "who never shakes hands is cut off")
	p.stop()
}

func TestCommands(t *testing.T) {
	t.Parallel()
	write := func(more string) string {
		file := filepath.Join(t.TempDir(), "seawall.yaml")
		require.NoError(t, os.WriteFile(file, []byte("listen: 127.0.0.1:0\n"+more), 0o600))
		return file
	}
	file, good := write("retry: {max_attempt: 3}\n"), write("")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{nil, 2, "Usage:"},
		{[]string{"serve"}, 2, "Usage:"},
		{[]string{"--nonsense"}, 2, "Usage:"},
		{[]string{"--help"}, 0, "Usage:"},
		{[]string{"help"}, 0, "Usage:"},
		{[]string{"serve", "--help"}, 0, "Usage:"},
		{[]string{"check", "-h"}, 0, "Usage:"},
		{[]string{"key", "new", "--help"}, 0, "Usage:"},
		{[]string{"version"}, 0, "seawall "},
		{[]string{"--version"}, 0, "seawall "},
		{[]string{"check", good}, 0, "nothing is wrong"},
		{[]string{"check", file}, 1, file + `:2: retry: there is no field "max_attempt"`},
		{[]string{"serve", file}, 1, file + `:2: retry: there is no field "max_attempt"`},
		{[]string{"check", "/nowhere.yaml"}, 1, "no such file"},
		{[]string{"check", write("tls:\n  cert: no.pem\n  key: no.pem\n")}, 1, "seawall.yaml:3: tls.cert: open "},
		{[]string{"serve", write("tls:\n  cert: no.pem\n  key: no.pem\n")}, 1, "seawall.yaml:3: tls.cert: open "},
		{[]string{"check", write("tls:\n  cert: seawall.yaml\n  key: no.pem\n")}, 1, "seawall.yaml:4: tls.key: open "},
		{[]string{"check", write("tls:\n  cert: seawall.yaml\n  key: seawall.yaml\n")}, 1, "seawall.yaml:2: tls: failed to find any PEM data"},
		{[]string{"check", write("redis:\n  url: redis://127.0.0.1/no-number\n")}, 1, "seawall.yaml:3: redis.url: is not of the form"},
		{[]string{"serve", write("redis:\n  url: redis://127.0.0.1/no-number\n")}, 1, "seawall.yaml:3: redis.url: is not of the form"},
		{[]string{"key", "new", "ci"}, 0, "    - name: ci\n      keys: sha256:"},
		{[]string{"key", "new", `a: "b"`}, 0, `    - name: "a: \"b\""` + "\n"},
		{[]string{"key"}, 2, "Usage:"},
	} {
		cmd := command(t, c.args...)
		output, err := cmd.CombinedOutput()
		require.NoError(t, ctx.Err())
		require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%v: %v", c.args, err)
		require.Contains(t, string(output), c.say, "%v", c.args)
	}
	output, err := command(t, "key", "new").Output()
	require.NoError(t, err)
	var key, hash string
	for line := range strings.Lines(string(output)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "sk-seawall-") {
			key = line
		}
		if rest, ok := strings.CutPrefix(line, "keys: "); ok {
			hash = rest
		}
	}
	require.Equal(t, gateway.HashKey(key), hash)
}
