package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
)

// ledger keeps what each client has spent this month, in a file if it has one: a
// budget must not begin anew with each restart. Safe for concurrent use.
type ledger struct {
	path     string
	log      *slog.Logger
	counters Counters // that know what is spent elsewhere; nil: nothing is

	// Guarded by mu.
	mu       sync.Mutex
	month    string // such as "2026-11"
	currency string // of all amounts
	spent    map[string]deepseek.Money
	saver    *time.Timer // set while there is something to be saved

	writing sync.Mutex
}

// page is the ledger as it is in its file: amounts are in billionths.
type page struct {
	Month    string                    `json:"month"`
	Currency string                    `json:"currency,omitempty"`
	Spent    map[string]deepseek.Money `json:"spent"`
}

// saveAfter is how much of the time before a crash is lost.
const saveAfter = time.Second

// openLedger reads what was spent. An empty path is a ledger without a file.
func openLedger(path, currency string, counters Counters, log *slog.Logger) (*ledger, error) {
	l := &ledger{path: path, log: log, counters: counters, currency: currency, spent: map[string]deepseek.Money{}}
	if path == "" {
		return l, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	var p page
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return nil, &deepseek.ConfigError{Field: "State", Value: path, Reason: "cannot be read: " + reason(err)}
	}
	if p.Currency != "" && p.Currency != currency && len(p.Spent) > 0 {
		return nil, &deepseek.ConfigError{Field: "State", Value: path, Reason: "has amounts in " + p.Currency + ", and the prices are in " + currency + ": it needs another file"}
	}
	l.month = p.Month
	maps.Copy(l.spent, p.Spent)
	if counters != nil {
		for name, amount := range l.spent {
			counters.Seed(inCurrency(l.month, currency), name, int64(amount))
		}
	}
	return l, nil
}

// anew begins anew if amounts are in another currency from now on.
func (l *ledger) anew(currency string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if currency != l.currency {
		l.currency = currency
		clear(l.spent)
	}
}

// inCurrency is what counters know a month by: amounts in another currency are not
// among those in dollars.
func inCurrency(month, currency string) string {
	if currency == "USD" {
		return month
	}
	return month + " " + currency
}

// period is what counters know the month of now by.
func (l *ledger) period(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return inCurrency(monthOf(now), l.currency)
}

func monthOf(now time.Time) string { return now.UTC().Format("2006-01") }

// turn begins a new month, if there is one. l.mu is held.
func (l *ledger) turn(now time.Time) {
	// A call that ends late does not bring the last month back; a month that is none
	// of the next ones was begun by a clock that was wrong.
	if m := monthOf(now); m > l.month || l.month > monthOf(now.AddDate(0, 0, 31)) {
		l.month = m
		clear(l.spent)
	}
}

func (l *ledger) of(name string, now time.Time) deepseek.Money {
	elsewhere := l.ask(name, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	l.learn(name, elsewhere, now)
	return l.spent[name]
}

// ask is what a client has spent, as far as counters know. They may have to ask a
// server, so l.mu must not be held.
func (l *ledger) ask(name string, now time.Time) deepseek.Money {
	if l.counters == nil {
		return 0
	}
	known, _ := l.counters.Spent(l.period(now), name)
	return deepseek.Money(known)
}

// learn takes in what counters know of the month of now, if that is not over by now.
// l.mu is held.
func (l *ledger) learn(name string, known deepseek.Money, now time.Time) {
	if monthOf(now) == l.month && known > l.spent[name] {
		l.spent[name] = known
	}
}

// most is what a client may have spent, as far as can be guessed.
func (l *ledger) most(name string, now time.Time) deepseek.Money {
	spent := l.of(name, now)
	if l.counters != nil {
		_, most := l.counters.Spent(l.period(now), name)
		spent = max(spent, deepseek.Money(most))
	}
	return spent
}

// add adds what was spent in a currency: if it is another one by now, it counts nowhere
// but in the counters.
func (l *ledger) add(name string, amount deepseek.Money, currency string, now time.Time) {
	if amount == 0 {
		return
	}
	if l.counters != nil {
		l.counters.Spend(inCurrency(monthOf(now), currency), name, int64(amount))
	}
	elsewhere := l.ask(name, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	if l.counters == nil && currency == l.currency {
		l.spent[name] += amount
	}
	l.learn(name, elsewhere, now)
	if l.path != "" && l.saver == nil {
		l.saver = time.AfterFunc(saveAfter, func() {
			if err := l.save(); err != nil && l.log != nil {
				l.log.Error("what clients have spent cannot be saved", slog.String("error", err.Error()))
			}
		})
	}
}

// save writes the file, whole or not at all.
func (l *ledger) save() error {
	if l.path == "" {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if l.saver != nil {
		l.saver.Stop()
		l.saver = nil
	}
	data, err := json.MarshalIndent(page{l.month, l.currency, l.spent}, "", "  ")
	l.mu.Unlock()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), filepath.Base(l.path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", l.path, err)
	}
	return nil
}

// afford says why a client may not spend more.
func (l *ledger) afford(name string, budget float64, currency string, now time.Time) *problem {
	if budget == 0 {
		return nil
	}
	spent := l.most(name, now)
	if spent.Float64() < budget {
		return nil
	}
	year, month, _ := now.UTC().Date()
	return &problem{
		status: 402, kind: "insufficient_quota", code: "budget_exceeded",
		message: fmt.Sprintf("client %q has spent %.2f of its %.2f %s for this month; the next one begins on %s",
			name, spent.Float64(), budget, currency, time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)),
	}
}
