package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"furrow/internal/app"
	"furrow/internal/history"

	"github.com/spf13/cobra"
)

func replayCommand() *cobra.Command {
	var spec history.ReplaySpec
	var from, to, into string
	yes, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "replay --from TIME [--to TIME]",
		Short: "Give archived records to the database, the bus or the recommender again",
		Long: `Replay reads the records that the archive holds, enriches them under today's
configuration and stores what the database lacks; or publishes them on the bus; or
makes the recommender learn anew. Nothing is doubled: identifiers are derived from
the records. A replay that was stopped goes on where it was when the same command,
with the same times, is given again.`,
		Example: `  furrow replay --from 2026-11-01 --to 2026-11-08
  furrow replay --from 2026-11-01 --app shop --type page_view --preview
  furrow replay --from 2026-11-22T09:00 --into bus --yes
  furrow replay --into recommender`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			now := time.Now()
			if spec.From, err = parseTime("from", from, now); err != nil {
				return err
			}
			if spec.To, err = parseTime("to", to, now); err != nil {
				return err
			}
			spec.Target = history.Target(into)
			return runReplay(cmd, spec, yes, asJSON)
		},
	}
	addSettings(cmd)
	cmd.Flags().StringVar(&from, "from", "", "collected at or after, such as 2026-11-22, 2026-11-22T09:30 or 36h (ago)")
	cmd.Flags().StringVar(&to, "to", "", "collected before")
	cmd.Flags().StringVar(&spec.App, "app", "", "only events of this app id")
	cmd.Flags().StringVar(&spec.Type, "type", "", "only events of this name, such as page_view")
	cmd.Flags().StringVar(&into, "into", string(history.ToDatabase), "database, bus or recommender")
	cmd.Flags().BoolVar(&spec.Preview, "preview", false, "only count")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not count and ask first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func runReplay(cmd *cobra.Command, spec history.ReplaySpec, yes, asJSON bool) error {
	report, quiet, err := careful[history.ReplayReport]{
		// A replay takes nothing away, so without a terminal nobody need say yes.
		name: app.OpReplay, preview: spec.Preview, yes: yes || !interactive(), json: asJSON,
		question: fmt.Sprintf("Replay into the %s?", spec.Target),
		spec: func(preview bool) any {
			spec.Preview = preview
			return spec
		},
		show:    printReplay,
		nothing: func(r history.ReplayReport) bool { return r.Records+r.Imported == 0 },
	}.run(cmd)
	if err != nil || quiet {
		return err
	}
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	}
	printReplay(cmd.OutOrStdout(), report)
	return nil
}

func printReplay(out io.Writer, r history.ReplayReport) {
	if !r.Preview && r.Target == history.ToRecommender {
		fmt.Fprintf(out, "The recommender learned anew, in %.1f s.\n", r.Seconds)
		return
	}
	if r.Records+r.Imported+r.Bad == 0 {
		fmt.Fprintln(out, "The archive holds nothing of that time (records reach it after minutes, see archive.rollAge).")
		return
	}
	if !r.ResumedFrom.IsZero() {
		fmt.Fprintf(out, "Went on from %s, where an earlier run ended.\n", r.ResumedFrom.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(out, "%d records from %s to %s: %d events", r.Records, day(r.First), day(r.Last), r.Events)
	if r.Imported > 0 {
		fmt.Fprintf(out, " (%d imported)", r.Imported)
	}
	fmt.Fprintf(out, ", %d bad rows", r.Bad)
	if r.Forgotten > 0 {
		fmt.Fprintf(out, ", %d events of forgotten people left out", r.Forgotten)
	}
	fmt.Fprintln(out)
	const longest = 20
	for i, g := range r.Groups {
		if i == longest {
			fmt.Fprintf(out, "  … and %d more\n", len(r.Groups)-longest)
			break
		}
		fmt.Fprintf(out, "  %10d  %s  %s\n", g.Events, printable(g.App), printable(g.Type))
	}
	switch {
	case r.Preview && r.Target == history.ToDatabase:
		fmt.Fprintf(out, "The database has %d of the events and lacks %d.\n", r.Known, r.Events-r.Known)
	case r.Preview:
	case r.Target == history.ToDatabase:
		fmt.Fprintf(out, "database: %d events were new, %d it had, %d were there with other content, %d it cannot hold; %d new bad rows\n",
			r.New, r.Doubles, r.Conflicts, r.Refused, r.NewBad)
	case r.Target == history.ToBus:
		fmt.Fprintf(out, "bus: %d records published\n", r.Published)
	}
	if !r.Preview && r.Seconds > 0 {
		fmt.Fprintf(out, "%.1f s, %.0f events a second\n", r.Seconds, float64(r.Events)/r.Seconds)
	}
}
