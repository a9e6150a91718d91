package deepseek

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// paced is a stream of n texts, each after a gap, that then falls silent.
func paced(n int, gap func(i int) time.Duration, after ...any) []any {
	parts := []any{chunkRole}
	for i := range n {
		parts = append(parts, gap(i), chunkHello)
	}
	return append(append(parts, 10*time.Minute), after...)
}

func steady(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// When a stall is called, by the tempo of the stream before it.
func TestStallIsCalledByTheStreamsOwnTempo(t *testing.T) {
	policy, _ := Resume{}.withDefaults()
	least := policy.MinStall
	limits := Timeouts{BetweenData: 2 * time.Minute, Silence: time.Hour}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name     string
		policy   Resume
		parts    []any
		from, to time.Duration
	}{
		{"quick", Resume{}, paced(40, steady(20*time.Millisecond)), least, least},
		{"slow", Resume{}, paced(40, steady(4*time.Second)), 32 * time.Second, 32 * time.Second},
		{"very slow", Resume{}, paced(40, steady(time.Minute)), 2 * time.Minute, 2 * time.Minute},
		{"jittery", Resume{}, paced(400, func(int) time.Duration { return time.Duration(rng.ExpFloat64() * float64(time.Second)) }), least, time.Minute},
		{"was slow at first", Resume{}, paced(2000, func(i int) time.Duration {
			if i < 5 {
				return 20 * time.Second
			}
			return 100 * time.Millisecond
		}), least, least},
		{"too little known", Resume{}, paced(tempoGaps-1, steady(20*time.Millisecond)), 2 * time.Minute, 2 * time.Minute},
		{"policy", Resume{MinStall: time.Second, StallFactor: 3}, paced(40, steady(500*time.Millisecond)), 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"switched off", Resume{MinStall: -1}, paced(40, steady(20*time.Millisecond)), 2 * time.Minute, 2 * time.Minute},
		{"comments do not count", Resume{}, append(paced(40, steady(20*time.Millisecond))[:81],
			time.Second, keepAlive, time.Second, keepAlive, time.Hour), least, least},
		{"a tool call has begun", Resume{}, append(paced(40, steady(20*time.Millisecond))[:81],
			`data: {"id":"u","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}`+"\n\n", time.Hour),
			2 * time.Minute, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var last time.Time
				base := scripted(streamReply(c.parts...), fails(errReset))
				m, err := NewResume(c.policy)
				require.NoError(t, err)
				resp, err := sendStream(t.Context(), m(guarded(limits, base)))
				require.NoError(t, err)
				source := resp.Body.(eventSource)
				for err == nil {
					if _, err = source.nextEvent(); err == nil {
						last = time.Now()
					}
				}
				var stall *StallError
				require.ErrorAs(t, err, &stall)
				require.Equal(t, "between data", stall.Clock)
				require.GreaterOrEqual(t, stall.After, c.from)
				require.LessOrEqual(t, stall.After, c.to)
				if took := time.Since(last); took < stall.After || took > stall.After+time.Second {
					t.Fatalf("noticed after %s, not %s", took, stall.After) // and up to half a second's wait
				}
				_ = resp.Body.Close()
			})
		})
	}
}

// The time that the reader takes is no gap, and no stall.
func TestTempoLeavesOutTheReadersPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := scripted(streamReply(append(paced(60, steady(20*time.Millisecond))[:121], chunkStop, eventDone)...))
		m, err := NewResume(Resume{})
		require.NoError(t, err)
		resp, err := sendStream(t.Context(), m(guarded(Timeouts{}, base)))
		require.NoError(t, err)
		s := resp.Body.(*resumedStream)
		for i := 0; err == nil; i++ {
			time.Sleep(15 * time.Second)
			if _, err = s.nextEvent(); i > 30 && err == nil && !s.finished.Load() {
				require.Equal(t, int64(2*time.Second), s.tempo.limit.Load())
				require.True(t, s.tempo.on.Load())
			}
		}
		require.NoError(t, resp.Body.Close())
		require.Len(t, base.sent(), 1)
	})
}

// A stall that the tempo calls makes it slower to call the next.
func TestTempoIsMorePatientAfterAStall(t *testing.T) {
	var p tempo
	p.begin(&Resume{MinStall: 10 * time.Second, StallFactor: 8}, new(habit))
	p.on.Store(true)
	require.Equal(t, time.Hour, p.between(time.Hour))
	for range tempoGaps {
		p.gap(int64(time.Second))
		p.gap(0)
	}
	for _, want := range []time.Duration{10, 20, 40, 80, 120} {
		require.Equal(t, want*time.Second, p.between(2*time.Minute))
		require.True(t, p.call())
		p.stalled()
	}
	p.budget = newBudget(1)
	require.True(t, p.call())
	require.False(t, p.call(), "nothing is left to pay with")
	require.Equal(t, time.Hour, p.between(time.Hour))
	p.on.Store(true)
	require.Equal(t, forever, p.between(forever), "switched off by Timeouts")
	p.on.Store(false)
	require.Equal(t, time.Hour, p.between(time.Hour))
}
