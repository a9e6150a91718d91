package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/seawall-go/deepseek/gateway"
)

// costSettings are how much is measured.
type costSettings struct {
	rounds int
	phase  time.Duration
	open   int
}

const (
	wholeCallers  = 16 // some 1,300 requests a second
	streamCallers = 50 // 5,000 chunks a second
)

// figures are what was measured of one server, one of each for a round.
type figures struct {
	requestCPU, latency, chunkCPU, gap []float64 // µs
	memory                             float64   // KiB a stream
	broken                             int
	err                                error
}

// everything is a configuration with all that there is, clients and log included.
var everything = `clients:
  - {name: bench, keys: ` + gateway.HashKey(clientKey) + `, concurrency: 100000, requests_per_minute: 100000000, tokens_per_minute: 100000000000}
max_concurrency: 100000
resume: on
hedging: on
cache: on
`

// cost measures by turns and prints a table.
func cost(ctx context.Context, settings costSettings, out io.Writer) error {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return errors.New("there is no /proc to read what processes use from")
	}
	s, err := startServers(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	// The upstream server itself is the first.
	asked := append([]*process{s.upstream}, s.measured...)
	all := make([]*figures, len(asked))
	for i := range all {
		all[i] = new(figures)
	}
	fmt.Fprintf(out, "%s, %d CPUs, %s. %d rounds of %v, by turns; medians of the rounds.\n", runtime.Version(), runtime.NumCPU(), runtime.GOARCH, settings.rounds, settings.phase)
	fmt.Fprintf(out, "Whole: %d callers, an answer of %d bytes after %v. Streams: %d at a time, %d chunks of %d bytes, one each %v.\n\n",
		wholeCallers, len(answer), thinking, streamCallers, chunks, len(chunk), chunkEvery)
	for round := range settings.rounds + 1 {
		wholes := byTurns(ctx, asked, whole, wholeCallers, round, wholeTurns, settings.phase)
		streams := byTurns(ctx, asked, stream, streamCallers, round, streamTurns, settings.phase)
		for i, f := range all {
			f.take(wholes[i], streams[i], round > 0) // the first warms up
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	direct, all := all[0], all[1:]
	for i, p := range s.measured {
		if err := all[i].streams(p, settings.open); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return table(out, s.measured, all, direct)
}

// startServers starts what is to be measured, the plain proxy first.
func startServers(ctx context.Context) (s *servers, err error) {
	s = new(servers)
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "seawall-bench"); err != nil {
		return s, err
	}
	bin, err := buildGateway(ctx, s.dir)
	if err != nil {
		return s, err
	}
	addresses := make([]string, 2)
	for i := range addresses {
		if addresses[i], err = free(); err != nil {
			return s, err
		}
	}
	cmd, err := again(ctx, "upstream", addresses[0])
	if err != nil {
		return s, err
	}
	if s.upstream, err = start("direct", addresses[0], cmd); err != nil {
		return s, err
	}
	if cmd, err = again(ctx, "reverseproxy", addresses[1], addresses[0]); err != nil {
		return s, err
	}
	add := func(p *process, err error) error {
		if p != nil {
			s.measured = append(s.measured, p)
		}
		return err
	}
	if err = add(start("ReverseProxy", addresses[1], cmd)); err != nil {
		return s, err
	}
	// Like the others it writes no line for each request, by itself it does.
	if err = add(startGateway(ctx, "seawall", bin, s.dir, addresses[0], "log: {level: warn}\n")); err != nil {
		return s, err
	}
	if err = add(startGateway(ctx, "seawall all on", bin, s.dir, addresses[0], everything)); err != nil {
		return s, err
	}
	return s, add(startNginx(ctx, s.dir, addresses[0]))
}

// The servers take short turns, so that all have the same of a machine whose speed
// changes: one second each for answers, and as long as two streams.
const (
	wholeTurns  = 4
	streamTurns = 2
)

// share is what one server did in its turns.
type share struct {
	tally
	cpu time.Duration
}

// byTurns loads servers one after the other, several times. It takes phase for each
// of them in all.
func byTurns(ctx context.Context, servers []*process, kind string, callers, round, turns int, phase time.Duration) []*share {
	all := make([]*share, len(servers))
	for i := range all {
		all[i] = new(share)
	}
	for turn := range turns {
		for i := range servers {
			i = (i + turn + round) % len(servers) // nobody is always the first
			before := servers[i].usage().cpu
			t := load(ctx, servers[i].address, kind, callers, phase/time.Duration(turns))
			all[i].cpu += servers[i].usage().cpu - before
			all[i].add(t.n, t.times, t.broken, t.err)
		}
	}
	return all
}

// take takes in a round.
func (f *figures) take(whole, stream *share, keep bool) {
	for _, s := range []*share{whole, stream} {
		f.broken += s.broken
		if s.err != nil {
			f.err = s.err
		}
	}
	if !keep {
		return
	}
	each := func(s *share) float64 { return micros(s.cpu) / float64(max(s.n, 1)) }
	f.requestCPU, f.latency = append(f.requestCPU, each(whole)), append(f.latency, micros(quantile(whole.times, 0.5)))
	f.chunkCPU, f.gap = append(f.chunkCPU, each(stream)), append(f.gap, micros(quantile(stream.times, 0.99)))
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// streams measures what an open stream takes.
func (f *figures) streams(p *process, n int) error {
	before := p.usage().resident
	open, err := openStreams(p.address, n)
	defer func() {
		for _, c := range open {
			if c != nil {
				c.close()
			}
		}
	}()
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	f.memory = float64(p.usage().resident-before) / float64(n) / 1024
	return nil
}

// table prints the figures, each beside its ratio to the first server's. What is
// added to the median is a difference, of which single rounds tell little on a busy
// machine: its ratio is that of the medians.
func table(out io.Writer, measured []*process, all []*figures, direct *figures) error {
	fmt.Fprintf(out, "%-16s %20s %20s %20s %22s %16s %8s\n", "", "CPU a request, µs", "added median, µs", "CPU a chunk, µs", "gap p99, ms", "KiB a stream", "broken")
	added := func(f *figures) (list []float64) {
		for i := range f.latency {
			list = append(list, f.latency[i]-direct.latency[i])
		}
		return list
	}
	plain := all[0]
	fmt.Fprintf(out, "%-16s %20s %20s %20s %15.2f %6s %16s %8d\n", "direct", "", "", "", median(direct.gap)/1000, "", "", direct.broken)
	for i, f := range all {
		fmt.Fprintf(out, "%-16s %s %s %s %s %16.1f %8d\n", measured[i].name,
			cell(f.requestCPU, plain.requestCPU, 1), fmt.Sprintf("%12.2f (%4.2f×)", median(added(f)), median(added(f))/median(added(plain))), cell(f.chunkCPU, plain.chunkCPU, 1),
			"  "+cell(f.gap, plain.gap, 1000), f.memory, f.broken)
	}
	var err error
	for i, f := range all {
		if f.err != nil {
			fmt.Fprintf(out, "%s: %v\n", measured[i].name, f.err)
			if i > 0 {
				err = errors.New("answers broke")
			}
		}
	}
	return err
}

// cell is a median with that of the ratios to another's, round by round.
func cell(values, base []float64, unit float64) string {
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / base[i]
	}
	return fmt.Sprintf("%12.2f (%4.2f×)", median(values)/unit, median(ratios))
}
