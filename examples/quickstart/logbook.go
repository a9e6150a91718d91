package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
)

// logbook writes down what an Observer is told.
type logbook struct {
	page *page

	mu sync.Mutex
	act
}

// act is what happened since begin; guarded by mu.
type act struct {
	start    time.Time
	lines    []string
	calls    int
	answered int
	refused  int           // 429s
	limits   []string      // as they were learned
	waits    int           // for room
	longest  time.Duration // of these
	took     time.Duration
}

func (l *logbook) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.act = act{start: time.Now()}
}

// note adds a line to the timeline. l.mu is held.
func (l *logbook) note(mark, format string, args ...any) {
	at := l.page.dim(fmt.Sprintf("%7s", seconds(time.Since(l.start))))
	l.lines = append(l.lines, fmt.Sprintf("%s  %s  %s", at, mark, fmt.Sprintf(format, args...)))
}

// observer writes down everything. Its functions are called on the goroutines
// of the calls, so they are quick and take a lock.
func (l *logbook) observer() deepseek.Observer {
	good, bad := l.page.green("+"), l.page.red("x")
	return deepseek.Observer{
		CallStart: func(e deepseek.CallStartEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.calls++
			how := ""
			if e.Stream {
				how = ", streamed"
			}
			l.note(" ", "call     %s, %s%s", e.Path, e.Model, how)
		},
		Attempt: func(e deepseek.AttemptEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			key := e.Account + "#" + e.Key
			switch {
			case e.Err != nil:
				l.note(bad, "request  %-17s %d, but %s", key, e.Status, strings.TrimPrefix(e.Err.Error(), "deepseek: "))
			case e.Status >= 400:
				l.note(bad, "request  %-17s %d %s", key, e.Status, http.StatusText(e.Status))
				if e.Status == http.StatusTooManyRequests {
					l.refused++
				}
			default:
				l.note(good, "request  %-17s %d, first data after %s", key, e.Status, seconds(e.Duration))
			}
		},
		Wait: func(e deepseek.WaitEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.note(" ", "wait     %s, %s", seconds(e.Wait), e.Reason)
			if strings.HasPrefix(e.Reason, "room") {
				l.waits++
				l.longest = max(l.longest, e.Wait)
			}
		},
		Cooldown: func(e deepseek.CooldownEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			what := "account " + e.Account
			if e.Key != "" {
				what = "key " + e.Account + "#" + e.Key
			}
			if e.State == deepseek.StateActive {
				l.note(" ", "back     %s, after %s", what, e.Cause)
				return
			}
			l.note(" ", "aside    %s: %s, for %.0f min", what, e.State, e.For.Minutes())
		},
		Limit: func(e deepseek.LimitEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.note(" ", "limit    %s, %s: %d, was %d", e.Account, e.Model, e.To, e.From)
			if len(l.limits) == 0 {
				l.limits = append(l.limits, fmt.Sprint(e.From))
			}
			l.limits = append(l.limits, fmt.Sprint(e.To))
		},
		Breaker: func(e deepseek.BreakerEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.note(" ", "breaker  %s, was %s", e.To, e.From)
		},
		CallEnd: func(e deepseek.CallEndEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.took = time.Since(l.start)
			switch {
			case e.Err != nil:
				l.note(bad, "failed   %s", strings.TrimPrefix(e.Err.Error(), "deepseek: "))
			case e.Status >= 400:
				l.note(bad, "failed   %d %s", e.Status, http.StatusText(e.Status))
			default:
				l.answered++
				tokens := 0
				if e.Usage != nil {
					tokens = e.Usage.TotalTokens
				}
				l.note(good, "answer   whole, after %s and %d tokens", requests(len(e.Attempts)), tokens)
			}
		},
	}
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

// timeline prints every line.
func (l *logbook) timeline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		l.page.print("%s\n", line)
	}
}

// sum prints what the lines come to.
func (l *logbook) sum() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page.print("  answered        %d of %d, in %s\n", l.answered, l.calls, seconds(l.took))
	l.page.print("  learned limit   %s\n", strings.Join(l.limits, ", then "))
	l.page.print("  refused (429)   %s, each sent again in its turn\n", requests(l.refused))
	l.page.print("  waits for room  %d, the longest %s\n", l.waits, seconds(l.longest))
}

// tellStats prints what a scrape would get, in two lines.
func tellStats(p *page, s deepseek.Stats) {
	p.print("  %d calls: %d answered, %d failed, %s sent, budget for %.0f retries left\n",
		s.Calls, s.Answered, s.Failed, requests(int(s.Attempts)), s.RetryBudget)
	var parts []string
	for _, a := range s.Accounts {
		usable := 0
		for _, k := range a.Keys {
			if k.State == deepseek.StateActive {
				usable++
			}
		}
		part := a.Name + " " + string(a.State)
		if a.State == deepseek.StateActive {
			part += fmt.Sprintf(", %d of %d keys usable", usable, len(a.Keys))
			for _, m := range a.Models {
				part += fmt.Sprintf(", limit %d", m.Limit)
			}
		}
		parts = append(parts, part)
	}
	for _, b := range s.Breakers {
		parts = append(parts, "breaker "+string(b.State))
	}
	p.print("  %s\n", strings.Join(parts, "; "))
}
