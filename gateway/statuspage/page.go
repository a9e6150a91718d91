// Package statuspage is the gateway's status page: what an operator needs to see at
// three in the morning. It is one [http.Handler], with all that a browser needs
// embedded; the page asks for nothing from elsewhere.
//
//	page := statuspage.New(statuspage.Settings{})
//	settings.OnEnd = page.OnEnd
//	g, err := gateway.New(settings, deepseek.WithObserver(page.Observer()), …)
//	page.Watch(g)
//	http.ListenAndServe("127.0.0.1:8081", page)
//
// The page shows accounts, keys by their fingerprints, circuits, the queue, what
// happened in the last five minutes, recent requests with their attempts, and
// money. Prompts, answers and keys are never in it, because nothing that it is
// made from has them.
//
// It is live: each viewer has a stream of events, one a second. What they all get
// is made once, and only while somebody watches. Between times the page costs
// counting, in constant memory, and it starts no goroutine.
package statuspage

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// Settings are what a page goes by. The zero value is the default.
type Settings struct {
	// Keys are the hashes of the keys that let somebody see the page, as
	// gateway.HashKey makes them. A browser asks for one as the password, with any
	// name; programs send it as Authorization: Bearer. Default: none, and the page
	// is for this machine alone.
	Keys []string
	// Viewers is how many may watch at a time. Default 32.
	Viewers int
	// Note is told at the top of the page, such as what is peculiar about this
	// gateway. Default: nothing.
	Note string
	// Version is that of the program. Default: nothing.
	Version string
}

const defaultViewers = 32

// Page is the status page of one gateway. It is safe for concurrent use.
type Page struct {
	settings Settings
	keys     atomic.Pointer[[]string]
	assets   map[string]asset
	edition  string // of the assets, so that a page in a browser notices that it is out of date
	started  time.Time

	gateway atomic.Pointer[gateway.Gateway]
	series  series
	calls   calls
	journal journal
	feed    feed

	closed chan struct{}
	close  sync.Once
}

var _ http.Handler = (*Page)(nil)

// New returns a page that watches nothing yet.
func New(s Settings) *Page {
	if s.Viewers <= 0 {
		s.Viewers = defaultViewers
	}
	p := &Page{settings: s, started: time.Now(), closed: make(chan struct{})}
	p.SetKeys(s.Keys)
	p.assets, p.edition = readAssets()
	return p
}

// Watch has the page show g. Until then it says that there is nothing to show.
func (p *Page) Watch(g *gateway.Gateway) { p.gateway.Store(g) }

// SetKeys replaces the keys of the settings. Who watches already goes on.
func (p *Page) SetKeys(hashes []string) { p.keys.Store(&hashes) }

// OnEnd is for the gateway's [gateway.Settings].
func (p *Page) OnEnd(e gateway.RequestEnd) {
	now := time.Now()
	p.series.ended(now, &e)
	p.calls.add(&e, now)
}

// Observer is for the gateway's transport.
func (p *Page) Observer() deepseek.Observer {
	o := p.journal.observer()
	o.Attempt = func(e deepseek.AttemptEvent) { p.series.attempted(time.Now(), e) }
	return o
}

// Close ends the streams of those who watch, and all that would begin: a server
// that shuts down waits for them else. It can be called more than once.
func (p *Page) Close() { p.close.Do(func() { close(p.closed) }) }

// asset is a file that the page consists of.
type asset struct {
	kind string
	tag  string
	data []byte
}

//go:embed page
var files embed.FS

// readAssets reads what is embedded.
func readAssets() (assets map[string]asset, edition string) {
	assets = map[string]asset{}
	all := sha256.New()
	entries, _ := fs.ReadDir(files, "page") // cannot fail: it is in the binary
	for _, e := range entries {
		data, _ := fs.ReadFile(files, "page/"+e.Name())
		sum := sha256.Sum256(data)
		_, _ = all.Write(sum[:])
		assets["/"+e.Name()] = asset{mime.TypeByExtension(path.Ext(e.Name())), `"` + hex.EncodeToString(sum[:8]) + `"`, data}
	}
	assets["/"] = assets["/index.html"]
	return assets, hex.EncodeToString(all.Sum(nil)[:8])
}

// policy lets the page have its own files and its stream, and nothing else: no
// script or style within the document, no frame around it, and no text that
// becomes markup (trusted types).
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// ServeHTTP serves the page at / and what belongs to it below that.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !p.admit(w, r) {
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the status page is only to be read", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/events" {
		p.events(w, r)
		return
	}
	a, ok := p.assets[r.URL.Path]
	if !ok {
		http.Error(w, "there is no such page; the status page is at /", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(a.data)
	}
}
