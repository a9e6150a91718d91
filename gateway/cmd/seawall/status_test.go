package main

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// serveDemoProcess starts the demo and waits until it tells where it is.
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

// Pictures of the demo, for the README and for whoever works on the page.
func TestPictures(t *testing.T) {
	wait, err := time.ParseDuration(os.Getenv("SEAWALL_PICTURES_AFTER"))
	if os.Getenv(picturesIn) == "" || err != nil {
		t.Skip("set " + picturesIn + " to a directory and SEAWALL_PICTURES_AFTER to a duration, such as 3m")
	}
	_, page := demo(t)
	b := newBrowser(t)
	b.size(1280, 900, 1)
	b.prefer("prefers-color-scheme", "light")
	b.do(chromedp.Navigate(page))
	time.Sleep(wait)
	b.until(`document.querySelectorAll("tr.call").length > 10`)
	b.picture("light", true)
	b.prefer("prefers-color-scheme", "dark")
	time.Sleep(time.Second)
	b.picture("dark", true)
	b.size(360, 780, 2)
	time.Sleep(2 * time.Second)
	b.picture("phone", true)
	require.Empty(t, b.complaints())
}
