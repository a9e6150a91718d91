//go:build !race

// Minutes of traffic take seconds, but ten times as many with the race detector;
// what could race is tested elsewhere.

package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// played plays what the command's flags of the same names would.
func played(t *testing.T, scenarios, clients string) (results []result, missed []string) {
	o := options{scenarios: scenarios, clients: clients, seed: 1, progress: io.Discard}
	results, err := o.play(t)
	require.NoError(t, err)
	r := report{w: io.Discard}
	for i := range results {
		r.scenario(&results[i])
	}
	return results, r.missed
}

// The README tells of all scenarios; these have the figures that a change of the
// library moves most easily.
func TestSeawallMeetsItsTargets(t *testing.T) {
	_, missed := played(t, `^(uneven limits, untold|falling limits|20 % 503|outage, 503|streams cut|streams stalled|slow account|conversations.*)$`, "Seawall")
	require.Empty(t, missed)
}

func TestFiguresAreRepeatable(t *testing.T) {
	text := func() string {
		results, _ := played(t, "^(streams cut|key revoked)$", "Seawall|openai-go")
		var b bytes.Buffer
		(&report{w: &b}).write(results, nil)
		return b.String()
	}
	once := text()
	require.Contains(t, once, "| Seawall |")
	require.Contains(t, once, "| openai-go |")
	require.Equal(t, once, text())
}

// No client is better than the best possible, or it would not be that; and each
// checks its answers as its scenario needs, so that none is taken for valid that
// is not.
func TestBestIsABound(t *testing.T) {
	results, _ := played(t, "^(steady|garbage|streams cut)$", "Seawall|^failsafe-go$|net/http")
	for _, res := range results {
		for _, f := range res.figures {
			require.LessOrEqual(t, f.goodput, 1.01, "%s: %s", res.s.name, f.client)
			require.Positive(t, f.answers, "%s: %s", res.s.name, f.client)
			require.Zero(t, f.wrong, "%s: %s", res.s.name, f.client)
		}
	}
}
