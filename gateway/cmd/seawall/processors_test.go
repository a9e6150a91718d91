package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fitted is processors of a machine with 8, that were looked at.
type fitted struct {
	*processors
	now      time.Time
	cpu      time.Duration
	there    int
	set, ask int
}

func newFitted() *fitted {
	f := &fitted{now: time.Now(), there: 8}
	f.processors = &processors{
		used: func() time.Duration { return f.cpu },
		most: func() int { f.ask++; return f.there },
		set:  func(int) { f.set++ },
	}
	f.begin(f.now)
	return f
}

// works lets the program use so much of a processor for a while.
func (f *fitted) works(load float64, d time.Duration) {
	for ; d > 0; d -= measureEvery {
		f.now = f.now.Add(measureEvery)
		f.cpu += time.Duration(load * float64(measureEvery))
		f.look(f.now, measureEvery)
	}
}

func TestProcessorsFollowTheLoad(t *testing.T) {
	f := newFitted()
	require.Equal(t, 8, f.n, "all of them at first")
	f.works(0.2, 4*time.Second)
	require.Equal(t, 8, f.n)
	f.works(0.2, 2*time.Second)
	require.Equal(t, 1, f.n, "after some calm time")
	f.works(0.49, time.Minute)
	require.Equal(t, 1, f.n)
	f.works(0.51, measureEvery)
	require.Equal(t, 2, f.n, "at once")
	f.works(0.1, 4*time.Second)
	require.Equal(t, 2, f.n)
	f.works(0.5, measureEvery)
	f.works(0.1, 4*time.Second)
	require.Equal(t, 2, f.n, "the calm time began anew")
	f.works(0.1, 2*time.Second)
	require.Equal(t, 1, f.n)
	f.works(1, measureEvery) // all that one can
	require.Equal(t, 3, f.n)
	f.works(3, measureEvery)
	require.Equal(t, 7, f.n)
	f.works(8, time.Minute)
	require.Equal(t, 8, f.n, "not more than there are")
	f.works(1.5, 6*time.Second)
	require.Equal(t, 4, f.n, "as many as were needed most in the calm time")
}

// Stopping the world takes a moment: it is not done without a reason.
func TestProcessorsAreSetOnlyToChange(t *testing.T) {
	f := newFitted()
	f.works(0.1, 10*time.Second)
	require.Equal(t, 1, f.set)
	f.works(0.1, time.Hour)
	require.Equal(t, 1, f.set)
	require.Equal(t, 1, f.ask)
}

// A container's limit may change.
func TestProcessorsAreThoseThatThereAre(t *testing.T) {
	f := newFitted()
	f.works(8, time.Second)
	f.there = 2
	f.works(8, limitHolds)
	require.Equal(t, 2, f.n)
	f.there = 16
	f.works(2, limitHolds)
	require.Equal(t, 5, f.n)
	f.works(16, limitHolds)
	require.Equal(t, 16, f.n)
}

// The command does it, unless the environment says how many there are to be.
func TestProcessorsOfTheCommand(t *testing.T) {
	start := func(env ...string) (threads func() string) {
		file := filepath.Join(t.TempDir(), "seawall.yaml")
		require.NoError(t, os.WriteFile(file, []byte("listen: 127.0.0.1:0\ntelemetry: {metrics: {listen: 127.0.0.1:0}}\n"), 0o600))
		p := &process{TB: t, cmd: command(t, "serve", file), file: file, done: make(chan error, 1), more: make(chan struct{}, 1)}
		p.cmd.Env = append(p.cmd.Env, env...)
		p.start()
		url := "http://" + p.wait("serving metrics")["address"].(string) + "/metrics"
		return func() string {
			resp, err := http.Get(url)
			require.NoError(t, err)
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			found := regexp.MustCompile(`(?m)^go_sched_gomaxprocs_threads (\d+)$`).FindSubmatch(text)
			require.NotNil(t, found, "%s", text)
			return string(found[1])
		}
	}
	told, fitted := start("GOMAXPROCS=3"), start()
	require.Eventually(t, func() bool { return fitted() == "1" }, patience, 250*time.Millisecond)
	require.Equal(t, "3", told())
}
