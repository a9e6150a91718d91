package gateway

import (
	"path/filepath"
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
			l, err := openLedger("", "USD", counters, nil)
			require.NoError(t, err)
			november := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
			december := november.Add(2 * time.Second)
			l.add("a", 100, "USD", november)
			require.EqualValues(t, 100, l.of("a", november))
			require.Zero(t, l.of("a", december))
			l.of("a", november) // a request that began before, and is looked at now
			require.Zero(t, l.of("a", december))
			l.add("a", 7, "USD", december)
			require.Equal(t, deepseek.Money(7), l.of("a", december))
		})
	}
}

// A clock that was years ahead once has not ended all months before that.
func TestLedgerOfAWrongClock(t *testing.T) {
	l, err := openLedger("", "USD", nil, nil)
	require.NoError(t, err)
	now := time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC)
	l.add("a", 1, "USD", now.AddDate(10, 0, 0))
	l.add("a", 100, "USD", now)
	require.EqualValues(t, 100, l.of("a", now))
	require.Zero(t, l.of("a", now.Add(time.Minute)))
}

// What was spent in one currency is nothing in another.
func TestCurrenciesAreApart(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for name, counters := range map[string]Counters{"here": nil, "together": totals{spent: map[string]int64{}}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			l, err := openLedger(path, "USD", counters, nil)
			require.NoError(t, err)
			l.add("a", 100, "USD", now)
			require.NoError(t, l.save())

			_, err = openLedger(path, "CNY", counters, nil)
			var bad *deepseek.ConfigError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, "State", bad.Field)
			require.Contains(t, bad.Reason, "USD")

			l.anew("USD")
			require.EqualValues(t, 100, l.of("a", now))
			l.anew("CNY")
			require.Zero(t, l.of("a", now))
			l.add("a", 100, "USD", now) // of a call that began before
			require.Zero(t, l.of("a", now))
			l.add("a", 7, "CNY", now)
			require.EqualValues(t, 7, l.of("a", now))
			require.NoError(t, l.save())
			again, err := openLedger(path, "CNY", nil, nil)
			require.NoError(t, err)
			require.EqualValues(t, 7, again.of("a", now))
		})
	}
}
