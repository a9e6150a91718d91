package statuspage

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
)

// What an operator is told first, in each state that there is.
func TestOutlook(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	account := func(name string, state deepseek.State, left time.Duration) deepseek.AccountStats {
		return deepseek.AccountStats{Name: name, State: state, For: left}
	}
	endpoint := func(name string, state deepseek.EndpointState, circuit deepseek.BreakerState, accounts ...deepseek.AccountStats) deepseek.EndpointStats {
		return deepseek.EndpointStats{Name: name, State: state, Accounts: accounts,
			Breakers: []deepseek.BreakerStats{{Endpoint: name, Model: "m", State: circuit, For: 4 * time.Second}}}
	}
	fit := account("fit", deepseek.StateActive, 0)
	resting := fit
	resting.Models = []deepseek.SlotStats{{Model: "m", State: deepseek.StateCooling, For: 20 * time.Second}}
	blink := fit
	blink.Models = []deepseek.SlotStats{{Model: "m", State: deepseek.StateCooling, For: time.Second}}
	deadKey := fit
	deadKey.Keys = []deepseek.KeyStats{{Fingerprint: "abcd", State: deepseek.StateUnauthorized, For: time.Minute}, {Fingerprint: "ef01", State: deepseek.StateActive}}
	var broken []deepseek.AccountStats
	for i := range 1000 {
		broken = append(broken, account(fmt.Sprintf("account %d", i), deepseek.StateOutOfBalance, time.Minute))
	}
	one := func(c counts) []counts { return []counts{{}, c, {}} }
	for _, c := range []struct {
		name      string
		endpoints []deepseek.EndpointStats
		waiting   int64
		longest   time.Duration
		lately    []counts
		level     string
		items     []string
	}{
		{name: "nothing", endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointUp, deepseek.BreakerClosed, fit)}, level: good},
		{name: "one of two models down", level: warn, items: []string{"warn: m at e fails"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointImpaired, deepseek.BreakerOpen, fit)}},
		{name: "all down", level: bad, items: []string{"bad: m at e fails"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointDown, deepseek.BreakerOpen, fit)}},
		{name: "one of two endpoints down", level: warn, items: []string{"warn: m at e fails"}, endpoints: []deepseek.EndpointStats{
			endpoint("e", deepseek.EndpointDown, deepseek.BreakerOpen, fit), endpoint("f", deepseek.EndpointUp, deepseek.BreakerClosed, fit)}},
		{name: "coming back", level: good, items: []string{"note: m at e answers again"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointImpaired, deepseek.BreakerRecovering, fit)}},
		{name: "no account", level: bad, items: []string{"bad: No account of e is usable", "warn: Account a is out of balance (402)"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointDown, deepseek.BreakerClosed, account("a", deepseek.StateOutOfBalance, time.Minute))}},
		{name: "a thousand accounts", level: warn, items: []string{"warn: Accounts account 0, account 1, account 2 and 997 more are out of balance (402)"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointImpaired, deepseek.BreakerClosed, append(broken, fit)...)}},
		{name: "disabled", level: good, items: []string{"note: Account a is disabled by hand"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointImpaired, deepseek.BreakerClosed, fit, account("a", deepseek.StateDisabled, 0))}},
		{name: "two states", level: warn, items: []string{"warn: Account a has no key that is accepted (401)", "note: Account b is on trial"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointImpaired, deepseek.BreakerClosed, fit, account("b", deepseek.StateOnTrial, 0), account("a", deepseek.StateUnauthorized, 0))}},
		{name: "a dead key", level: good, items: []string{"note: Key #abcd of fit is refused (401)"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointUp, deepseek.BreakerClosed, deadKey)}},
		{name: "a rest", level: good, items: []string{"note: Account fit for m rests after 429s"},
			endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointUp, deepseek.BreakerClosed, resting)}},
		{name: "a blink", level: good, endpoints: []deepseek.EndpointStats{endpoint("e", deepseek.EndpointUp, deepseek.BreakerClosed, blink)}},
		{name: "a short queue", waiting: 5, longest: time.Second, level: good},
		{name: "a queue", waiting: 5, longest: 5 * time.Second, level: good, items: []string{"note: 5 calls wait for room"}},
		{name: "one waits long", waiting: 1, longest: time.Minute, level: warn, items: []string{"warn: A call waits for room"}},
		{name: "a failure", lately: one(counts{answered: 100, failed: 2}), level: good},
		{name: "failures", lately: one(counts{answered: 100, failed: 9}), level: warn, items: []string{"warn: 9 of 109 requests failed in the last minute"}},
		{name: "nothing but failures", lately: one(counts{answered: 1, failed: 20}), level: bad, items: []string{"bad: 20 of 21 requests failed in the last minute"}},
		{name: "repaired", lately: one(counts{answered: 50, repaired: 20, throttled: 7, faults: 30}), level: good, items: []string{"note: 37 attempts failed at DeepSeek in the last minute"}},
		{name: "clients' own faults", lately: one(counts{answered: 1, refused: 50, left: 3}), level: good},
	} {
		t.Run(c.name, func(t *testing.T) {
			stats := deepseek.Stats{Endpoints: c.endpoints, Waiting: c.waiting, LongestWait: c.longest}
			for _, e := range c.endpoints {
				stats.Accounts = append(stats.Accounts, e.Accounts...)
				stats.Breakers = append(stats.Breakers, e.Breakers...)
			}
			if len(c.endpoints) == 0 {
				stats.Endpoints = []deepseek.EndpointStats{{State: deepseek.EndpointUp}}
			}
			o := look(&stats, c.lately, false, now, nil)
			var items []string
			for _, i := range o.Items {
				items = append(items, i.Level+": "+i.Text)
				assert.NotEmpty(t, i.Doing, i.Text)
			}
			require.Equal(t, c.items, items)
			require.Equal(t, c.level, o.Level)
			require.Equal(t, map[string]string{good: "All is well", warn: "Working, with trouble", bad: "Down"}[c.level], o.Text)
		})
	}
}

// What happens again is told once, with how often; with what was before it all.
func TestJournal(t *testing.T) {
	var j journal
	o := j.observer()
	for i := range 5 {
		o.Limit(deepseek.LimitEvent{Account: "a", Model: "m", From: 60 - i, To: 59 - i})
		o.Limit(deepseek.LimitEvent{Account: "a", Model: "m", From: 59 - i, To: 60 - i})
		o.Cooldown(deepseek.CooldownEvent{Account: "a", Model: "m", State: deepseek.StateCooling, Cause: "429", For: 1500 * time.Millisecond})
	}
	o.Fallback(deepseek.FallbackEvent{From: "m", To: "n", Cause: "fault"})
	o.StoreError(deepseek.StoreErrorEvent{Op: "get", Err: fmt.Errorf("no route")})
	list, changes := j.all()
	require.EqualValues(t, 12, changes)
	var texts []string
	for _, e := range list {
		texts = append(texts, fmt.Sprintf("%d× %s: %s", e.Times, e.Level, e.Text))
	}
	require.Equal(t, []string{
		"5× note: account a for m: 55 calls at a time, after 429s; it was 60",
		"5× warn: account a for m: cooling (429), for 1.5 s",
		"0× note: calls for m go to n (fault)",
		"0× warn: the response cache's store fails (get): no route",
	}, texts)
	for i := range 200 {
		o.Cooldown(deepseek.CooldownEvent{Account: fmt.Sprint(i), State: deepseek.StateCooling})
	}
	list, _ = j.all()
	require.Len(t, list, journalKept)
	require.Equal(t, "account 199: cooling", list[journalKept-1].Text)
}
