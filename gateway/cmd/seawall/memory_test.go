package main

import (
	"bufio"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/deepseektest"
	"github.com/seawall-go/deepseek/internal/racedetector"
)

// mostMemory is how much resident memory an open stream may take, both
// connections and all.
const mostMemory = 70 << 10

func TestMemoryOfStreams(t *testing.T) {
	const streams = 1000
	if racedetector.On {
		t.Skip("the race detector takes much more")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc to read resident memory from")
	}
	srv := fake(t, deepseektest.WithoutRecords())
	p := serve(t, srv.URL, "")
	c := client(t)
	c.Transport.(*http.Transport).MaxIdleConnsPerHost = streams
	// Once, so that what is there for all streams is there.
	whole(t, post(t, c, p.url+"/chat/completions", streamBody))
	before := p.resident()

	srv.Handle(func(*deepseektest.Request) *deepseektest.Reply {
		stall := deepseektest.StallAfter(20)
		return &stall
	})
	open := make([]*http.Response, streams)
	var opening sync.WaitGroup
	for from := range 20 {
		opening.Go(func() {
			for i := from; i < streams; i += 20 {
				open[i] = post(t, c, p.url+"/chat/completions", streamBody)
				lines := bufio.NewReader(open[i].Body)
				for range 20 {
					if _, err := lines.ReadString('\n'); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	opening.Wait()
	each := (p.resident() - before) / streams
	t.Logf("%d KiB a stream", each>>10)
	require.Less(t, each, mostMemory)
	for _, resp := range open {
		_ = resp.Body.Close()
	}
	eventually(t, "all places are free again", func() bool { return srv.InFlight("main", "") == 0 })
	p.stop()
}

// resident is the process's resident memory, in bytes.
func (p *process) resident() int {
	p.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	require.NoError(p, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(p, err)
			return kib << 10
		}
	}
	p.Fatal("no VmRSS")
	return 0
}
