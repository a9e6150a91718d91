// Command benchmarks prints what Seawall costs beside bare net/http and beside
// its peers, as Markdown tables:
//
//	go run ./benchmarks
//
// All contenders of a table take turns in one run, several rounds of them, and
// a table shows the medians, because machines are noisy. README.md has the
// tables of the last release and says what is measured.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"testing"
	"time"
)

func main() {
	testing.Init()
	rounds := flag.Int("rounds", 7, "`times` that every contender has its turn")
	turn := flag.Duration("turn", 300*time.Millisecond, "`duration` of a turn")
	only := flag.String("only", "", "run only tables whose title matches this `regexp`")
	flag.Parse()
	if err := run(*rounds, *turn, *only); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(rounds int, turn time.Duration, only string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if err := flag.Set("test.benchtime", turn.String()); err != nil {
		return err
	}
	fmt.Printf("%s %s/%s, GOMAXPROCS %d, median of %d turns of %v\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), rounds, turn)
	for _, prepare := range tables {
		t, err := prepare()
		if err != nil {
			return err
		}
		if chosen.MatchString(t.title) {
			if err := t.measure(rounds); err != nil {
				return err
			}
			t.print(os.Stdout)
		}
		t.close()
	}
	return nil
}

// tables are what is measured, each made when its turn comes.
var tables = []func() (*table, error){
	wholeOverNothing,
	streamOverNothing,
	wholeOverLoopback,
	streamOverLoopback,
	typedWhole,
	typedStream,
	breakers,
	pools,
	limits,
	queues,
}
