package main

import (
	"encoding/json"
	"fmt"

	"furrow/internal/inspector"

	"github.com/spf13/cobra"
)

func tailCommand() *cobra.Command {
	var (
		admin  string
		filter inspector.Filter
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow events and bad rows as they are recorded",
		Long: `Tail prints a line for every event and bad row that a running Furrow records: the
same stream as the inspector's. It starts with the newest ones that the inspector
still holds, reconnects when Furrow restarts, and ends with Ctrl-C.`,
		Example: `  furrow tail
  furrow tail --bad
  furrow tail --app shop --type page_view --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			lines := json.NewEncoder(out)
			return inspector.Tail(cmd.Context(), admin, filter, func(l inspector.Line) error {
				if l.Lost != nil {
					_, err := fmt.Fprintln(cmd.ErrOrStderr(), inspector.FormatLine(l))
					return err
				}
				if asJSON {
					return lines.Encode(l)
				}
				_, err := fmt.Fprintln(out, inspector.FormatLine(l))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "http://127.0.0.1:8081", "admin listener of the running Furrow")
	cmd.Flags().StringVar(&filter.AppID, "app", "", "only events of this app id")
	cmd.Flags().StringVar(&filter.Type, "type", "", "only events of this name, such as page_view")
	cmd.Flags().BoolVar(&filter.Bad, "bad", false, "only bad rows")
	cmd.Flags().IntVar(&filter.Backlog, "last", 10, "begin with so many of the newest events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return cmd
}
