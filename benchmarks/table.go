package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
)

// table is a set of contenders that do the same work. The first is what the
// others are compared with.
type table struct {
	title   string
	bytes   int64 // that an operation reads; 0: not worth telling
	callers int   // at the same time; 0: one
	rows    []*row
	closers []func()
}

// row is one contender.
type row struct {
	name string
	op   func() error // one operation, checked
	runs []testing.BenchmarkResult
}

func (t *table) add(name string, op func() error) { t.rows = append(t.rows, &row{name: name, op: op}) }

// atEnd has f called once the table is done.
func (t *table) atEnd(f func()) { t.closers = append(t.closers, f) }

func (t *table) close() {
	for _, f := range slices.Backward(t.closers) {
		f()
	}
}

// measure lets the contenders take turns.
func (t *table) measure(rounds int) error {
	for range rounds {
		for _, r := range t.rows {
			failed := make(chan error, 1)
			result := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				if t.callers == 0 {
					for b.Loop() {
						if err := r.op(); err != nil {
							failed <- err
							b.FailNow()
						}
					}
					return
				}
				b.SetParallelism(max(1, t.callers/runtime.GOMAXPROCS(0)))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := r.op(); err != nil {
							select {
							case failed <- err:
							default:
							}
							b.Fail()
							return
						}
					}
				})
			})
			select {
			case err := <-failed:
				return fmt.Errorf("%s: %s: %w", t.title, r.name, err)
			default:
				r.runs = append(r.runs, result)
			}
		}
	}
	return nil
}

// median of what value tells of each turn.
func (r *row) median(value func(testing.BenchmarkResult) float64) float64 {
	all := make([]float64, len(r.runs))
	for i, run := range r.runs {
		all[i] = value(run)
	}
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func (r *row) ns() float64 {
	return r.median(func(b testing.BenchmarkResult) float64 { return float64(b.T.Nanoseconds()) / float64(b.N) })
}

func (r *row) size() float64 {
	return r.median(func(b testing.BenchmarkResult) float64 { return float64(b.AllocedBytesPerOp()) })
}

func (r *row) allocs() float64 {
	return r.median(func(b testing.BenchmarkResult) float64 { return float64(b.AllocsPerOp()) })
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n", t.title)
	first := t.rows[0]
	head, line := "| | time/op | ratio | beyond the first | allocs/op | beyond the first | B/op |", "|---|--:|--:|--:|--:|--:|--:|"
	if t.bytes > 0 {
		head, line = head+" MB/s |", line+"--:|"
	}
	fmt.Fprintln(w, head)
	fmt.Fprintln(w, line)
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s | %.2f | %s | %.0f | %+.0f | %.0f |", r.name, duration(r.ns()), r.ns()/first.ns(),
			duration(r.ns()-first.ns()), r.allocs(), r.allocs()-first.allocs(), r.size())
		if t.bytes > 0 {
			fmt.Fprintf(w, " %.0f |", float64(t.bytes)/r.ns()*1e3)
		}
		fmt.Fprintln(w)
	}
}

// duration prints nanoseconds to three digits.
func duration(ns float64) string {
	abs := max(ns, -ns)
	switch {
	case abs >= 1e6:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	case abs >= 1e3:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	}
	return fmt.Sprintf("%.0f ns", ns)
}
