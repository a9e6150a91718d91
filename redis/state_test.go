package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
)

// Whatever replicas report, Redis answers as MemoryState does.
func TestStateIsTheSameAsInMemory(t *testing.T) {
	s := newServer(t)
	for seed := range uint64(4) {
		s.do("flushall")
		const lease = 1600 * time.Millisecond
		memory, remote := deepseek.NewMemoryState(), s.connect().State()
		rng := rand.New(rand.NewPCG(seed, 7))
		type replica struct {
			name    string
			seq     uint64
			after   int64
			limits  [3]deepseek.SharedLimit
			permits [3]int
		}
		var all []*replica
		for i := range 4 {
			all = append(all, &replica{name: fmt.Sprint("r", i), permits: [3]int{1, 1, 1}})
		}
		var epochs [2]string
		exchange := func() {
			r := all[rng.IntN(len(all))]
			r.seq += uint64(rng.IntN(10)) / 2 // now and then one comes late
			report := &deepseek.SharedReport{
				Replica: r.name, Seq: r.seq, Lease: lease, Replicas: 1 + rng.IntN(5), Leave: rng.IntN(20) == 0, Epoch: epochs[0], After: r.after,
			}
			for i, model := range []string{"deepseek-flash", "a/b: c\x00ü", ""} {
				limit := r.limits[i]
				slot := deepseek.SharedSlot{Account: "main %/" + model, Model: model, Want: rng.IntN(50), Peak: rng.IntN(30), Held: rng.IntN(20), Ask: 1 + rng.IntN(60)}
				slot.Limit = deepseek.SharedLimit{Version: limit.Version, Limit: 1 + rng.IntN(80), RefusedAt: rng.IntN(90), Told: rng.IntN(2) == 0}
				slot.Learned = rng.IntN(3) == 0
				report.Slots = append(report.Slots, slot)
			}
			for range rng.IntN(3) {
				report.News = append(report.News, deepseek.SharedFact{
					Account: fmt.Sprint("acc/ount ", rng.IntN(2)), Key: fmt.Sprint(rng.IntN(2)), Model: "m", Cause: "401", For: time.Duration(rng.IntN(3)) * time.Duration(3600+rng.IntN(1e6)) * time.Second,
				})
			}
			want, wantErr := memory.Exchange(t.Context(), report)
			report.Epoch = epochs[1]
			got, err := remote.Exchange(t.Context(), report)
			require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err)
			if err != nil {
				return
			}
			epochs = [2]string{want.Epoch, got.Epoch}
			require.NotEmpty(t, got.Epoch)
			got.Epoch = want.Epoch
			for i := range want.Facts {
				require.InDelta(t, want.Facts[i].For, got.Facts[i].For, float64(2*time.Second))
				got.Facts[i].For = want.Facts[i].For
			}
			require.Equal(t, want, got, "%+v", report)
			r.after = got.At
			for i, slot := range got.Slots {
				r.limits[i] = slot.Limit
			}
		}
		for range 150 {
			exchange()
		}
		time.Sleep(lease/2 + 50*time.Millisecond) // nothing is held back any more
		for range 150 {
			exchange()
		}
		time.Sleep(lease + 50*time.Millisecond) // all leases end
		for range 50 {
			exchange()
		}
	}
}

// Whatever is found in Redis in the place of what was put there, an exchange
// fails, or brings what can be.
func TestStateWithOtherPeoplesData(t *testing.T) {
	s := newServer(t)
	state := s.connect().State()
	seq := uint64(0)
	exchange := func() (*deepseek.SharedView, error) {
		seq++
		return state.Exchange(t.Context(), &deepseek.SharedReport{
			Replica: "r", Seq: seq, Lease: time.Second, Replicas: 1,
			Slots: []deepseek.SharedSlot{{Account: "main", Model: "m", Held: 1, Ask: 50, Limit: deepseek.SharedLimit{Limit: 60}}},
			News:  []deepseek.SharedFact{{Account: "main", Cause: "402", For: time.Minute}},
		})
	}
	for _, field := range []string{"version", "limit", "born", "refused", "told", "r:other", "r:r"} {
		for _, value := range []string{"", "x", "-5", "1e300", "nan", "inf", "1 2", "9999999999999999 1 1 9999999999999999", "\xff\x00"} {
			s.do("flushall")
			_, err := exchange()
			require.NoError(t, err)
			s.do("hset", "{seawall}:slot:main:m", field, value)
			for range 2 {
				if v, err := exchange(); err == nil {
					require.LessOrEqual(t, v.Slots[0].Share, 50)
				}
			}
		}
	}
	for _, name := range []string{"", "///", "a/b/c", "%zz///402", "main///402\x00", "main///418"} {
		s.do("flushall")
		_, err := exchange()
		require.NoError(t, err)
		s.do("hset", "{seawall}:facts", name, "junk")
		s.do("zadd", "{seawall}:order", 99, name)
		v, err := exchange()
		require.NoError(t, err)
		for _, f := range v.Facts {
			require.LessOrEqual(t, f.For, time.Minute)
		}
	}
	for _, key := range []string{"{seawall}:slot:main:m", "{seawall}:meta", "{seawall}:facts", "{seawall}:order", "{seawall}:replicas"} {
		s.do("flushall")
		s.do("set", key, "a string")
		_, err := exchange()
		require.Error(t, err)
	}
}

// A server that goes on from an older copy of its own has given out fewer numbers of
// facts than replicas have heard of; those that are new are told all the same.
func TestStateThatGoesBackInTime(t *testing.T) {
	s := newServer(t)
	state := s.connect().State()
	fact := func(i int) deepseek.SharedFact {
		return deepseek.SharedFact{Account: strconv.Itoa(i), Cause: "402", For: time.Minute}
	}
	r := &deepseek.SharedReport{Replica: "r", Lease: time.Minute, Replicas: 1}
	exchange := func(news ...deepseek.SharedFact) (told []string) {
		r.Seq++
		r.News = news
		v, err := state.Exchange(t.Context(), r)
		require.NoError(t, err)
		r.Epoch, r.After = v.Epoch, v.At
		for _, f := range v.Facts {
			told = append(told, f.Account)
		}
		return told
	}
	exchange(fact(0))
	old := map[string]string{}
	for _, key := range s.client.Keys(t.Context(), "*").Val() {
		old[key] = s.client.Dump(t.Context(), key).Val()
	}
	require.Equal(t, []string{"1", "2", "3"}, exchange(fact(1), fact(2), fact(3)))
	s.do("flushall")
	for key, value := range old {
		s.do("restore", key, 0, value)
	}
	require.Contains(t, exchange(fact(4)), "4")
	require.Equal(t, []string{"5"}, exchange(fact(5)))
}

// Names that only a separator tells apart are two.
func TestStateTellsSlotsApart(t *testing.T) {
	s := newServer(t)
	state := s.connect().State()
	for i, slot := range []deepseek.SharedSlot{{Account: "team:x", Model: "m"}, {Account: "team", Model: "x:m"}, {Account: "team%3Ax", Model: "m"}} {
		slot.Held, slot.Ask, slot.Limit.Limit = 1, 5, 10
		v, err := state.Exchange(t.Context(), &deepseek.SharedReport{
			Replica: strconv.Itoa(i), Seq: 1, Lease: time.Minute, Replicas: 1, Slots: []deepseek.SharedSlot{slot},
		})
		require.NoError(t, err)
		require.Empty(t, v.Slots[0].Others, slot.Account)
	}
}

func TestStateIsUsedByItsPrefixAlone(t *testing.T) {
	s := newServer(t)
	report := func(seq uint64) *deepseek.SharedReport {
		return &deepseek.SharedReport{Replica: "r", Seq: seq, Lease: time.Minute, Replicas: 1,
			Slots: []deepseek.SharedSlot{{Account: "main", Model: "m", Held: 1, Ask: 50, Limit: deepseek.SharedLimit{Limit: 60}}}}
	}
	n := s.connect()
	_, err := n.State().Exchange(t.Context(), report(1))
	require.NoError(t, err)
	_, err = n.State().Exchange(t.Context(), report(1))
	require.ErrorContains(t, err, "older than one")
	require.NoError(t, n.Store().Set(t.Context(), "key", []byte("value"), time.Minute))
	keys, err := s.client.Keys(context.Background(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.Regexp(t, `^(\{seawall\}|seawall):`, key)
		ttl, err := s.client.PTTL(context.Background(), key).Result()
		require.NoError(t, err)
		require.Positive(t, ttl, "%s would stay for ever", key)
	}
}

// As package deepseek has it of MemoryState.
func TestStateTellsWhatIsOver(t *testing.T) {
	s := newServer(t)
	state := s.connect().State()
	_, err := state.Exchange(t.Context(), &deepseek.SharedReport{Replica: "a", Seq: 1, Lease: time.Minute, News: []deepseek.SharedFact{
		{Account: "short", Cause: "429", For: 50 * time.Millisecond}, {Account: "long", Cause: "402", For: time.Minute}, {Account: "over", Cause: "401"},
	}})
	require.NoError(t, err)
	time.Sleep(60 * time.Millisecond)
	r := &deepseek.SharedReport{Replica: "b", Seq: 1, Lease: time.Minute}
	v, err := state.Exchange(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, v.Facts, 2)
	require.Equal(t, "long", v.Facts[0].Account)
	require.Positive(t, v.Facts[0].For)
	require.Equal(t, deepseek.SharedFact{Account: "over", Cause: "401"}, v.Facts[1])

	// Nothing but what has ended is to be told.
	r.Seq, r.Epoch, r.After = 2, v.Epoch, v.At
	r.News = []deepseek.SharedFact{{Account: "short", Cause: "429", For: time.Millisecond}}
	_, err = state.Exchange(t.Context(), r)
	require.NoError(t, err)
	time.Sleep(5 * time.Millisecond)
	r.Seq, r.News = 3, nil
	v, err = state.Exchange(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, v.Facts)
	require.EqualValues(t, 4, v.At)
}
