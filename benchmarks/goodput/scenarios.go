package main

import (
	"time"

	"github.com/seawall-go/deepseek/deepseektest"
)

// usual is how long answers take: 100 ms to the headers, 400 ms more to the first
// token, 100 ms a token; with 16 to 32 tokens about 2.9 s, give or take 30 %.
var usual = deepseektest.Pace{
	Headers: 100 * time.Millisecond, FirstToken: 400 * time.Millisecond, Token: 100 * time.Millisecond,
	TokenSize: tokenSize, Jitter: 0.3,
}

const (
	probe        = 10 * time.Second        // what a breaker may wait before it looks again
	longestUsual = 4810 * time.Millisecond // for an answer, at that pace
)

// always is a limit that does not change.
func always(limit int) []step { return []step{{0, limit}} }

// alike are accounts of the same limit.
func alike(n, limit int) []account {
	all := make([]account, n)
	for i := range all {
		all[i] = account{name: string(rune('a' + i)), limits: always(limit)}
	}
	return all
}

// whole is the share of calls that counts as all of them: 99.5 %.
const whole = 0.995

// with are the accounts with one of them changed.
func with(accounts []account, i int, change func(*account)) []account {
	change(&accounts[i])
	return accounts
}

// attemptsWith is how many requests a valid answer may take where that share of
// them fails: 5 % more than the failing itself makes of it.
func attemptsWith(faults float64) float64 { return 0.05 + 1/(1-faults) }

// scenarios are what the benchmark consists of.
var scenarios = []scenario{
	{
		name:     "steady",
		about:    "Four accounts of 10 each, and callers that keep three quarters of that busy.",
		accounts: alike(4, 10),
		load:     load{callers: 60, think: 2900 * time.Millisecond},
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name:     "overload",
		about:    "Four accounts of 10 each and twice as many callers, who do not pause.",
		accounts: alike(4, 10),
		load:     load{callers: 80},
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name:     "overload, streamed",
		about:    "The same with streams.",
		accounts: alike(4, 10),
		load:     load{callers: 80, streams: 1},
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name: "uneven limits", plotted: true,
		about:    "Accounts of 2, 8 and 32, which nobody knows; twice as many callers.",
		accounts: []account{{name: "a", limits: always(2)}, {name: "b", limits: always(8)}, {name: "c", limits: always(32)}},
		uneven:   true,
		load:     load{callers: 84},
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name:  "uneven limits, untold",
		about: "The same, and the text of the 429 does not tell the limit either.",
		accounts: []account{
			{name: "a", limits: always(2), hidden: true}, {name: "b", limits: always(8), hidden: true}, {name: "c", limits: always(32), hidden: true},
		},
		uneven: true,
		load:   load{callers: 84},
		target: target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name: "falling limits", plotted: true,
		about: "Four accounts whose limits of 12 fall to 3 after a minute and a half and come back two minutes later; twice as many callers as the 48.",
		accounts: func() []account {
			all := alike(4, 12)
			for i := range all {
				all[i].limits = []step{{0, 12}, {90 * time.Second, 3}, {210 * time.Second, 12}}
			}
			return all
		}(),
		load:   load{callers: 96},
		target: target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name: "account without money", plotted: true,
		about:    "One of four accounts has no money for two minutes.",
		accounts: with(alike(4, 10), 1, func(a *account) { a.broke = span{time.Minute, 3 * time.Minute} }),
		load:     load{callers: 80},
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name:  "key revoked",
		about: "One of four accounts has two keys, and loses one of them after a minute.",
		accounts: with(alike(4, 10), 1, func(a *account) {
			a.keys, a.revoked = 2, span{time.Minute, time.Hour}
		}),
		load:   load{callers: 80},
		target: target{valid: whole, goodput: 0.97, attempts: 1.05},
	}, {
		name:     "20 % 503",
		about:    "One in five requests gets a 503 after 50 ms.",
		accounts: alike(4, 10),
		faults:   []fault{{share: 0.2, kinds: []faultKind{unavailable}}},
		load:     load{callers: 60, think: time.Second},
		target:   target{valid: whole, goodput: 0.90, attempts: attemptsWith(0.2)},
	}, {
		name:     "garbage",
		about:    "One in ten answers is a 200 with something else in it: an HTML page, blank lines, half a JSON object.",
		accounts: alike(4, 10),
		faults:   []fault{{share: 0.1, kinds: []faultKind{html, blank, halfJSON}}},
		load:     load{callers: 60, think: time.Second},
		target:   target{valid: whole, goodput: 0.90, attempts: attemptsWith(0.1)},
	},
	outageScenario("outage, 503", "gets a 503", deepseektest.ServiceUnavailable().And(deepseektest.Delayed(refusal))),
	outageScenario("outage, reset", "has its connection reset", deepseektest.ResetBeforeHeaders().And(deepseektest.Delayed(refusal))),
	outageScenario("outage, hang", "is never answered", deepseektest.Hang()),
	{
		name:     "streams cut",
		about:    "One in five streams breaks off: with a clean end, a reset, or inside of an event.",
		accounts: alike(4, 10),
		faults:   []fault{{share: 0.2, kinds: []faultKind{cutCleanly, cutByReset, cutInEvent}}},
		load:     load{callers: 60, think: time.Second, streams: 1},
		target:   target{valid: whole, goodput: 0.93, attempts: attemptsWith(0.2)},
	}, {
		name: "streams stalled", plotted: true,
		about:    "One in ten streams falls silent after some tokens, and its connection stays open.",
		accounts: alike(4, 10),
		faults:   []fault{{share: 0.1, kinds: []faultKind{stall}}},
		load:     load{callers: 60, think: time.Second, streams: 1},
		target:   target{valid: whole, goodput: 0.90, attempts: attemptsWith(0.1)},
	}, {
		name: "slow account", plotted: true,
		about: "One of four accounts takes ten times as long for an answer. The others could just carry the load.",
		accounts: with(alike(4, 10), 1, func(a *account) {
			a.slow, a.times = span{0, time.Hour}, 10
		}),
		load:   load{callers: 54, think: 2900 * time.Millisecond},
		target: target{valid: whole, goodput: 0.95, attempts: 1.05},
	}, {
		name:     "conversations",
		about:    "Conversations of eight turns of 600 tokens, which share a system prompt of 1,000, over four accounts that are three quarters busy.",
		accounts: alike(4, 10),
		cached:   true,
		load:     talking(60),
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05, cache: 0.97},
	}, {
		name:     "conversations, one account drained",
		about:    "The same, with one account out of money for two minutes.",
		accounts: with(alike(4, 10), 1, func(a *account) { a.broke = span{time.Minute, 3 * time.Minute} }),
		cached:   true,
		load:     talking(50),
		target:   target{valid: whole, goodput: 0.97, attempts: 1.05, cache: 0.90},
	},
	anHour,
}

// talking is a load of conversations.
func talking(callers int) load {
	return load{callers: callers, think: 2900 * time.Millisecond, turns: 8, system: 1000, said: 600}
}

func outageScenario(name, what string, reply deepseektest.Reply) scenario {
	return scenario{
		name:     name,
		plotted:  true,
		about:    "A minute in which every request " + what + ", amid 1,000 callers with deadlines of two minutes.",
		accounts: alike(4, 40),
		outages:  []outage{{span{2 * time.Minute, 3 * time.Minute}, reply}},
		load:     load{callers: 1000, think: 27 * time.Second},
		target:   target{valid: whole, goodput: 0.93, into: 60, first: probe + longestUsual, recovery: 2*probe + longestUsual},
	}
}

// anHour is a bit of everything.
var anHour = scenario{
	name: "an hour of everything", plotted: true,
	about: "Conversations, half of them streamed, over five accounts: one's limit of 16 falls to 4 for ten minutes, one has no money for ten, " +
		"one loses one of two keys, one is ten times slower for five. 2 % of the requests get a 503 and 1 % garbage, of the streams 2 % break and 1 % stall; " +
		"there are outages of a minute (503), 30 s (hang) and 20 s (reset).",
	accounts: []account{
		{name: "a", limits: []step{{0, 16}, {5 * time.Minute, 4}, {15 * time.Minute, 16}}},
		{name: "b", limits: always(10), broke: span{20 * time.Minute, 30 * time.Minute}},
		{name: "c", limits: always(10), keys: 2, revoked: span{10 * time.Minute, 2 * time.Hour}},
		{name: "d", limits: always(10), slow: span{40 * time.Minute, 45 * time.Minute}, times: 10},
		{name: "e", limits: always(4)},
	},
	uneven: true,
	faults: []fault{
		{share: 0.02, kinds: []faultKind{unavailable}},
		{share: 0.01, kinds: []faultKind{html, blank, halfJSON}},
		{share: 0.02, kinds: []faultKind{cutCleanly, cutByReset, cutInEvent}, streamed: true},
		{share: 0.01, kinds: []faultKind{stall}, streamed: true},
	},
	outages: []outage{
		{span{17 * time.Minute, 18 * time.Minute}, deepseektest.ServiceUnavailable().And(deepseektest.Delayed(refusal))},
		{span{35 * time.Minute, 35*time.Minute + 30*time.Second}, deepseektest.Hang()},
		{span{50 * time.Minute, 50*time.Minute + 20*time.Second}, deepseektest.ResetBeforeHeaders()},
	},
	cached: true,
	lasts:  time.Hour,
	load:   load{callers: 70, think: 2900 * time.Millisecond, streams: 0.5, turns: 6, system: 1000, said: 100},
	target: target{valid: whole, goodput: 0.93, attempts: 1.10, cache: 0.90},
}

func init() {
	for i := range scenarios {
		s := &scenarios[i]
		if s.pace == (deepseektest.Pace{}) {
			s.pace = usual
		}
		if s.lasts == 0 {
			s.lasts = 5 * time.Minute
		}
		if s.load.deadline == 0 {
			s.load.deadline = 2 * time.Minute
		}
	}
}
