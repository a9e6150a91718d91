package main

import (
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

func TestMain(m *testing.M) {
	if os.Getenv(asBench) != "" {
		main()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// linux skips a test where there is no /proc.
func linux(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc to read what processes use from")
	}
	if testing.Short() {
		t.Skip("it takes a few seconds")
	}
}

func TestCost(t *testing.T) {
	linux(t)
	if racedetector.On {
		t.Skip("what it measures is another program")
	}
	var out strings.Builder
	err := cost(t.Context(), costSettings{rounds: 1, phase: 300 * time.Millisecond, open: 20}, &out)
	require.NoError(t, err, out.String())
	for _, name := range []string{"direct", "ReverseProxy", "seawall", "seawall all on"} {
		require.Contains(t, out.String(), "\n"+name+" ")
	}
	require.NotContains(t, out.String(), "NaN")
}

// The load by itself, before the upstream server alone.
func TestLoad(t *testing.T) {
	srv := httptest.NewServer(newUpstream())
	defer srv.Close()
	address := strings.TrimPrefix(srv.URL, "http://")
	for kind, least := range map[string]int{whole: 8, stream: 8 * chunks} {
		got := load(t.Context(), address, kind, 8, 50*time.Millisecond)
		require.NoError(t, got.err)
		require.Zero(t, got.broken)
		require.GreaterOrEqual(t, got.n, least, kind)
	}
	open, err := openStreams(address, 8)
	require.NoError(t, err)
	require.Len(t, open, 8)
	for _, c := range open {
		c.close()
	}
}

// The soak of ten minutes, for some seconds.
func TestSoak(t *testing.T) {
	linux(t)
	var out strings.Builder
	require.NoError(t, soak(t.Context(), soakSettings{length: 3 * time.Second, clients: 32}, &out), &out)
	require.Contains(t, out.String(), "; 0 ended in silence")
}

func TestCommands(t *testing.T) {
	var out strings.Builder
	require.ErrorContains(t, run(context.Background(), []string{"nonsense"}, &out), "there is no command nonsense")
}

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.Equal(t, 2.0, median([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{3, 1, 2, 4}))
	require.Equal(t, 3*time.Second, quantile([]time.Duration{3 * time.Second, time.Second}, 0.99))
}
