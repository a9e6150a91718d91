package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/gateway"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// demo starts the demo and waits until it tells where it is.
func demo(t testing.TB, args ...string) (p *process, page string) {
	t.Helper()
	p = &process{TB: t, cmd: command(t, append([]string{"--demo", "--listen", "127.0.0.1:0"}, args...)...), done: make(chan error, 1), more: make(chan struct{}, 1)}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.start()
	var text strings.Builder
	for lines := bufio.NewReader(out); !strings.Contains(text.String(), "Ctrl-C"); {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		text.WriteString(line)
	}
	after := func(mark string) string {
		_, rest, _ := strings.Cut(text.String(), mark)
		return strings.Fields(rest)[0]
	}
	p.url = strings.TrimSuffix(after("curl -N "), "/chat/completions")
	return p, after("the status page: ")
}

// watch opens the stream of a status page, until the test ends.
func watch(t testing.TB, c *http.Client, page string) io.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+"events", nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.Body
}

// page is where a process has its status page.
func (p *process) page() string {
	p.Helper()
	return p.wait("status page")["url"].(string)
}

// freePort is a port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// fits demands that nothing is wider than the window.
func (b *browser) fits() {
	b.Helper()
	wide := is[string](b, `(() => {
		const most = document.documentElement.clientWidth;
		return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > most + 0.5 && !e.closest(".unseen, svg"))
			.map((e) => e.tagName + "." + e.className + " " + Math.round(e.getBoundingClientRect().right) + " > " + most).slice(0, 5).join("; ");
	})()`)
	require.Empty(b, wide)
	require.LessOrEqual(b, is[int](b, "document.documentElement.scrollWidth"), is[int](b, "window.innerWidth"))
}

// legible demands that texts stand out from what is behind them, by the ratio of
// 4.5 that WCAG 2 asks for (1.4.3).
func (b *browser) legible() {
	b.Helper()
	require.Empty(b, is[string](b, `(() => {
		const parts = (color) => color.match(/[\d.]+/g).map(Number);
		const light = (color) => {
			const [r, g, b] = parts(color).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
			return 0.2126 * r + 0.7152 * g + 0.0722 * b;
		};
		const behind = (e) => {
			for (; e; e = e.parentElement) {
				const color = getComputedStyle(e).backgroundColor, alpha = parts(color)[3];
				if (alpha === undefined || alpha > 0.99) {
					return color;
				}
			}
		};
		const faint = new Set();
		for (const e of document.querySelectorAll("body *")) {
			const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility();
			if (!text || e.closest(".unseen")) {
				continue;
			}
			const [x, y] = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => b - a), ratio = (x + 0.05) / (y + 0.05);
			if (ratio < 4.5) {
				faint.add(e.tagName + "." + e.className + " " + ratio.toFixed(2));
			}
		}
		return [...faint].join("; ");
	})()`))
}

// The tests with a browser are not run beside others: it takes all that there is of
// a small machine.

// ofThePage is said by tests of what the page does by itself. What serves it is gone
// through by TestStatusPage, which is enough for the race detector.
func ofThePage(t *testing.T) {
	if racedetector.On {
		t.Skip("it is of the page alone")
	}
}

// The page of the demo, as a visitor finds it: alive, and to be worked with.
func TestStatusPage(t *testing.T) {
	b := newBrowser(t)
	p, page := demo(t)
	b.size(1280, 900, 1)
	b.prefer("prefers-color-scheme", "light")
	b.do(chromedp.Navigate(page))
	b.until(`document.documentElement.dataset.link === "live"`)
	b.until(`document.querySelectorAll("tr.call").length >= 5`)
	require.Contains(t, b.text("#note"), "This is a demo")

	// Figures come, and change.
	calls := `Number(document.querySelector("#lately").textContent.replace(/,/g, "").match(/^\d+/)[0])`
	before := is[int](b, calls)
	b.until(fmt.Sprintf("%s > %d", calls, before))
	b.until(`document.querySelector("#spent").textContent.match(/\$0\.0*[1-9]/) !== null`)
	b.until(`document.querySelectorAll("#accounts tbody").length === 3`)
	b.until(`[...document.querySelectorAll("#accounts .bar i")].some((i) => i.style.transform !== "scaleX(0)")`)
	require.True(t, is[bool](b, `[...document.querySelectorAll("canvas")].every((c) => {
		const pixels = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
		return c.width > 300 && pixels.some((v) => v !== 0);
	})`), "something is drawn")
	require.Regexp(t, `^Requests per second, now: [\d.]+ at once, `, is[string](b, `document.querySelector("#plot-requests canvas").getAttribute("aria-label")`))

	// A key of harbour's is refused, and is tried again after ten minutes, less each second.
	b.until(`document.querySelector(".keys [data-until]") !== null`)
	countdown := func() int {
		var m, s int
		_, err := fmt.Sscanf(b.text(".keys [data-until]"), "%d:%d", &m, &s)
		require.NoError(t, err)
		return 60*m + s
	}
	first := countdown()
	require.Greater(t, first, 60)
	require.LessOrEqual(t, first, 600)
	eventually(t, "it counts down", func() bool { return countdown() <= first-2 })
	require.Contains(t, b.text("#items"), "is refused (401)")

	// A request opens and closes by mouse and by keyboard, and what is open stays.
	row := `document.querySelector("tr.call button")`
	id := is[string](b, row+`.dataset.call`)
	is[any](b, row+`.click()`)
	b.until(`document.querySelector("#call-` + id + `") !== null`)
	require.Contains(t, b.text("#call-"+id), "/chat/completions")
	require.Equal(t, "true", is[string](b, `document.querySelector("[data-call='`+id+`']").getAttribute("aria-expanded")`))
	now := is[int](b, calls)
	b.until(fmt.Sprintf("%s > %d", calls, now+5))
	require.True(t, is[bool](b, `document.querySelector("#call-`+id+`") !== null`))
	is[any](b, `document.querySelector("[data-call='`+id+`']").focus()`)
	b.do(chromedp.KeyEvent("\r"))
	b.until(`document.querySelector("#call-` + id + `") === null`)
	require.Equal(t, id, is[string](b, `document.activeElement.dataset.call`), "the focus is where it was")

	is[any](b, `document.querySelector("#only").click()`)
	b.until(`[...document.querySelectorAll("tr.call .pill")].every((p) => p.textContent !== "200" || p.closest("tr").querySelectorAll(".tries i:not([data-kind=ok])").length > 0)`)
	is[any](b, `document.querySelector("#pause").click()`)
	top := is[string](b, row+`.dataset.call`)
	now = is[int](b, calls)
	b.until(fmt.Sprintf("%s > %d", calls, now+5))
	require.Equal(t, top, is[string](b, row+`.dataset.call`), "it is paused")

	// Light and dark, by the system's preference and by the switch, which is kept.
	color := func() string { return is[string](b, `getComputedStyle(document.body).backgroundColor`) }
	light := color()
	b.legible()
	b.picture("desktop-light", true)
	b.prefer("prefers-color-scheme", "dark")
	b.until(`getComputedStyle(document.body).backgroundColor !== "` + light + `"`)
	dark := color()
	b.legible()
	b.picture("desktop-dark", true)
	b.prefer("prefers-color-scheme", "light")
	require.Equal(t, light, color())
	is[any](b, `document.querySelector("#theme").click()`)
	require.Equal(t, "Theme: dark", b.text("#theme"))
	require.Equal(t, dark, color())
	b.do(chromedp.Navigate(page))
	b.until(`document.querySelectorAll("tr.call").length > 0`)
	require.Equal(t, dark, color(), "it is kept")

	// On a telephone, and on a large screen.
	for _, width := range []int64{360, 768, 2560} {
		b.size(width, 780, 2)
		b.until(fmt.Sprintf("window.innerWidth === %d", width))
		b.until(`document.querySelectorAll("tr.call").length > 5`)
		is[any](b, `document.querySelector("tr.call button[aria-expanded='false']").click()`)
		b.until(`document.querySelector("tr.detail") !== null`)
		b.fits()
		require.Greater(t, is[float64](b, `document.querySelector("tr.call td").getBoundingClientRect().width`), 70.0, "room for a model's name")
		if width == 360 {
			b.picture("phone", false)
			is[any](b, `document.querySelector("#accounts").scrollIntoView()`)
			b.picture("phone-accounts", false)
			is[any](b, `document.querySelector("#calls").scrollIntoView()`)
			b.picture("phone-calls", false)
			is[any](b, `scrollTo(0, 0)`)
		}
	}
	b.prefer("prefers-reduced-motion", "reduce")
	require.Equal(t, "0s", is[string](b, `getComputedStyle(document.querySelector(".bar i")).transitionDuration`))
	require.Empty(t, b.complaints())
	p.stop()
	require.NotContains(t, p.log(), "path=/chat/completions", "the demo's own requests are not in its log")
}

// While the gateway is away the page says so, and how old its figures are; when it
// is back, so is the page.
func TestStatusPageReconnects(t *testing.T) {
	ofThePage(t)
	b := newBrowser(t)
	srv := fake(t)
	config := "status: {listen: '127.0.0.1:" + freePort(t) + "'}\n"
	p := serve(t, srv.URL, config)
	b.do(chromedp.Navigate(p.page()))
	b.until(`document.documentElement.dataset.link === "live"`)
	require.Equal(t, "All is well", b.text("#verdict"))
	require.Contains(t, b.text("#lately"), "No requests")
	require.Contains(t, b.text("#calls-empty"), "No requests yet")
	require.Contains(t, b.text("#accounts"), "nothing answered yet")
	b.fits()
	b.picture("empty", true)
	c := client(t)
	whole(t, post(t, c, p.url+"/chat/completions", chatBody))
	b.until(`document.querySelectorAll("tr.call").length === 1`)

	p.signal(syscall.SIGKILL)
	_ = p.ended()
	b.until(`document.documentElement.dataset.link === "lost"`)
	b.until(`document.querySelector("#lost").innerText.match(/^Connection lost, reconnecting\. What is shown is of \d\d:\d\d:\d\d, \d+ s ago\.$/) !== null`)
	require.Equal(t, "connection lost", b.text("#link"))
	require.Equal(t, "Not known", b.text("#verdict"))
	require.Equal(t, "It was: All is well.", b.text("#lately"))
	require.Equal(t, "0.55", is[string](b, `getComputedStyle(document.querySelector("main")).opacity`))
	b.picture("lost", true)

	again := serve(t, srv.URL, config)
	b.until(`document.documentElement.dataset.link === "live"`)
	require.True(t, is[bool](b, `document.querySelector("#lost").hidden`))
	require.Equal(t, "All is well", b.text("#verdict"))
	b.until(`document.querySelectorAll("tr.call").length === 0`) // it is another process
	whole(t, post(t, c, again.url+"/chat/completions", chatBody))
	b.until(`document.querySelectorAll("tr.call").length === 1`)

	// An orderly end is told of while it lasts, and does not wait for viewers.
	again.stop()
	b.until(`document.documentElement.dataset.link === "lost"`)
	require.Empty(t, b.complaints("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_CONNECTION_RESET", "net::ERR_EMPTY_RESPONSE"))
}

// What somebody reads stays, once, over a connection that breaks and over a restart of
// the gateway.
func TestStatusPageKeepsWhatIsOpen(t *testing.T) {
	ofThePage(t)
	var behind atomic.Pointer[url.URL]
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(behind.Load()) }, ErrorLog: log.New(io.Discard, "", 0),
	})
	t.Cleanup(proxy.Close) // after the browser, which it waits for
	b := newBrowser(t)
	srv := fake(t)
	config := "status: {listen: '127.0.0.1:0'}\n"
	c := client(t)
	before := func(p *process) {
		u, err := url.Parse(p.page())
		require.NoError(t, err)
		behind.Store(u)
	}
	ask := func(p *process) {
		whole(t, post(t, c, p.url+"/chat/completions", chatBody))
	}
	again := func() {
		proxy.CloseClientConnections()
		b.until(`document.documentElement.dataset.link === "lost"`)
		b.until(`document.documentElement.dataset.link === "live"`)
	}
	shown := func(calls int) {
		b.Helper()
		b.until(fmt.Sprintf(`document.querySelectorAll("tr.call").length === %d`, calls))
		time.Sleep(2500 * time.Millisecond) // some messages more
		require.Equal(b, calls, is[int](b, `document.querySelectorAll("tr.call").length`))
		require.Equal(b, 1, is[int](b, `document.querySelectorAll("tr.detail").length`))
	}
	p := serve(t, srv.URL, config)
	before(p)
	b.do(chromedp.Navigate(proxy.URL))
	b.until(`document.documentElement.dataset.link === "live"`)
	ask(p)
	b.until(`document.querySelectorAll("tr.call").length === 1`)
	is[any](b, `document.querySelector("tr.call button").click()`)
	b.until(`document.querySelectorAll("tr.detail").length === 1`)
	open := is[string](b, `document.querySelector("tr.detail").id`)
	again()
	shown(1)

	p2 := serve(t, srv.URL, config)
	before(p2)
	again()
	shown(1)
	ask(p2) // the first request of this gateway, too
	shown(2)
	require.Equal(t, open, is[string](b, `document.querySelector("tr.detail").id`))
	is[any](b, `document.querySelectorAll("tr.call button")[1].click()`)
	b.until(`document.querySelectorAll("tr.call").length === 1`)
	require.Equal(t, 0, is[int](b, `document.querySelectorAll("tr.detail").length`))
	p.stop()
	p2.stop()
}

// A page that is watched for long knows of trouble what one knows that begins now.
func TestStatusPageKeepsTrouble(t *testing.T) {
	ofThePage(t)
	b := newBrowser(t)
	srv := fake(t)
	p := serve(t, srv.URL, "status: {listen: '127.0.0.1:0'}\n")
	b.do(chromedp.Navigate(p.page()))
	b.until(`document.documentElement.dataset.link === "live"`)
	c := client(t)
	ask := func(body string) {
		resp := post(t, c, p.url+"/chat/completions", body)
		_, _ = all(resp)
		last := resp.Header.Get("X-Request-Id")
		b.until(`document.querySelector("tr.call button")?.dataset.call === "` + last + `"`)
	}
	ask(`{"model": "deepseek-flash", "messages": "wrong"}`)
	for range 4 {
		for range 39 {
			whole(t, post(t, c, p.url+"/chat/completions", chatBody))
		}
		ask(chatBody)
	}
	is[any](b, `document.querySelector("#only").click()`)
	b.until(`document.querySelectorAll("tr.call").length === 1`)
	require.Contains(t, b.text("tr.call"), "rejected")
	p.stop()
}

// Things that are told in the same words, but for a number, are each there once.
func TestStatusPageOfLikeItems(t *testing.T) {
	ofThePage(t)
	b := newBrowser(t)
	srv := fake(t)
	srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
		down := deepseektest.ServiceUnavailable()
		return &down
	})
	p := serve(t, srv.URL, "status: {listen: '127.0.0.1:0'}\nretry: {max_attempts: 1}\nbreaker: {in_a_row: 2, open_for: 10m}\n")
	b.do(chromedp.Navigate(p.page()))
	c := client(t)
	for _, model := range []string{"model-1", "model-2"} {
		for range 3 {
			resp := post(t, c, p.url+"/chat/completions", strings.Replace(chatBody, "deepseek-flash", model, 1))
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
			_, _ = all(resp)
		}
	}
	b.until(`document.querySelector("#items").textContent.includes("model-2 at")`)
	time.Sleep(2500 * time.Millisecond) // some messages more
	for _, model := range []string{"model-1", "model-2"} {
		require.Equal(t, 1, is[int](b, `[...document.querySelectorAll("#items li")].filter((e) => e.textContent.includes("`+model+` at")).length`), b.text("#items"))
	}
	p.stop()
}

// Whatever names there are, they are text; and the key that the page is locked
// with is asked for once.
func TestStatusPageShowsText(t *testing.T) {
	ofThePage(t)
	b := newBrowser(t)
	srv := fake(t)
	key := gateway.NewKey()
	const evil = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>`
	long := strings.Repeat("Donaudampfschifffahrt", 40)
	p := serve(t, srv.URL, `
status: {listen: '127.0.0.1:0', keys: '`+gateway.HashKey(key)+`'}
accounts:
  - {name: '`+evil+`', keys: env:DEEPSEEK_API_KEY}
models: {known: '`+evil+long+`'}
`)
	require.Equal(t, http.StatusUnauthorized, status(t, client(t), p.page()))
	u, err := url.Parse(p.page())
	require.NoError(t, err)
	u.User = url.UserPassword("operator", key)
	b.size(360, 780, 1)
	b.do(chromedp.Navigate(u.String()))
	b.until(`document.documentElement.dataset.link === "live"`)
	c := client(t)
	for _, model := range []string{"known", "deepseek-flash", strings.ReplaceAll(evil, `"`, `\"`), long} {
		whole(t, post(t, c, p.url+"/chat/completions", strings.Replace(chatBody, "deepseek-flash", model, 1)))
	}
	b.until(`document.querySelectorAll("tr.call").length === 4`)
	is[any](b, `document.querySelectorAll("tr.call button").forEach((e) => e.click())`)
	b.until(`document.querySelectorAll("tr.detail").length === 4`)
	time.Sleep(1200 * time.Millisecond) // for anything to go off
	require.True(t, is[bool](b, `window.hacked === undefined`))
	require.Equal(t, 0, is[int](b, `document.querySelectorAll("main img, main script").length`))
	require.Contains(t, b.text("#calls"), evil)
	require.Contains(t, b.text("#accounts"), evil)
	require.NotContains(t, b.text("body"), upstreamKey)
	require.NotContains(t, b.text("body"), key)
	b.fits()
	b.picture("hostile", true)
	require.Empty(t, b.complaints())
	p.stop()
}

// A thousand accounts are no burden: the first are shown, all on demand, and each
// can be found.
func TestStatusPageOfAThousandAccounts(t *testing.T) {
	ofThePage(t)
	b := newBrowser(t)
	srv := fake(t)
	keys := t.TempDir()
	var config strings.Builder
	config.WriteString("status: {listen: '127.0.0.1:0'}\nstrategy: round_robin\naccounts:\n")
	for i := range 1000 {
		file := filepath.Join(keys, fmt.Sprint(i))
		require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf("sk-thousand-%d\n", i)), 0o600))
		fmt.Fprintf(&config, "  - {name: 'account %d', keys: 'file:%s'}\n", i, file)
	}
	p := serve(t, srv.URL, config.String())
	b.size(1280, 900, 1)
	b.do(chromedp.Navigate(p.page()))
	b.until(`document.querySelectorAll("#accounts tbody").length === 20`)
	require.Equal(t, "1,000 active", b.text("#accounts-sum"))
	resp := post(t, client(t), p.url+"/chat/completions", chatBody) // the fake knows none of the keys
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	_, _ = all(resp)
	b.until(`document.querySelector("#accounts-sum").textContent.includes("unauthorized")`)
	require.Contains(t, b.text("#accounts tbody"), "unauthorized", "what is broken comes first")
	require.Regexp(t, `more have no key that is accepted|is accepted`, b.text("#items"))
	is[any](b, `document.querySelector("#accounts-all").click()`)
	b.until(`document.querySelectorAll("#accounts tbody").length === 1000`)
	b.do(chromedp.SendKeys(chromedp.ID("find"), "account 777"))
	b.until(`document.querySelectorAll("#accounts tbody").length === 1`)
	assert.Contains(t, b.text("#accounts tbody"), "account 777")
	b.size(360, 780, 1)
	b.fits()
	b.picture("thousand", false)
	require.Empty(t, b.complaints())
	p.stop()
}

// Pictures of the demo at work, for the README.
func TestPictures(t *testing.T) {
	wait, err := time.ParseDuration(os.Getenv(picturesAfter))
	if os.Getenv(picturesIn) == "" || err != nil {
		t.Skip("set " + picturesIn + " to a directory and " + picturesAfter + " to a duration, such as 4m")
	}
	_, page := demo(t)
	b := newBrowser(t)
	b.size(1280, 1060, 1.5)
	b.prefer("prefers-color-scheme", "light")
	b.do(chromedp.Navigate(page))
	time.Sleep(wait)
	b.until(`document.querySelectorAll("tr.call").length > 10`)
	b.picture("light", false)
	b.prefer("prefers-color-scheme", "dark")
	time.Sleep(time.Second)
	b.picture("dark", false)
	require.Empty(t, b.complaints())
}

// The demo has traffic of its own, unless it is told to be quiet, and a page that
// shows it.
func TestDemoTraffic(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--quiet"}} {
		p, page := demo(t, args...)
		c := client(t)
		if args != nil {
			whole(t, post(t, c, p.url+"/chat/completions", chatBody))
		}
		ended := 0
		for lines := bufio.NewReader(watch(t, c, page)); ended == 0; {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			ended = strings.Count(line, `"outcome":`)
		}
		if args != nil {
			require.Equal(t, 1, ended, "what was asked for here alone")
		}
		p.stop()
		require.Equal(t, args != nil, strings.Contains(p.log(), "msg=answered"), "the log is for others' requests")
	}
}

// The page is served as the gateway is, its keys follow the file, and viewers do
// not hold up an end.
func TestStatusPageIsServed(t *testing.T) {
	t.Parallel()
	srv := fake(t)
	dir := t.TempDir()
	roots := certificate(t, dir)
	key, fresh := gateway.NewKey(), gateway.NewKey()
	p := serve(t, srv.URL, "tls: {cert: "+dir+"/cert.pem, key: "+dir+"/key.pem}\nstatus: {listen: '127.0.0.1:0', keys: '"+gateway.HashKey(key)+"'}\n")
	require.True(t, strings.HasPrefix(p.page(), "https://"))
	c := &http.Client{Transport: trusting(t, roots)}
	get := func(path, key string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, p.page()+path, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := c.Do(req)
		require.NoError(t, err)
		return resp
	}
	resp := get("", key)
	require.Contains(t, whole(t, resp), "<title>Seawall</title>")
	require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
	stream := get("events", key)
	events := bufio.NewReader(stream.Body)
	next := func() string {
		for {
			line, err := events.ReadString('\n')
			require.NoError(t, err)
			if strings.HasPrefix(line, "data: ") {
				return line
			}
		}
	}
	require.Contains(t, next(), `"full":true`)

	p.rewrite(gateway.HashKey(key), gateway.HashKey(fresh))
	p.signal(syscall.SIGHUP)
	p.waitCount("reloaded", 1)
	for key, want := range map[string]int{key: http.StatusUnauthorized, fresh: http.StatusOK} {
		resp := get("", key)
		_, _ = all(resp)
		require.Equal(t, want, resp.StatusCode)
	}
	require.Contains(t, next(), `"circuits"`, "who watches goes on")
	require.Equal(t, http.StatusNotFound, status(t, c, p.url+"/"), "it is not where the programs are")

	began := time.Now()
	srv.Enqueue(deepseektest.PauseAfter(3, 3*time.Second))
	call := post(t, c, p.url+"/chat/completions", streamBody)
	p.signal(syscall.SIGTERM)
	eventually(t, "it is told", func() bool { return strings.Contains(next(), "Shutting down") })
	require.Contains(t, whole(t, call), "data: [DONE]")
	require.NoError(t, p.ended())
	require.Less(t, time.Since(began), patience/2)
	_, _ = all(stream)
}
