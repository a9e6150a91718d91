// Command goodput plays traffic of minutes and hours, in virtual time, through
// Seawall and through what a Go team would use instead, against a fake DeepSeek
// with limits, outages and faults, and tells what each gets out of it:
//
//	go run ./benchmarks/goodput
//
// README.md has the figures of the last release and says what is measured.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"
)

func main() {
	testing.Init()
	var o options
	flag.StringVar(&o.scenarios, "scenario", "", "play only scenarios whose name matches this `regexp`")
	flag.StringVar(&o.clients, "client", "", "play only clients whose name matches this `regexp`")
	flag.Uint64Var(&o.seed, "seed", 1, "`number` that the load, the server and its faults are drawn from")
	flag.BoolVar(&o.short, "short", false, "a quarter of the time")
	flag.BoolVar(&o.why, "why", false, "list the errors that callers got")
	flag.Parse()
	// Bubbles of virtual time are for tests: synctest wants a *testing.T. Main
	// makes one, and never returns.
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "goodput",
		F: func(t *testing.T) {
			if err := o.run(t); err != nil {
				fmt.Fprintln(os.Stderr, err)
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
}

func (o *options) run(t *testing.T) error {
	wantScenario, err := regexp.Compile(o.scenarios)
	if err != nil {
		return err
	}
	wantClient, err := regexp.Compile(o.clients)
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		if !wantScenario.MatchString(s.name) {
			continue
		}
		if o.short {
			s = s.shorter(4)
		}
		b := s.best(o.seed)
		hitRate, err := s.hitRate(t, o.seed)
		if err != nil {
			return err
		}
		fmt.Printf("\n### %s\n\n%s Best possible: %d answers.\n\n", s.name, s.about, b.total)
		for _, c := range contenders {
			if !wantClient.MatchString(c.name) {
				continue
			}
			began := time.Now()
			r, err := perform(t, &s, c, o.seed)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", s.name, c.name, err)
			}
			f := r.measure(b, hitRate)
			fmt.Printf("%-22s valid %.4f goodput %.3f attempts %.3f p50 %.1f p99 %.1f wrong %d 429 %d $%.4f", f.client, f.valid, f.goodput, f.attempts, f.p50.Seconds(), f.p99.Seconds(), f.wrong, r.refused, f.price)
			if f.outage {
				fmt.Printf(" into %.0f first %.1f recovery %.1f", f.into, f.first.Seconds(), f.recovery.Seconds())
			}
			if s.cached {
				fmt.Printf(" cache %.3f of %.3f", f.cache, hitRate)
			}
			fmt.Printf(" [%.1fs]\n", time.Since(began).Seconds())
			if o.why {
				for k, n := range f.errors {
					fmt.Printf("    %6d %s\n", n, k)
				}
			}
		}
	}
	return nil
}
