package deepseek

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

func TestSharingIsChecked(t *testing.T) {
	state := NewMemoryState()
	for field, s := range map[string]Sharing{
		"Sharing.State":    {},
		"Sharing.Lease":    {State: state, Lease: 99 * time.Millisecond},
		"Sharing.Interval": {State: state, Lease: time.Second, Interval: 251 * time.Millisecond},
		"Sharing.Replicas": {State: state, Replicas: -1},
	} {
		_, err := NewReplica(s)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, field, bad.Field)
	}
	_, err := NewTransport(WithAPIKeys("k"), WithSharedState(nil))
	require.ErrorContains(t, err, "SharedState")
}

// A replica is one transport's, and its successors'; a reload goes on with what
// was granted, ends the sharing, and begins it again.
func TestReplicaIsOneTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := NewReplica(Sharing{State: NewMemoryState()})
		require.NoError(t, err)
		defer r.Close()
		base := &noopBase{body: []byte(wholeAnswer)}
		options := func(more ...Option) Option {
			return WithOptions(WithAccounts(Account{Name: "main", Keys: []string{"k"}}), WithBaseURL(DefaultBaseURL), WithTransport(base), WithOptions(more...))
		}
		first, err := NewTransport(options(WithSharedState(r)))
		require.NoError(t, err)
		_, err = NewTransport(options(WithSharedState(r)))
		require.ErrorContains(t, err, "is another transport's")
		slot := func(tr *Transport) SlotStats { return tr.Stats().Accounts[0].Models[0] }

		post(t, &http.Client{Transport: first}, DefaultBaseURL)
		time.Sleep(time.Second)
		require.Equal(t, 2500, slot(first).Permits, "all of it: there is no other")
		second, err := first.Successor(options(WithSharedState(r)), WithMaxConcurrency(5))
		require.NoError(t, err)
		require.Equal(t, 2500, slot(second).Permits)
		require.True(t, second.Stats().Sharing.Connected)

		third, err := second.Successor(options())
		require.NoError(t, err)
		require.Nil(t, third.Stats().Sharing)
		require.Equal(t, 2500, slot(third).Permits)
		time.Sleep(time.Minute)
		post(t, &http.Client{Transport: third}, DefaultBaseURL)

		fourth, err := third.Successor(options(WithSharedState(r)))
		require.NoError(t, err)
		require.Equal(t, 1, slot(fourth).Permits, "it has to ask")
		post(t, &http.Client{Transport: fourth}, DefaultBaseURL)
		time.Sleep(time.Second)
		require.Equal(t, 2500, slot(fourth).Permits)
		require.NoError(t, r.Close())
		require.False(t, fourth.Stats().Sharing.Connected)
		post(t, &http.Client{Transport: fourth}, DefaultBaseURL)
	})
}

// Sharing is no matter of a call: it costs none an allocation.
func TestSharingCostsNoAllocation(t *testing.T) {
	base := &noopBase{body: []byte(wholeAnswer)}
	costs := func(more ...Option) float64 {
		client, err := NewHTTPClient(append(more, WithAPIKeys(manyKeys(1)...), WithTransport(base), WithBaseURL(DefaultBaseURL))...)
		require.NoError(t, err)
		post(t, client, DefaultBaseURL)
		return testing.AllocsPerRun(2000, func() { post(t, client, DefaultBaseURL) })
	}
	r, err := NewReplica(Sharing{State: NewMemoryState(), Lease: time.Hour})
	require.NoError(t, err)
	defer r.Close()
	alone, shared := costs(), costs(WithSharedState(r))
	if !racedetector.On {
		require.InDelta(t, alone, shared, 0.5)
	}
}

// More accounts than one report is of are told in several.
func TestReplicaWithManyAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3*slotsAtOnce + 7
		state := NewMemoryState()
		var transports []*Transport
		for range 2 {
			r, err := NewReplica(Sharing{State: state})
			require.NoError(t, err)
			defer r.Close()
			tr, err := NewTransport(WithAPIKeys(manyKeys(n)...), WithStrategy(RoundRobin{}), WithTransport(&noopBase{body: []byte(wholeAnswer)}),
				WithBaseURL(DefaultBaseURL), WithSharedState(r))
			require.NoError(t, err)
			transports = append(transports, tr)
		}
		for range 3 * n {
			for _, tr := range transports {
				post(t, &http.Client{Transport: tr}, DefaultBaseURL)
			}
		}
		time.Sleep(4 * time.Second)
		told := 0
		seen := []Stats{transports[0].Stats(), transports[1].Stats()}
		for i := range n {
			sum := 0
			for _, s := range seen {
				a := s.Accounts[i]
				if len(a.Models) > 0 {
					sum += a.Models[0].Permits
				}
			}
			if sum == 2500 {
				told++
			}
		}
		require.Equal(t, n, told, "divided to the last")
		// Each account has something to tell of.
		for _, a := range *transports[0].Pool().accounts.Load() {
			a.broke(t.Context(), nil, "402", time.Minute, time.Now())
			a.tell(SharedFact{Cause: cause402, For: time.Minute})
		}
		time.Sleep(4 * time.Second)
		for _, a := range transports[1].Stats().Accounts {
			require.Equal(t, StateOutOfBalance, a.State, a.Name)
		}
		time.Sleep(30 * time.Second)
		for _, tr := range transports {
			require.Empty(t, tr.options.replica.active, "what is not used is not reported")
		}
	})
}

func TestSharingIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		var mu sync.Mutex
		down := true
		state := NewMemoryState()
		r, err := NewReplica(Sharing{Replicas: 3, State: exchangeFunc(func(ctx context.Context, report *SharedReport) (*SharedView, error) {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return nil, errors.New("nobody there")
			}
			return state.Exchange(ctx, report)
		})})
		require.NoError(t, err)
		defer r.Close()
		_, err = NewTransport(WithAPIKeys("k"), WithSharedState(r), WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
		require.NoError(t, err)
		time.Sleep(20 * time.Second)
		mu.Lock()
		down = false
		mu.Unlock()
		time.Sleep(20 * time.Second)
		require.NoError(t, r.Close()) // it writes no more
		text := logs.String()
		require.Equal(t, 1, bytes.Count(logs.Bytes(), []byte("shared state lost")), text)
		require.Contains(t, text, `level=WARN msg="shared state lost, going on with an equal share" replicas=3 error="nobody there"`)
		require.Equal(t, 1, bytes.Count(logs.Bytes(), []byte("sharing with other replicas")), text)
	})
}

type exchangeFunc func(context.Context, *SharedReport) (*SharedView, error)

func (f exchangeFunc) Exchange(ctx context.Context, r *SharedReport) (*SharedView, error) {
	return f(ctx, r)
}

// Nobody is ever given what another holds, whatever is reported; and a report that
// comes late is refused.
func TestMemoryStateGivesNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 50
		m := NewMemoryState()
		held := map[string]int{}
		seq := uint64(0)
		for i := range 2000 {
			name := fmt.Sprint("r", i*7%5)
			seq++
			held[name] = max(held[name], 1)
			report := &SharedReport{Replica: name, Seq: seq, Lease: 10 * time.Second, Replicas: 5, Slots: []SharedSlot{{
				Account: "a", Model: "m", Held: held[name], Ask: 1 + i*13%40, Limit: SharedLimit{Limit: limit},
			}}}
			v, err := m.Exchange(t.Context(), report)
			require.NoError(t, err)
			_, err = m.Exchange(t.Context(), report)
			require.ErrorIs(t, err, errLateReport)
			held[name] = max(1, v.Slots[0].Share)
			sum := 0
			for _, n := range held {
				sum += n
			}
			require.LessOrEqual(t, sum, limit+len(held))
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// That something is over is told to those who come later only if somebody has said so:
// what has ended by itself, all know by themselves.
func TestMemoryStateTellsWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemoryState()
		_, err := m.Exchange(t.Context(), &SharedReport{Replica: "a", Seq: 1, Lease: time.Minute, News: []SharedFact{
			{Account: "short", Cause: cause429, For: time.Second}, {Account: "long", Cause: cause402, For: time.Minute}, {Account: "over", Cause: cause401},
		}})
		require.NoError(t, err)
		time.Sleep(time.Second)
		v, err := m.Exchange(t.Context(), &SharedReport{Replica: "b", Seq: 1, Lease: time.Minute})
		require.NoError(t, err)
		require.Equal(t, []SharedFact{{Account: "long", Cause: cause402, For: 59 * time.Second}, {Account: "over", Cause: cause401}}, v.Facts)
	})
}
