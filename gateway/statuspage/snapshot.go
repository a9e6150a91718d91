package statuspage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/gateway"
)

// snapshot is the page at one moment, or what has changed of it. Times are in
// milliseconds since 1970 and durations in milliseconds, so that the browser can
// count down between two of them; no time is 0.
type snapshot struct {
	Full     bool              `json:"full,omitempty"`
	Now      int64             `json:"now"`
	Edition  string            `json:"edition"` // of the page's files
	About    about             `json:"about"`
	Outlook  outlook           `json:"outlook"`
	Totals   totals            `json:"totals"`
	Accounts []json.RawMessage `json:"accounts"`       // of a change: those that are not as they were
	Gone     []string          `json:"gone,omitempty"` // accounts that are no more
	Circuits []circuitRow      `json:"circuits"`
	Clients  []clientRow       `json:"clients"`
	Series   seriesRow         `json:"series"`
	Calls    []callRow         `json:"calls"`
	Journal  []entry           `json:"journal"`

	second  int64
	names   []string // of the accounts
	number  int64    // of the last call
	changes int64    // of the journal
}

// about is what is shown.
type about struct {
	Version  string `json:"version,omitempty"`
	Note     string `json:"note,omitempty"`
	Upstream string `json:"upstream"`
	Started  int64  `json:"started"`
	Viewers  int    `json:"viewers"`
}

// totals are the sums over everything, since the start.
type totals struct {
	InFlight int     `json:"in_flight"` // at DeepSeek's
	Limit    int     `json:"limit"`     // of accounts that are fit, for the models that they have been of use for
	Waiting  int64   `json:"waiting"`
	Longest  int64   `json:"longest"` // wait
	Calls    int64   `json:"calls"`
	Attempts int64   `json:"attempts"`
	Resumed  int64   `json:"resumed"`
	Hedges   int64   `json:"hedges"`
	Won      int64   `json:"won"`
	Retries  float64 `json:"retries"` // left in the budget; -1: no bound

	Currency  string  `json:"currency"`
	Spent     float64 `json:"spent"`
	Estimated float64 `json:"estimated"` // of that
	Saved     float64 `json:"saved"`     // by the context cache
	Unpriced  int64   `json:"unpriced"`
	Hit       int64   `json:"hit"`
	Miss      int64   `json:"miss"`
	Output    int64   `json:"output"`

	CacheHits  int64   `json:"cache_hits"` // of the response cache, calls that shared one included
	CacheSaved float64 `json:"cache_saved"`
}

// condition is the state of something, since when, and until when.
type condition struct {
	State string `json:"state"`
	Since int64  `json:"since,omitempty"`
	Until int64  `json:"until,omitempty"`
}

type accountRow struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint,omitempty"` // where there are several
	condition
	Keys   []keyRow  `json:"keys"`
	Models []slotRow `json:"models"`
	Spent  float64   `json:"spent"`
	Saved  float64   `json:"saved"`
}

type keyRow struct {
	Fingerprint string `json:"key"`
	condition
}

type slotRow struct {
	Model string `json:"model"`
	condition
	InFlight int     `json:"in_flight"`
	Limit    int     `json:"limit"`
	Answered int64   `json:"answered"`
	Refused  int64   `json:"refused"`
	Spent    float64 `json:"spent"`
	Saved    float64 `json:"saved"`
}

type circuitRow struct {
	Endpoint string `json:"endpoint"`
	Model    string `json:"model"`
	condition
	First  int64   `json:"first,omitempty"` // data of streams, lately
	Faults float64 `json:"faults,omitempty"`
}

type clientRow struct {
	Name     string  `json:"name"`
	InFlight int     `json:"in_flight"`
	Requests int     `json:"requests"`
	Tokens   int     `json:"tokens"`
	Spent    float64 `json:"spent"`
}

// seriesRow is a part of the plots: from a second on, one point each.
type seriesRow struct {
	From   int64    `json:"from"`
	Points []counts `json:"points"`
}

// snapshot makes the page as it is now.
func (p *Page) snapshot(now time.Time, viewers int) *snapshot {
	s := &snapshot{
		Full: true, Now: now.UnixMilli(), Edition: p.edition, second: now.Unix(),
		About: about{Version: p.settings.Version, Note: p.settings.Note, Started: p.started.UnixMilli(), Viewers: viewers},
		Calls: p.calls.all(),
	}
	// The second that runs is not over.
	s.Series.From = s.second - seriesLength + 1
	s.Series.Points = p.series.between(s.Series.From, s.second)
	s.Journal, s.changes = p.journal.all()
	if n := len(s.Calls); n > 0 {
		s.number = s.Calls[n-1].Number
	}
	g := p.gateway.Load()
	if g == nil {
		s.Outlook = outlook{Level: note, Text: "Nothing to show yet"}
		return s
	}
	t := g.Transport()
	stats := t.Stats()
	s.About.Upstream = t.BaseURL().Host
	if n := len(stats.Endpoints); n > 1 {
		s.About.Upstream = fmt.Sprintf("%d endpoints", n)
	}
	marks := p.journal.marks(now, unwell(&stats))
	s.sum(&stats)
	for _, e := range stats.Endpoints {
		for i := range e.Accounts {
			a := newAccountRow(&e.Accounts[i], now, marks)
			if len(stats.Endpoints) > 1 {
				a.Endpoint = e.Name
			}
			text, _ := json.Marshal(a) // cannot fail
			s.Accounts, s.names = append(s.Accounts, text), append(s.names, a.Name)
		}
	}
	s.addCircuits(&stats, now, marks)
	for _, c := range g.Clients() {
		s.Clients = append(s.Clients, newClientRow(c))
	}
	lately := s.Series.Points[max(len(s.Series.Points)-60, 0):]
	s.Outlook = look(&stats, lately, g.Draining(), now, marks)
	return s
}

// after is what has changed since the snapshot of an earlier second, last.
func (s *snapshot) after(last *snapshot) *snapshot {
	c := *s
	c.Full, c.Accounts = false, nil
	had := make(map[string]json.RawMessage, len(last.names))
	for i, name := range last.names {
		had[name] = last.Accounts[i]
	}
	for i, name := range s.names {
		if !bytes.Equal(had[name], s.Accounts[i]) {
			c.Accounts = append(c.Accounts, s.Accounts[i])
		}
		delete(had, name)
	}
	for _, name := range last.names {
		if had[name] != nil {
			c.Gone = append(c.Gone, name)
		}
	}
	if n := len(s.Series.Points); s.second-last.second < int64(n) {
		c.Series.From = last.second
		c.Series.Points = s.Series.Points[n-int(s.second-last.second):]
	}
	c.Calls, c.Journal = nil, nil
	for _, one := range s.Calls {
		if one.Number > last.number {
			c.Calls = append(c.Calls, one)
		}
	}
	for _, one := range s.Journal {
		if one.change > last.changes {
			c.Journal = append(c.Journal, one)
		}
	}
	return &c
}

// sum fills in the totals.
func (s *snapshot) sum(stats *deepseek.Stats) {
	sp, c := &stats.Spend, &stats.Cache
	s.Totals = totals{
		Waiting: stats.Waiting, Longest: stats.LongestWait.Milliseconds(), Calls: stats.Calls, Attempts: stats.Attempts,
		Resumed: stats.Resumed, Hedges: stats.Hedges, Won: stats.HedgesWon, Retries: stats.RetryBudget,
		Currency: stats.Currency, Spent: sp.Amount.Float64(), Estimated: sp.Estimated.Float64(), Saved: sp.Saved.Float64(),
		Unpriced: sp.Unpriced, Hit: sp.CacheHitTokens, Miss: sp.CacheMissTokens, Output: sp.OutputTokens,
		CacheHits: c.Hits + c.Shared, CacheSaved: c.Saved.Float64(),
	}
	for _, a := range stats.Accounts {
		for _, m := range a.Models {
			s.Totals.InFlight += m.InFlight
			if m.State == deepseek.StateActive && (m.InFlight > 0 || m.Answered > 0) {
				s.Totals.Limit += m.Limit
			}
		}
	}
}

// addCircuits adds the endpoints' models. Where there is one endpoint, how it has
// served them lately is not known.
func (s *snapshot) addCircuits(stats *deepseek.Stats, now time.Time, marks map[subject]time.Time) {
	for _, e := range stats.Endpoints {
		lately := map[string]deepseek.EndpointModelStats{}
		for _, m := range e.Models {
			lately[m.Model] = m
		}
		for _, b := range e.Breakers {
			s.Circuits = append(s.Circuits, circuitRow{
				Endpoint: e.Name, Model: b.Model,
				condition: newCondition(string(b.State), b.For, now, marks[subject{name: "circuit " + b.Endpoint, model: b.Model}]),
				First:     lately[b.Model].FirstData.Milliseconds(), Faults: lately[b.Model].FaultShare,
			})
		}
	}
}

// newCondition rounds the time of its end, which is told as the time that is left
// and would change a little with each look.
func newCondition(state string, left time.Duration, now, since time.Time) condition {
	c := condition{State: state}
	if left > 0 {
		c.Until = now.Add(left).Round(100 * time.Millisecond).UnixMilli()
	}
	if !since.IsZero() {
		c.Since = since.UnixMilli()
	}
	return c
}

func newAccountRow(a *deepseek.AccountStats, now time.Time, marks map[subject]time.Time) accountRow {
	row := accountRow{
		Name: a.Name, condition: newCondition(string(a.State), a.For, now, marks[subject{name: a.Name}]),
		Spent: a.Spend.Amount.Float64(), Saved: a.Spend.Saved.Float64(),
	}
	for _, k := range a.Keys {
		c := newCondition(string(k.State), k.For, now, marks[subject{name: a.Name, key: k.Fingerprint}])
		row.Keys = append(row.Keys, keyRow{k.Fingerprint, c})
		if a.State == deepseek.StateUnauthorized || a.State == deepseek.StateCooling { // since the last of its keys is
			row.Since = max(row.Since, c.Since)
		}
	}
	for _, m := range a.Models {
		row.Models = append(row.Models, slotRow{
			Model: m.Model, condition: newCondition(string(m.State), m.For, now, marks[subject{name: a.Name, model: m.Model}]),
			InFlight: m.InFlight, Limit: m.Limit, Answered: m.Answered, Refused: m.Refused,
			Spent: m.Spend.Amount.Float64(), Saved: m.Spend.Saved.Float64(),
		})
	}
	return row
}

func newClientRow(c gateway.ClientStats) clientRow {
	return clientRow{Name: c.Name, InFlight: c.InFlight, Requests: c.Requests, Tokens: c.Tokens, Spent: c.Spent.Float64()}
}

// unwell tells which subjects are not well.
func unwell(stats *deepseek.Stats) func(subject) bool {
	set := map[subject]bool{}
	for _, a := range stats.Accounts {
		set[subject{name: a.Name}] = a.State != deepseek.StateActive
		for _, k := range a.Keys {
			set[subject{name: a.Name, key: k.Fingerprint}] = k.State != deepseek.StateActive
		}
		for _, m := range a.Models {
			set[subject{name: a.Name, model: m.Model}] = m.State != deepseek.StateActive
		}
	}
	for _, b := range stats.Breakers {
		set[subject{name: "circuit " + b.Endpoint, model: b.Model}] = b.State != deepseek.BreakerClosed
	}
	return func(s subject) bool { return set[s] }
}
