// openai-go draws its jitter from math/rand's global source: let it be seeded.
//go:debug randseednop=0

// Command goodput plays traffic of minutes to an hour, in virtual time, through
// Seawall and through what a Go team would use instead, against a fake DeepSeek
// with limits, outages and faults, and tells what each gets out of it:
//
//	go run ./benchmarks/goodput
//
// README.md has the figures of the last release and says what is measured.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func main() {
	testing.Init()
	o := options{out: os.Stdout, progress: os.Stderr}
	flag.StringVar(&o.scenarios, "scenario", "", "play only scenarios whose name matches this `regexp`")
	flag.StringVar(&o.clients, "client", "", "play only clients whose name matches this `regexp`")
	flag.Uint64Var(&o.seed, "seed", 1, "`number` that load, server and faults are drawn from")
	flag.BoolVar(&o.short, "short", false, "a quarter of the time")
	flag.BoolVar(&o.why, "why", false, "list the errors that callers got, while it runs")
	flag.StringVar(&o.record, "record", "", "put tables and plots into the README.md of this `directory`")
	flag.Parse()
	// Bubbles of virtual time are for tests: synctest wants a *testing.T. Main
	// makes one, and never returns.
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "goodput",
		F: func(t *testing.T) {
			if err := o.run(t); err != nil {
				fmt.Fprintln(os.Stderr, "goodput:", err)
				os.Exit(1)
			}
			os.Exit(0)
		},
	}}, nil, nil)
}

type options struct {
	scenarios, clients string
	seed               uint64
	short, why         bool
	record             string
	out, progress      io.Writer
}

// shortBy is how many times shorter runs are with -short.
const shortBy = 4

func (o *options) run(t *testing.T) error {
	results, err := o.play(t)
	if err != nil {
		return err
	}
	if o.record == "" {
		(&report{w: o.out}).write(results, nil)
		return nil
	}
	return record(o.record, results)
}

// play plays the scenarios and clients that are asked for.
func (o *options) play(t *testing.T) ([]result, error) {
	wantScenario, err := regexp.Compile(o.scenarios)
	if err != nil {
		return nil, err
	}
	wantClient, err := regexp.Compile(o.clients)
	if err != nil {
		return nil, err
	}
	var results []result
	for _, s := range scenarios {
		if !wantScenario.MatchString(s.name) {
			continue
		}
		if o.short {
			s = s.shorter(shortBy)
		}
		res := result{s: &s, best: s.best(o.seed)}
		hitRate, err := s.hitRate(t, o.seed)
		if err != nil {
			return nil, err
		}
		for _, c := range contenders {
			if !wantClient.MatchString(c.name) {
				continue
			}
			began := time.Now()
			r, err := perform(t, &s, c, o.seed)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.name, c.name, err)
			}
			f := r.measure(res.best, hitRate)
			fmt.Fprintf(o.progress, "%s, %s: valid %.4f, goodput %.3f (in %.1f s)\n", s.name, f.client, f.valid, f.goodput, time.Since(began).Seconds())
			if o.why {
				for _, l := range errorsSeen(f) {
					fmt.Fprintln(o.progress, "  ", l)
				}
			}
			r.calls = nil // the figures have what is needed of them
			res.figures = append(res.figures, f)
		}
		if len(res.figures) > 0 {
			results = append(results, res)
		}
	}
	if len(results) == 0 {
		return nil, errors.New("no scenario and client of these names")
	}
	return results, nil
}

// What is between these lines of the README is written by -record.
const (
	figuresBegin = "<!-- figures: go run ./benchmarks/goodput -record benchmarks/goodput -->\n"
	figuresEnd   = "<!-- end of figures -->\n"
)

// record writes tables and plots into a directory's README.
func record(dir string, results []result) error {
	path := filepath.Join(dir, "README.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), figuresBegin)
	_, after, ended := strings.Cut(rest, figuresEnd)
	if !ok || !ended {
		return fmt.Errorf("%s has no place for the figures", path)
	}
	var tables bytes.Buffer
	tables.WriteString("\n")
	(&report{w: &tables}).write(results, func(s *scenario) string {
		return fmt.Sprintf("![valid answers over time](%s)\n\n![in flight](%s)\n", plotFile(s, "answers"), plotFile(s, "inflight"))
	})
	tables.WriteString("\n")
	for i := range results {
		res := &results[i]
		if !res.s.plotted {
			continue
		}
		for kind, c := range map[string]*chart{"answers": res.goodputChart(), "inflight": res.inFlightChart(res.figures[0])} {
			file := filepath.Join(dir, plotFile(res.s, kind))
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(c.svg()), 0o666); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(path, []byte(before+figuresBegin+tables.String()+figuresEnd+after), 0o666)
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// plotFile is where a plot is, from the README on.
func plotFile(s *scenario, kind string) string {
	return "plots/" + strings.Trim(notInNames.ReplaceAllString(s.name, "-"), "-") + "-" + kind + ".svg"
}
