// Seawall runs between programs and DeepSeek's API, so that their calls survive:
// it retries, waits, fails over between keys and accounts, and holds the keys.
//
//	seawall serve seawall.yaml   serve, as the file says
//	seawall check seawall.yaml   tell what is wrong with the file
//	seawall key new              make a client's key
//	seawall version              tell the version
//	seawall --demo               serve a fake DeepSeek, to try it
//
// The gateway's README describes the file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"

	"github.com/seawall-go/deepseek/gateway"
)

func main() {
	ctx, end := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		end()
		<-signals // somebody does not want to wait
		os.Exit(1)
	}()
	go fit(ctx)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const usage = `Usage:

  seawall serve FILE     serve DeepSeek's API, as the file says
  seawall check FILE     tell what is wrong with the file
  seawall key new [NAME] make a key for a client
  seawall version        tell the version
  seawall --demo         serve a fake DeepSeek with its faults switched on

With --demo, --listen ADDRESS is where; default 127.0.0.1:8080. The status page is
at the port after it. --quiet leaves out the traffic that the demo makes itself.
`

var errUsage = errors.New("usage")

// run is a command, until it is done or ctx is.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	flags := flag.NewFlagSet("seawall", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() { fmt.Fprint(errs, usage) }
	demo := flags.Bool("demo", false, "")
	tellVersion := flags.Bool("version", false, "")
	quiet := flags.Bool("quiet", false, "")
	listen := flags.String("listen", "127.0.0.1:8080", "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return errUsage
	}
	args = flags.Args()
	switch {
	case *tellVersion && len(args) == 0:
		args = []string{"version"}
	case len(args) == 1 && args[0] == "help", slices.ContainsFunc(args, asksForHelp):
		fmt.Fprint(errs, usage)
		return nil
	}
	switch {
	case *demo && len(args) == 0:
		return serveDemo(ctx, *listen, *quiet, out, errs)
	case len(args) == 2 && args[0] == "serve":
		return serveFile(ctx, args[1], errs)
	case len(args) == 2 && args[0] == "check":
		return checkFile(args[1], out)
	case len(args) >= 2 && len(args) <= 3 && args[0] == "key" && args[1] == "new":
		newKey(out, append(args, "NAME")[2])
		return nil
	case len(args) == 1 && args[0] == "version":
		fmt.Fprintln(out, version())
		return nil
	}
	fmt.Fprint(errs, usage)
	return errUsage
}

// checkFile tells what is wrong with a file.
func checkFile(path string, out io.Writer) error {
	c, err := gateway.ReadConfig(path)
	if err != nil {
		return err
	}
	_, badCertificate := readCertificate(c)
	shared, badRedis := share(c, slog.New(slog.DiscardHandler)) // which asks nobody yet
	shared.close()
	if err := errors.Join(badCertificate, badRedis); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: nothing is wrong\n", path)
	return nil
}

// asksForHelp is whether an argument of a command asks what it does: the flag package
// looks at those before the command only.
func asksForHelp(arg string) bool { return arg == "--help" || arg == "-help" || arg == "-h" }

// plainName is what YAML takes for a text without quotes.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// newKey makes a key and tells it this once.
func newKey(out io.Writer, name string) {
	key := gateway.NewKey()
	if !plainName.MatchString(name) {
		name = strconv.Quote(name)
	}
	fmt.Fprintf(out, `The client's key, which is told this once:

  %s

What goes into the file, from which nobody can tell the key:

  clients:
    - name: %s
      keys: %s
`, key, name, gateway.HashKey(key))
}

// version is what the build says of itself.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "seawall, of an unknown version"
	}
	return "seawall " + info.Main.Version + " " + info.GoVersion
}
