package main

import (
	"math"
	"slices"
	"time"
)

// figures are what a run is measured by.
type figures struct {
	client string

	valid    float64       // share of the calls that could be answered at all
	goodput  float64       // valid answers in the run, over the best possible
	attempts float64       // requests for each valid answer
	p50, p99 time.Duration // of valid answers
	wrong    int           // texts taken for an answer that are none
	cache    float64       // tokens hit, of those that one account without limits would hit; NaN: not measured
	price    float64       // US dollars for 1,000 valid answers

	// Of a full outage.
	outage   bool
	into     float64       // requests sent into it for each 1,000 callers
	first    time.Duration // from its end to the first answer; negative: none
	recovery time.Duration // from its end until answers come at 90 % of the earlier rate; negative: never

	calls, answers int
	errors         map[string]int
	perSecond      []float64 // valid answers
	run            *run
}

// measure takes the figures of a run. hitRate is the share of prompt tokens
// that one account without limits would hit.
func (r *run) measure(b best, hitRate float64) *figures {
	s := r.s
	f := &figures{client: r.client, cache: math.NaN(), errors: r.errors, run: r, first: -1, recovery: -1,
		perSecond: make([]float64, int(s.lasts/time.Second)+1)}
	var took []time.Duration
	counted, inTime := 0, 0
	for _, c := range r.calls {
		end := c.start + c.took
		switch c.outcome {
		case valid:
			f.answers++
			took = append(took, c.took)
			if end < s.lasts {
				inTime++
				f.perSecond[end/time.Second]++
			}
		case wrong:
			f.wrong++
		}
		if c.outcome == valid || s.answerable(c.start) {
			counted++
		}
	}
	f.calls = len(r.calls)
	f.valid = ratio(f.answers, counted)
	f.goodput = ratio(inTime, b.total)
	f.attempts = ratio(r.sent, f.answers)
	f.price = 1000 * r.spent / float64(f.answers)
	slices.Sort(took)
	f.p50, f.p99 = percentile(took, 0.5), percentile(took, 0.99)
	if s.cached {
		f.cache = ratio(r.hits, r.prompts) / hitRate
	}
	if len(s.outages) > 0 {
		f.outage = true
		f.into = 1000 * ratio(r.inOutage, s.load.callers)
		f.recover(r, s.outages[0])
	}
	return f
}

// recover measures how a client comes back after an outage.
func (f *figures) recover(r *run, o outage) {
	const window = 5 * time.Second
	var ends []time.Duration
	before := 0
	from := max(o.from-30*time.Second, o.from/2)
	for _, c := range r.calls {
		if c.outcome != valid {
			continue
		}
		end := c.start + c.took
		switch {
		case end >= from && end < o.from:
			before++
		case end >= o.to:
			ends = append(ends, end)
		}
	}
	if len(ends) == 0 {
		return
	}
	slices.Sort(ends)
	f.first = ends[0] - o.to
	need := 0.9 * float64(before) / float64(o.from-from) * float64(window)
	for i, j := 0, 0; i < len(ends); i++ {
		for ends[j] <= ends[i]-window {
			j++
		}
		if float64(i-j+1) >= need {
			f.recovery = ends[i] - o.to
			return
		}
	}
}

func ratio(a, b int) float64 {
	if b == 0 {
		return math.NaN()
	}
	return float64(a) / float64(b)
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// geometricMean is that of the goodputs; a client that answers nothing counts
// as one in a thousand.
func geometricMean(all []float64) float64 {
	sum := 0.0
	for _, x := range all {
		sum += math.Log(max(x, 1e-3))
	}
	return math.Exp(sum / float64(len(all)))
}
