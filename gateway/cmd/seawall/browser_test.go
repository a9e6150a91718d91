package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Which browser the tests drive, and where they put pictures of what it shows, if
// anywhere. A browser that is named must be there.
const (
	browserVariable = "SEAWALL_BROWSER"
	picturesIn      = "SEAWALL_PICTURES"
	picturesAfter   = "SEAWALL_PICTURES_AFTER" // TestPictures has the demo run for so long
)

// browser is a headless browser with one page.
type browser struct {
	testing.TB
	ctx context.Context

	mu      sync.Mutex
	console []string // guarded by mu
}

// newBrowser starts one, or skips the test where there is none.
func newBrowser(t testing.TB) *browser {
	t.Helper()
	path := os.Getenv(browserVariable)
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); path == "" && err == nil {
			path = found
		}
	}
	if path == "" {
		t.Skip("there is no browser: install Debian's chromium, or set " + browserVariable)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	if os.Getuid() == 0 { // Chromium refuses to run in its sandbox then
		opts = append(opts, chromedp.NoSandbox)
	}
	b := &browser{TB: t}
	var err error
	for range 3 { // on a busy machine it dies young now and then
		var output bytes.Buffer
		allocator, end := chromedp.NewExecAllocator(context.Background(), append(opts, chromedp.UserDataDir(t.TempDir()), chromedp.CombinedOutput(&output))...)
		var cancel context.CancelFunc
		b.ctx, cancel = chromedp.NewContext(allocator)
		stop := func() { cancel(); end() }
		if err = chromedp.Do(b.ctx); err == nil {
			b.listen(stop)
			return b
		}
		stop()
		t.Logf("the browser does not start: %v\n%s", err, output.String())
	}
	require.NoError(t, err)
	return nil
}

// listen keeps what the page says to the console, until stop at the test's end.
func (b *browser) listen(stop func()) {
	messages := chromedp.Console(b.ctx)
	ended := make(chan struct{})
	b.Cleanup(func() { stop(); <-ended })
	go func() {
		defer close(ended)
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, string(m.Type)+": "+m.Text)
			b.mu.Unlock()
		}
	}()
}

// do does what is to be done within reasonable time.
func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	require.NoError(b, chromedp.Do(ctx, steps...))
}

// size makes the window so many CSS pixels wide and high.
func (b *browser) size(width, height int64, scale float64) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)))
}

// prefer sets what the system is said to prefer, such as prefers-color-scheme.
func (b *browser) prefer(feature, value string) {
	b.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
		})
		return err
	}))
}

// is evaluates an expression in the page.
func is[T any](b *browser, expression string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b, err, expression)
	return v
}

// text is the text of the element that a selector finds.
func (b *browser) text(selector string) string {
	b.Helper()
	return is[string](b, "document.querySelector("+quoted(selector)+").innerText")
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "\\'") + "'" }

// until waits until an expression is true in the page.
func (b *browser) until(expression string) {
	b.Helper()
	for deadline := time.Now().Add(2 * patience); !is[bool](b, expression); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("never in the page: %s\nit shows:\n%s", expression, b.text("body"))
		}
	}
}

// complaints are what the console has of warnings and errors, without those that
// are to be expected.
func (b *browser) complaints(expected ...string) (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, line := range b.console {
		for _, e := range expected {
			if strings.Contains(line, e) {
				continue next
			}
		}
		list = append(list, line)
	}
	return list
}

// picture keeps a picture of the page, if there is a place for it.
func (b *browser) picture(name string, whole bool) {
	b.Helper()
	dir := os.Getenv(picturesIn)
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	take := chromedp.CaptureScreenshot()
	if whole {
		take = chromedp.FullScreenshot(100)
	}
	png, err := chromedp.Run(ctx, take)
	require.NoError(b, err)
	require.NoError(b, os.MkdirAll(dir, 0o755))
	require.NoError(b, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}
