package statuspage

import (
	"fmt"
	"strings"
	"time"

	"github.com/seawall-go/deepseek"
)

// outlook is what an operator wants to know first: is it up, what is broken, since
// when, and what is being done about it.
type outlook struct {
	Level string `json:"level"` // of the worst; good if nothing is worse than a note
	Text  string `json:"text"`
	Items []item `json:"items"` // the worst first
}

// item is one thing that is not as it should be.
type item struct {
	Level string `json:"level"`
	Text  string `json:"text"`
	Doing string `json:"doing,omitempty"` // what is done about it, or should be
	Since int64  `json:"since,omitempty"`
	Until int64  `json:"until,omitempty"`
}

// From when on something is worth telling.
const (
	restWorth    = 2 * time.Second // an account's rest after 429s
	waitWorth    = 2 * time.Second // the longest wait for room
	waitTooLong  = 15 * time.Second
	failedWorth  = 0.02 // share of requests
	failedMost   = 0.5
	failedAtOnce = 3    // requests, of which any share is worth telling
	repairWorth  = 0.05 // share of requests
	namedMost    = 3    // accounts in the same state that are named one by one
)

// look judges a transport. lately is the last minute, by the second.
func look(stats *deepseek.Stats, lately []counts, draining bool, now time.Time, marks map[subject]time.Time) outlook {
	var o outlook
	if draining {
		o.add(item{Level: warn, Text: "Shutting down", Doing: "requests under way are brought to their end; new ones should go elsewhere"})
	}
	o.endpoints(stats, now, marks)
	o.accounts(stats, now, marks)
	o.queue(stats, now)
	o.requests(lately)
	o.Level, o.Text = good, "All is well"
	switch {
	case o.has(bad):
		o.Level, o.Text = bad, "Down"
	case o.has(warn):
		o.Level, o.Text = warn, "Working, with trouble"
	}
	return o
}

func (o *outlook) has(level string) bool {
	for _, i := range o.Items {
		if i.Level == level {
			return true
		}
	}
	return false
}

// add puts an item after those that are as bad.
func (o *outlook) add(one item) {
	rank := map[string]int{bad: 0, warn: 1, note: 2}
	at := 0
	for at < len(o.Items) && rank[o.Items[at].Level] <= rank[one.Level] {
		at++
	}
	one.Text = cut(one.Text, longest)
	o.Items = append(o.Items[:at], append([]item{one}, o.Items[at:]...)...)
}

func (o *outlook) endpoints(stats *deepseek.Stats, now time.Time, marks map[subject]time.Time) {
	up := 0
	for _, e := range stats.Endpoints {
		if e.State != deepseek.EndpointDown {
			up++
		}
	}
	for _, e := range stats.Endpoints {
		others := "until then calls wait, or are refused with Retry-After"
		level := warn
		switch {
		case up == 0:
			level = bad
		case len(stats.Endpoints) > 1:
			others = "other endpoints take its calls"
		}
		if e.State == deepseek.EndpointDown && usable(e.Accounts) == 0 {
			o.add(item{Level: level, Text: "No account of " + e.Name + " is usable", Doing: others})
		}
		for _, b := range e.Breakers {
			c := newCondition(string(b.State), b.For, now, marks[subject{name: "circuit " + b.Endpoint, model: b.Model}])
			name := e.Name
			if b.Model != "" {
				name = b.Model + " at " + name
			}
			one := item{Level: level, Since: c.Since, Until: c.Until}
			switch b.State {
			case deepseek.BreakerOpen:
				one.Text, one.Doing = name+" fails", "it is left alone, then tried again; "+others
			case deepseek.BreakerHalfOpen:
				one.Text, one.Doing = name+" fails", "a few calls are finding out whether it is well again"
			case deepseek.BreakerRecovering:
				one.Level, one.Text, one.Doing = note, name+" answers again", "its load comes back bit by bit"
			default:
				continue
			}
			o.add(one)
		}
	}
}

// usable counts the accounts that take calls.
func usable(accounts []deepseek.AccountStats) (n int) {
	for _, a := range accounts {
		if a.State == deepseek.StateActive || a.State == deepseek.StateOnTrial {
			n++
		}
	}
	return n
}

// ailment is what several accounts or keys may have in common.
type ailment struct {
	level string
	who   string // "Account"; of several with an s
	one   string // what it is of one of them
	many  string
	doing string
}

var ailments = map[deepseek.State]ailment{
	deepseek.StateOutOfBalance: {warn, "Account", "is out of balance (402)", "are out of balance (402)", "other accounts take over; it is used again when it is topped up"},
	deepseek.StateUnauthorized: {warn, "Account", "has no key that is accepted (401)", "have no key that is accepted (401)", "other accounts take over; new keys are needed"},
	deepseek.StateCooling:      {warn, "Account", "has no key that may be used now (403)", "have no key that may be used now (403)", "other accounts take over meanwhile"},
	deepseek.StateOnTrial:      {note, "Account", "is on trial", "are on trial", "one call finds out whether it is fit again"},
	deepseek.StateDisabled:     {note, "Account", "is disabled by hand", "are disabled by hand", "nothing, until it is enabled"},
}

var (
	deadKey = ailment{note, "Key", "is refused (401)", "are refused (401)", "other keys of the account are used; replace what is refused"}
	coldKey = ailment{note, "Key", "may not do what is asked (403)", "may not do what is asked (403)", "other keys of the account are used meanwhile"}
	resting = ailment{note, "Account", "rests after 429s", "rest after 429s", "others take its calls, or they wait"}
)

// patients are those who have an ailment.
type patients struct {
	ailment
	names []string
	since int64 // of the first
	until int64 // of the first that ends
}

func (p *patients) add(name string, c condition) {
	p.names = append(p.names, name)
	if c.Since != 0 && (p.since == 0 || c.Since < p.since) {
		p.since = c.Since
	}
	if c.Until != 0 && (p.until == 0 || c.Until < p.until) {
		p.until = c.Until
	}
}

func (o *outlook) accounts(stats *deepseek.Stats, now time.Time, marks map[subject]time.Time) {
	var wards []*patients
	ward := func(a ailment) *patients {
		for _, p := range wards {
			if p.ailment == a {
				return p
			}
		}
		wards = append(wards, &patients{ailment: a})
		return wards[len(wards)-1]
	}
	for i := range stats.Accounts {
		a := newAccountRow(&stats.Accounts[i], now, marks)
		state := stats.Accounts[i].State
		if ill, is := ailments[state]; is {
			ward(ill).add(a.Name, a.condition)
			continue
		}
		for _, k := range a.Keys {
			switch deepseek.State(k.State) {
			case deepseek.StateUnauthorized:
				ward(deadKey).add("#"+k.Fingerprint+" of "+a.Name, k.condition)
			case deepseek.StateCooling:
				ward(coldKey).add("#"+k.Fingerprint+" of "+a.Name, k.condition)
			}
		}
		for j, m := range a.Models {
			if left := stats.Accounts[i].Models[j].For; deepseek.State(m.State) == deepseek.StateCooling && left > restWorth {
				ward(resting).add(a.Name+" for "+m.Model, m.condition)
			}
		}
	}
	for _, p := range wards {
		text := p.who + " " + p.names[0] + " " + p.one
		if n := len(p.names); n > 1 {
			text = p.who + "s " + strings.Join(p.names[:min(n, namedMost)], ", ")
			if n > namedMost {
				text += fmt.Sprintf(" and %d more", n-namedMost)
			}
			text += " " + p.many
		}
		o.add(item{Level: p.level, Text: text, Doing: p.doing, Since: p.since, Until: p.until})
	}
}

func (o *outlook) queue(stats *deepseek.Stats, now time.Time) {
	if stats.Waiting == 0 || stats.LongestWait < waitWorth {
		return
	}
	one := item{Level: note, Text: "A call waits for room", Since: now.Add(-stats.LongestWait).UnixMilli(),
		Doing: "it is sent as soon as an account has room"}
	if stats.Waiting > 1 {
		one.Text, one.Doing = fmt.Sprintf("%d calls wait for room", stats.Waiting), "they are sent in the order that they came in, as accounts have room"
	}
	if stats.LongestWait >= waitTooLong {
		one.Level = warn
	}
	o.add(one)
}

// requests judges how requests have ended lately.
func (o *outlook) requests(lately []counts) {
	var sum counts
	for _, c := range lately {
		for i, n := range c {
			sum[i] += n
		}
	}
	all := sum.requests()
	if all == 0 {
		return
	}
	if share := float64(sum[failed]) / float64(all); sum[failed] >= failedAtOnce && share >= failedWorth {
		one := item{Level: warn, Text: fmt.Sprintf("%d of %d requests failed in the last minute", sum[failed], all),
			Doing: "their clients were told, with Retry-After where it is known when to come again"}
		if share >= failedMost && sum[failed] >= 10 {
			one.Level = bad
		}
		o.add(one)
	}
	if share := float64(sum[repaired]) / float64(all); sum[repaired] >= failedAtOnce && share >= repairWorth {
		o.add(item{Level: note, Text: fmt.Sprintf("%d attempts failed at DeepSeek in the last minute", sum[throttled]+sum[faults]),
			Doing: fmt.Sprintf("%d requests were answered all the same, by another attempt", sum[repaired])})
	}
}
