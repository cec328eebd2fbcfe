// Command furrow turns what visitors do on a site into live recommendations and a
// durable history of events. Run `furrow serve`, or `furrow demo` to see it work.
//
// This package is the only place with flags, signals and exit codes; every
// subcommand is a thin shell over one room.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "0.1.0"

func main() {
	// On one core the thread that waits for fdatasync would keep Go's only
	// processor, and nobody would read the next requests meanwhile: measured, a
	// fifth of the throughput.
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	os.Exit(run())
}

func run() int {
	// The first signal asks for a clean stop. The handler is then taken away, so
	// that a second one ends the process at once; what is on disk stays there.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	if err := command().ExecuteContext(ctx); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(os.Stderr, "furrow:", strings.TrimSuffix(line, "\n"))
		}
		return 1
	}
	return 0
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "furrow",
		Short: "Live recommendations and a durable history from what visitors do",
		Long: `Furrow receives events from Snowplow-compatible trackers, stores them before it
answers 200, records them in a database and an archive, and recommends items from
them within milliseconds.

Start with "furrow serve", or see it at work with "furrow demo".`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())
	})
	root.AddCommand(
		serveCommand(), demoCommand(), tailCommand(), replayCommand(), badCommand(), forgetCommand(), importCommand(),
		evaluateCommand(), checkCommand(), versionCommand(),
	)
	return root
}
