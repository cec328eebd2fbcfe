package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"furrow/internal/app"
	"furrow/internal/history"

	"github.com/spf13/cobra"
)

func forgetCommand() *cobra.Command {
	var spec history.ForgetSpec
	yes, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "forget --user ID",
		Short: "Take a person out of everything that is kept",
		Long: `Forget deletes every event that was collected until now under an identifier: an
exact value of user_id, domain_userid or network_userid. Database, archive, bad rows
and recommender are cleaned; of a request with several people's events only theirs
go. A tombstone, which is a keyed hash and a time, keeps them out of every replay,
restart and restored backup. What is collected later is new.

Without --yes it first says what there is, and which other identifiers stand on the
same events; --linked forgets those too, unless more than one person may use them.
The receipt counts what went, and says when the last copy on the bus is gone.`,
		Example: `  furrow forget --user 4711 --preview
  furrow forget --user 4711 --linked --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, quiet, err := careful[history.ForgetReport]{
				name: app.OpForget, preview: spec.Preview, yes: yes, json: asJSON, question: "This cannot be undone. Forget them?",
				spec: func(preview bool) any {
					spec.Preview = preview
					return spec
				},
				show:    func(out io.Writer, r history.ForgetReport) { printPerson(out, r, spec.Linked) },
				nothing: func(history.ForgetReport) bool { return false }, // the archive may hold more than the database
			}.run(cmd)
			switch {
			case err != nil || quiet:
				return err
			case asJSON:
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			case report.Preview:
				printPerson(cmd.OutOrStdout(), report, spec.Linked)
			default:
				printReceipt(cmd.OutOrStdout(), report)
			}
			if err == nil && !report.Complete {
				err = errors.New("not everything was reached: run the same command again; until then the tombstones keep what is left from being used")
			}
			return err
		},
	}
	addSettings(cmd)
	cmd.Flags().StringArrayVar(&spec.Users, "user", nil, "an identifier; may be given several times")
	cmd.Flags().BoolVar(&spec.Linked, "linked", false, "the identifiers on the same events too")
	cmd.Flags().BoolVar(&spec.Preview, "preview", false, "only say what there is")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not show a preview and ask first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printPerson(out io.Writer, r history.ForgetReport, linked bool) {
	if r.Person == nil || r.Person.Events == 0 {
		fmt.Fprintln(out, "The database has no event under this identifier.")
	} else {
		fmt.Fprintf(out, "%d events from %s to %s\n", r.Person.Events, day(r.Person.First), day(r.Person.Last))
	}
	if r.Links == nil {
		return
	}
	verb := "on the same events, and would go with --linked"
	if linked {
		verb = "on the same events, and go too"
	}
	const most = 20
	for _, id := range r.Links.Taken[:min(most, len(r.Links.Taken))] {
		fmt.Fprintf(out, "  %s %s: %d events, %s\n", id.Field, printable(id.Value), id.Events, verb)
	}
	if more := len(r.Links.Taken) - most; more > 0 {
		fmt.Fprintf(out, "  … and %d more %s\n", more, verb)
	}
	for _, id := range r.Links.Left[:min(most, len(r.Links.Left))] {
		fmt.Fprintf(out, "  %s %s: %d events, left alone: %s\n", id.Field, printable(id.Value), id.Events, id.Why)
	}
	if more := len(r.Links.Left) - most; more > 0 {
		fmt.Fprintf(out, "  … and %d more are left alone; --preview --json has all of them\n", more)
	}
	if r.Links.Cut {
		fmt.Fprintln(out, "  These are only the commonest of the identifiers on their events.")
	}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func printReceipt(out io.Writer, r history.ForgetReport) {
	fmt.Fprintf(out, "Forgotten: what was collected under %d identifiers until %s\n", r.Identifiers, r.At.UTC().Format(time.RFC3339))
	if d := r.Database; d != nil {
		fmt.Fprintf(out, "  database     %d events, %d bad rows, %d records of bad rows\n", d.Events, d.BadRows, d.Records)
	}
	if a := r.Archive; a != nil {
		fmt.Fprintf(out, "  archive      %d events, %d bad rows, %d records; %d files written anew\n", a.Events, a.BadRows, a.Records, a.Files)
	}
	if r.Rebuilt {
		fmt.Fprintln(out, "  recommender  learned anew without them")
	}
	fmt.Fprintf(out, "  tombstones   %d\n", r.Tombstones)
	if b := r.Bus; b != nil {
		if b.Known {
			fmt.Fprintf(out, "  bus          the last copy on the %s is gone by %s\n", b.What, b.Last.UTC().Format(time.RFC3339))
		} else {
			fmt.Fprintf(out, "  bus          when the last copy is gone is not known: %s\n", b.What)
		}
	}
	for _, f := range r.Failed {
		fmt.Fprintf(out, "  NOT reached  %s: %s\n", f.Where, f.Error)
	}
	if r.Receipt != "" {
		fmt.Fprintf(out, "  receipt      %s\n", r.Receipt)
	}
}
