package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
)

// totals are counters that know what was spent in each month, and nothing else.
type totals struct {
	Counters
	spent map[string]int64
}

func (c totals) Spend(month, _ string, amount int64)       { c.spent[month] += amount }
func (c totals) Spent(month, _ string) (known, most int64) { return c.spent[month], c.spent[month] }

// What began in the last month counts there: it takes nothing of the new one's
// budget, whose first request has come already.
func TestMonthsAreApart(t *testing.T) {
	for name, counters := range map[string]Counters{"here": nil, "together": totals{spent: map[string]int64{}}} {
		t.Run(name, func(t *testing.T) {
			l, err := openLedger("", counters, nil)
			require.NoError(t, err)
			november := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
			december := november.Add(2 * time.Second)
			l.add("a", 100, november)
			require.EqualValues(t, 100, l.of("a", november))
			require.Zero(t, l.of("a", december))
			l.of("a", november) // a request that began before, and is looked at now
			require.Zero(t, l.of("a", december))
			l.add("a", 7, december)
			require.Equal(t, deepseek.Money(7), l.of("a", december))
		})
	}
}

// A clock that was years ahead once has not ended all months before that.
func TestLedgerOfAWrongClock(t *testing.T) {
	l, err := openLedger("", nil, nil)
	require.NoError(t, err)
	now := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	l.add("a", 1, now.AddDate(10, 0, 0))
	l.add("a", 100, now)
	require.EqualValues(t, 100, l.of("a", now))
	require.Zero(t, l.of("a", now.Add(time.Minute)))
}
