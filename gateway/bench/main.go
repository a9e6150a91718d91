// Bench measures the gateway as a process beside others that do less: a plain
// httputil.ReverseProxy and nginx, before the same upstream server, under the same
// load, by turns. It needs Linux, whose /proc tells what a process has used, and
// takes nginx from the PATH if it is there.
//
//	go run ./gateway/bench          what the gateway costs
//	go run ./gateway/bench soak     full load with faults, for ten minutes
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is a command. With an address it is one of the servers that are measured, in
// a process of its own.
func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "upstream":
		return listenAndServe(ctx, args[1], newUpstream())
	case len(args) == 3 && args[0] == "reverseproxy":
		return listenAndServe(ctx, args[1], newReverseProxy(args[2]))
	case len(args) == 2 && args[0] == "faulty":
		return listenAndServe(ctx, args[1], newFaulty())
	case len(args) > 0 && args[0] == "soak":
		s := soakSettings{}
		flags := flag.NewFlagSet("soak", flag.ContinueOnError)
		flags.DurationVar(&s.length, "for", 10*time.Minute, "how long")
		flags.IntVar(&s.clients, "clients", 64, "calls at a time")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return soak(ctx, s, out)
	}
	c := costSettings{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&c.rounds, "rounds", 7, "how often each is measured; the table has the median")
	flags.DurationVar(&c.phase, "phase", 4*time.Second, "how long it is under load each time")
	flags.IntVar(&c.open, "open", 1000, "streams that are open at a time, for the memory of one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return errors.New("there is no command " + flags.Arg(0))
	}
	return cost(ctx, c, out)
}
