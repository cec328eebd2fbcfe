package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"furrow/internal/app"
	"furrow/internal/history"

	"github.com/spf13/cobra"
)

func badCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bad",
		Short: "See why events are bad, and try them again",
		Long: `Bad rows are what could not become events: each holds its exact record and why it
failed. List groups them by cause, show takes one apart, retry enriches them again
under today's configuration and brings back those that pass, under the identifiers
that they would have had.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(badListCommand(), badShowCommand(), badRetryCommand())
	return cmd
}

// badSelection are the flags that select bad rows.
type badSelection struct{ cause, schema, from, to string }

func (s *badSelection) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.cause, "cause", "", "only rows whose cause contains this")
	cmd.Flags().StringVar(&s.schema, "schema", "", "only rows whose schema contains this, such as schema_violations")
	cmd.Flags().StringVar(&s.from, "from", "", "collected at or after, such as 2026-11-22, 2026-11-22T09:30 or 36h (ago)")
	cmd.Flags().StringVar(&s.to, "to", "", "collected before")
}

func (s *badSelection) spec(ids []string) (history.BadSelect, error) {
	selected := history.BadSelect{IDs: ids, Cause: s.cause, Schema: s.schema}
	now := time.Now()
	var err error
	if selected.From, err = parseTime("from", s.from, now); err != nil {
		return selected, err
	}
	selected.To, err = parseTime("to", s.to, now)
	return selected, err
}

func badListCommand() *cobra.Command {
	var selection badSelection
	asJSON := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Group bad rows by why they failed",
		Example: `  furrow bad list
  furrow bad list --schema schema_violations --from 7d`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := selection.spec(nil)
			if err != nil {
				return err
			}
			var report history.BadListReport
			if err := once(cmd, app.OpBadList, spec, &report); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return printCauses(cmd.OutOrStdout(), report)
		},
	}
	addSettings(cmd)
	selection.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printCauses(out io.Writer, report history.BadListReport) error {
	if report.Rows == 0 {
		fmt.Fprintln(out, "No bad rows.")
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "rows\tnewest\texample\tcause")
	for _, c := range report.Causes {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", c.Rows, c.Last.Format("2006-01-02 15:04:05"), c.Example, c.Cause)
	}
	fmt.Fprintf(table, "%d\tin all\n", report.Rows)
	return table.Flush()
}

func badShowCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Take one bad row apart, and say what it gives today",
		Example: "  furrow bad show 4a7ff8f0-8c40-4b1c-9f53-8b0f5a8f8e0e",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var report history.BadShowReport
			if err := once(cmd, app.OpBadShow, history.BadShowSpec{ID: args[0]}, &report); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return printBad(cmd.OutOrStdout(), report)
		},
	}
	addSettings(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, with the exact record in base64")
	return cmd
}

func printBad(out io.Writer, r history.BadShowReport) error {
	failure, err := json.MarshalIndent(r.Failure, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n  collected  %s\n  schema     %s\n  cause      %s\n  event      %s\n  record     %s (%d bytes)\n  failure    %s\n",
		r.ID, r.Time.Format(time.RFC3339Nano), r.Schema, r.Cause, place(r.Index), r.RecordID, r.RecordLen, failure)
	if p := r.Payload; p != nil {
		fmt.Fprintln(out, "request")
		for _, line := range []struct {
			name  string
			value *string
		}{{"path", p.Path}, {"query", p.Querystring}, {"host", p.Hostname}, {"type", p.ContentType}, {"agent", p.UserAgent}, {"body", p.Body}} {
			if line.value != nil {
				fmt.Fprintf(out, "  %-9s  %s\n", line.name, printable(*line.value))
			}
		}
	}
	fmt.Fprintf(out, "today it %s\n", r.Now.Outcome)
	if r.Now.Cause != "" {
		fmt.Fprintf(out, "  because    %s\n", r.Now.Cause)
	}
	for _, id := range r.Now.Events {
		fmt.Fprintf(out, "  event      %s\n", id)
	}
	return nil
}

// place says which part of the record a bad row is about.
func place(index int) string {
	if index < 0 {
		return "the whole record"
	}
	return fmt.Sprintf("number %d of the record, from 0", index)
}

// printable keeps what a stranger sent from steering the terminal.
func printable(s string) string {
	const longest = 4000
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func badRetryCommand() *cobra.Command {
	var selection badSelection
	preview, yes, asJSON := false, false, false
	cmd := &cobra.Command{
		Use:   "retry [ID...]",
		Short: "Enrich bad rows again and bring back those that pass",
		Long: `Retry enriches the records of the selected bad rows again under today's
configuration. Those that pass become events in the database, the archive and the
recommender, under the identifiers that they would have had, and are no bad rows any
more; those that fail again stay. It may be stopped and repeated: nothing is doubled.`,
		Example: `  furrow bad retry --preview
  furrow bad retry --cause "not found" --yes
  furrow bad retry 4a7ff8f0-8c40-4b1c-9f53-8b0f5a8f8e0e`,
		RunE: func(cmd *cobra.Command, args []string) error {
			selected, err := selection.spec(args)
			if err != nil {
				return err
			}
			report, quiet, err := careful[history.BadRetryReport]{
				name: app.OpBadRetry, preview: preview, yes: yes, json: asJSON, show: printRetry, question: "Bring them back?",
				spec:    func(preview bool) any { return history.BadRetrySpec{BadSelect: selected, Preview: preview} },
				nothing: func(r history.BadRetryReport) bool { return r.Pass+r.Settled == 0 },
			}.run(cmd)
			if err != nil || quiet {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			printRetry(cmd.OutOrStdout(), report)
			return nil
		},
	}
	addSettings(cmd)
	selection.add(cmd)
	cmd.Flags().BoolVar(&preview, "preview", false, "only say how many pass now")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not show a preview and ask first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printRetry(out io.Writer, r history.BadRetryReport) {
	if r.Rows == 0 {
		fmt.Fprintln(out, "No bad rows are selected.")
		return
	}
	verb := "came back as events"
	if r.Preview {
		verb = "would come back as events"
	}
	fmt.Fprintf(out, "%d bad rows: %d %s, %d are stored already, %d still fail", r.Rows, r.Pass, verb, r.Settled, r.Fail)
	if r.Stuck > 0 {
		fmt.Fprintf(out, ", %d have no record to try", r.Stuck)
	}
	if r.Forgotten > 0 {
		fmt.Fprintf(out, ", %d are of forgotten people", r.Forgotten)
	}
	fmt.Fprintln(out)
	for _, c := range r.Causes {
		fmt.Fprintf(out, "  %6d of %6d pass  %s\n", c.Pass+c.Settled, c.Rows, c.Cause)
		if c.Note != "" {
			fmt.Fprintf(out, "                       %s\n", c.Note)
		}
		for _, now := range c.Now {
			fmt.Fprintf(out, "         %6d now    %s\n", now.Rows, now.Cause)
		}
	}
}
