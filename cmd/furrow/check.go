package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func checkCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and print the effective one",
		Long: `Check reads the configuration as serve would, reports every problem at once with
its key, value, origin and rule, and prints the effective configuration as YAML
that serve accepts. It starts nothing.`,
		Example: "  furrow check --config furrow.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(cfg.Public())
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
	addSettings(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
