package statuspage

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
)

// The journal's bounds: how many entries it keeps, and for how long an entry that
// comes again is counted as the same one.
const (
	journalKept = 60
	sameWithin  = time.Minute
)

// The levels of what is told.
const (
	good = "good"
	note = "note" // to be looked at by day
	warn = "warn" // it works, but not as it should
	bad  = "bad"  // it does not work
)

// subject is what an entry is about: an account, one of its keys or models, or
// an endpoint's circuit.
type subject struct{ name, key, model string }

// entry is something that happened.
type entry struct {
	Number int64  `json:"n"`  // of the entry, for as long as it comes again
	At     int64  `json:"at"` // ms, the last time
	Times  int    `json:"times,omitempty"`
	Level  string `json:"level"`
	Text   string `json:"text"`

	change  int64 // the last change of the journal that it was in
	about   subject
	what    string // entries with the same of these two are one
	limited int    // the limit, before it fell
}

// journal is what happened last, and since when what is not well is so. The zero
// value is ready; safe for concurrent use.
type journal struct {
	mu      sync.Mutex
	number  int64
	changes int64
	entries []entry               // oldest first; guarded by mu
	since   map[subject]time.Time // when what is put aside was; guarded by mu
}

// observer is what fills it.
func (j *journal) observer() deepseek.Observer {
	return deepseek.Observer{
		Cooldown: func(e deepseek.CooldownEvent) {
			j.add(cooldownEntry(e), e.State == deepseek.StateActive)
		},
		Limit: func(e deepseek.LimitEvent) {
			if e.To >= e.From { // it grows by one at a time
				return
			}
			text := fmt.Sprintf("%d calls at a time, after 429s", e.To)
			if e.To == 1 {
				text = "one call at a time, after 429s"
			}
			j.add(entry{Level: note, about: subject{name: e.Account, model: e.Model}, what: "limit", limited: e.From, Text: text}, false)
		},
		Breaker: func(e deepseek.BreakerEvent) {
			j.add(breakerEntry(e), e.To == deepseek.BreakerClosed)
		},
		Fallback: func(e deepseek.FallbackEvent) {
			j.add(entry{Level: note, about: subject{name: "fallback", key: e.To, model: e.From}, what: e.Cause,
				Text: "calls for " + e.From + " go to " + e.To + " (" + e.Cause + ")"}, false)
		},
		StoreError: func(e deepseek.StoreErrorEvent) {
			j.add(entry{Level: warn, about: subject{name: "store"}, what: e.Op,
				Text: "the response cache's store fails (" + e.Op + "): " + told(e.Err)}, false)
		},
	}
}

func cooldownEntry(e deepseek.CooldownEvent) entry {
	about := subject{e.Account, e.Key, e.Model}
	level, text := warn, describe(about)+": "+string(e.State)
	if e.State == deepseek.StateActive {
		level, text = good, describe(about)+" is back"
	}
	if e.Cause != "" {
		text += " (" + e.Cause + ")"
	}
	if e.For > 0 {
		text += ", for " + lasting(e.For)
	}
	return entry{Level: level, Text: text, about: about, what: string(e.State)}
}

func breakerEntry(e deepseek.BreakerEvent) entry {
	at := e.Endpoint
	if e.Model != "" {
		at = e.Model + " at " + at
	}
	one := entry{Level: warn, about: subject{name: "circuit " + e.Endpoint, model: e.Model}, what: string(e.To)}
	switch e.To {
	case deepseek.BreakerOpen:
		one.Level, one.Text = bad, at+" fails: left alone for "+lasting(e.OpenFor)
	case deepseek.BreakerHalfOpen:
		one.Text = at + ": a few calls find out whether it is well again"
	case deepseek.BreakerRecovering:
		one.Level, one.Text = note, at+" answers again: the load comes back bit by bit"
	default:
		one.Level, one.Text = good, at+" is well again"
	}
	return one
}

// lasting tells a duration as people do: 0.3 s, 12 s, 5 min.
func lasting(d time.Duration) string {
	switch s := d.Seconds(); {
	case s >= 120:
		return fmt.Sprintf("%.0f min", s/60)
	case s >= 10:
		return fmt.Sprintf("%.0f s", s)
	default:
		return fmt.Sprintf("%.1f s", s)
	}
}

// describe names a subject.
func describe(s subject) string {
	text := "account " + s.name
	if s.key != "" {
		text = "key #" + s.key + " of " + text
	}
	if s.model != "" {
		text += " for " + s.model
	}
	return text
}

// add notes an entry. well is whether its subject has nothing any more.
func (j *journal) add(e entry, well bool) {
	now := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	switch _, known := j.since[e.about]; {
	case e.what == "limit":
	case well:
		delete(j.since, e.about)
	case !known:
		if j.since == nil {
			j.since = map[subject]time.Time{}
		}
		j.since[e.about] = now
	}
	j.changes++
	e.At, e.change = now.UnixMilli(), j.changes
	for i, old := range slices.Backward(j.entries) {
		if now.UnixMilli()-old.At > sameWithin.Milliseconds() {
			break
		}
		if old.about == e.about && old.what == e.what {
			e.Number, e.Times, e.limited = old.Number, max(old.Times, 1)+1, old.limited
			j.entries = append(slices.Delete(j.entries, i, i+1), e)
			return
		}
	}
	j.number++
	e.Number = j.number
	j.entries = push(j.entries, e, journalKept)
}

// all returns the entries, oldest first, and the last change.
func (j *journal) all() ([]entry, int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := slices.Clone(j.entries)
	for i := range list {
		if e := &list[i]; e.what == "limit" {
			e.Text = fmt.Sprintf("%s: %s; it was %d", describe(e.about), e.Text, e.limited)
		}
		list[i].Text = cut(list[i].Text, longest)
	}
	return list, j.changes
}

// marks returns since when subjects are not well, and forgets those that are by
// now: what a time was set for comes back without an event.
func (j *journal) marks(asOf time.Time, unwell func(subject) bool) map[subject]time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	marks := make(map[subject]time.Time, len(j.since))
	for s, at := range j.since {
		switch {
		case unwell(s):
			marks[s] = at
		case at.Before(asOf):
			delete(j.since, s)
		}
	}
	return marks
}
