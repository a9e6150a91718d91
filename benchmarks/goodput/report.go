package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// result is a scenario and what each client reached in it, Seawall first.
type result struct {
	s       *scenario
	best    best
	figures []*figures
}

// report writes results as Markdown: a table of all goodputs, and one of all
// figures for each scenario.
type report struct {
	w      io.Writer
	missed []string
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(r.w, format, args...) }

// write writes the whole report. image is how a scenario's plots are embedded,
// nil for not at all.
func (r *report) write(results []result, image func(s *scenario) string) {
	r.summary(results)
	for i := range results {
		r.scenario(&results[i])
		if image != nil && results[i].s.plotted {
			r.printf("\n%s", image(results[i].s))
		}
	}
	r.printf("\n## Targets\n\n")
	if len(r.missed) == 0 {
		r.printf("All targets are met.\n")
		return
	}
	r.printf("Missed:\n\n")
	for _, m := range r.missed {
		r.printf("- %s\n", m)
	}
}

// summary is the table of goodputs.
func (r *report) summary(results []result) {
	r.printf("## Goodput over the best possible\n\n| scenario | target |")
	for _, f := range results[0].figures {
		r.printf(" %s |", f.client)
	}
	r.printf("\n|---|--:|%s\n", strings.Repeat("--:|", len(results[0].figures)))
	means := make([][]float64, len(results[0].figures))
	for _, res := range results {
		r.printf("| %s | %.2f |", res.s.name, res.s.target.goodput)
		for i, f := range res.figures {
			means[i] = append(means[i], f.goodput)
			r.printf(" %.3f |", f.goodput)
		}
		r.printf("\n")
	}
	r.printf("| **geometric mean** | %.2f |", geometricTarget)
	for i := range means {
		mean := geometricMean(means[i])
		r.printf(" **%.3f**", mean)
		if i == 0 && results[0].figures[0].client == seawall.name {
			r.printf(" %s", r.check("geometric mean of the goodputs", mean, atLeast(geometricTarget), "%.3f"))
		}
		r.printf(" |")
	}
	r.printf("\n")
}

// column is a figure of a scenario's table.
type column struct {
	head   string
	value  func(f *figures) float64
	format string
	target bound
}

// bound is what a figure is to keep.
type bound struct {
	least, most float64 // NaN: none
}

func atLeast(x float64) bound { return bound{x, math.NaN()} }
func atMost(x float64) bound  { return bound{math.NaN(), x} }

var none = bound{math.NaN(), math.NaN()}

// ifSet is none for a target that is not set.
func ifSet(b func(float64) bound, x float64) bound {
	if x == 0 {
		return none
	}
	return b(x)
}

func (r *report) scenario(res *result) {
	s, t := res.s, res.s.target
	r.printf("\n## %s\n\n%s\n", s.name, s.about)
	r.printf("%s of it, %d callers; the best possible is %d valid answers.\n\n", minutes(s.lasts), s.load.callers, res.best.total)
	seconds := func(d time.Duration) float64 {
		if d < 0 {
			return math.Inf(1)
		}
		return d.Seconds()
	}
	columns := []column{
		{"valid", func(f *figures) float64 { return f.valid }, "%.4f", ifSet(atLeast, t.valid)},
		{"wrong", func(f *figures) float64 { return float64(f.wrong) }, "%.0f", atMost(0)},
		{"goodput", func(f *figures) float64 { return f.goodput }, "%.3f", ifSet(atLeast, t.goodput)},
		{"attempts", func(f *figures) float64 { return f.attempts }, "%.3f", ifSet(atMost, t.attempts)},
		{"p50, s", func(f *figures) float64 { return f.p50.Seconds() }, "%.1f", none},
		{"p99, s", func(f *figures) float64 { return f.p99.Seconds() }, "%.1f", p99Bound(res)},
		{"$ for 1,000", func(f *figures) float64 { return f.price }, "%.4f", none},
	}
	if s.cached {
		columns = append(columns, column{"cache hits", func(f *figures) float64 { return f.cache }, "%.3f", ifSet(atLeast, t.cache)})
	}
	if len(s.outages) == 1 {
		columns = append(columns,
			column{"into the outage", func(f *figures) float64 { return f.into }, "%.0f", ifSet(atMost, t.into)},
			column{"first answer, s", func(f *figures) float64 { return seconds(f.first) }, "%.1f", ifSet(atMost, t.first.Seconds())},
			column{"90 % again, s", func(f *figures) float64 { return seconds(f.recovery) }, "%.1f", ifSet(atMost, t.recovery.Seconds())})
	}
	r.printf("| |")
	for _, c := range columns {
		r.printf(" %s |", c.head)
	}
	r.printf("\n|---|%s\n", strings.Repeat("--:|", len(columns)))
	for _, f := range res.figures {
		r.printf("| %s |", f.client)
		for _, c := range columns {
			v := c.value(f)
			r.printf(" "+c.format, v)
			if f.client == seawall.name {
				if mark := r.check(s.name+": "+c.head, v, c.target, c.format); mark != "" {
					r.printf(" %s", mark)
				}
			}
			r.printf(" |")
		}
		r.printf("\n")
	}
}

// p99Tolerance is by how much two runs of one client differ.
const p99Tolerance = 1.03

// p99Bound is that of the peer with the best p99, of those that answer as many
// calls: the few that a client answers that gives up on the others come fast.
func p99Bound(res *result) bound {
	best := math.Inf(1)
	for _, f := range res.figures {
		if f.client != seawall.name && f.valid >= min(res.s.target.valid, res.figures[0].valid) {
			best = min(best, f.p99.Seconds())
		}
	}
	if math.IsInf(best, 1) {
		return none
	}
	return atMost(best * p99Tolerance)
}

// check compares a figure with its target and marks it.
func (r *report) check(what string, v float64, b bound, format string) string {
	var missed string
	switch {
	case math.IsNaN(b.least) && math.IsNaN(b.most):
		return ""
	case !math.IsNaN(b.least) && !(v >= b.least):
		missed = "at least " + fmt.Sprintf(format, b.least)
	case !math.IsNaN(b.most) && !(v <= b.most):
		missed = "at most " + fmt.Sprintf(format, b.most)
	default:
		return "✓"
	}
	r.missed = append(r.missed, what+": "+fmt.Sprintf(format, v)+", to be "+missed)
	return "✗ (" + missed + ")"
}

// minutes prints a duration of whole minutes or seconds.
func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

// errorsSeen lists the errors that a client's callers got, most frequent first.
func errorsSeen(f *figures) (lines []string) {
	type seen struct {
		text string
		n    int
	}
	var all []seen
	for text, n := range f.errors {
		all = append(all, seen{text, n})
	}
	slices.SortFunc(all, func(a, b seen) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.text, b.text)) })
	for _, s := range all {
		lines = append(lines, fmt.Sprintf("%6d  %s", s.n, s.text))
	}
	return lines
}
