package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"furrow/internal/recommender/evaluate"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func evaluateCommand() *cobra.Command {
	var (
		opt    evaluate.Options
		params string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "evaluate",
		Short: "Measure a recommendation algorithm on past sessions",
		Long: `Evaluate learns a training file click by click, then asks for the next item after
every click of the test sessions and compares with what came. Files are tab-separated,
gzip or plain, with the header SessionId, ItemId, Time (seconds since the epoch).` + parametersHelp(),
		Example: `  furrow evaluate --train train.tsv.gz --test test.tsv.gz --algorithm vmis
  furrow evaluate --train train.tsv.gz --test test.tsv.gz --algorithm vsknn --params k=500,m=5000 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opt.Params, err = parseParams(params); err != nil {
				return err
			}
			if opt.TrainFile == "" || opt.TestFile == "" {
				return errors.New("evaluate needs --train and --test")
			}
			opt.Progress = progress("predictions")
			report, err := evaluate.Run(cmd.Context(), opt)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			printReport(cmd.OutOrStdout(), report)
			return nil
		},
	}
	cmd.Flags().StringVar(&opt.TrainFile, "train", "", "sessions to learn from")
	cmd.Flags().StringVar(&opt.TestFile, "test", "", "sessions to predict")
	cmd.Flags().StringVar(&opt.Algorithm, "algorithm", "vmis", strings.Join(evaluate.Algorithms(), ", "))
	cmd.Flags().StringVar(&params, "params", "", "parameters as k=v,k=v")
	cmd.Flags().StringVar(&opt.ListsFile, "lists", "", "write every list as a JSON line to this file")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func parametersHelp() string {
	var b strings.Builder
	for _, algorithm := range evaluate.Algorithms() {
		fmt.Fprintf(&b, "\n\nParameters of %s:\n", algorithm)
		for _, p := range evaluate.Parameters(algorithm) {
			fmt.Fprintf(&b, "  %-10s %-10s %s\n", p.Key, p.Default, p.Doc)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

func parseParams(text string) (map[string]string, error) {
	params := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("--params %q: %q is not key=value", text, pair)
		}
		params[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return params, nil
}

func printReport(out io.Writer, r evaluate.Report) {
	fmt.Fprintf(out, "%s on %d sessions, %d clicks, %d items; %d predictions\n", r.Algorithm, r.Sessions, r.Clicks, r.Items, r.Predictions)
	for _, line := range []struct {
		name  string
		value float64
	}{
		{"HR@20", r.HR20},
		{"MRR@20", r.MRR20},
		{"NDCG@20", r.NDCG},
		{"Precision@20", r.Precision},
		{"Recall@20", r.Recall},
		{"Coverage@20", r.Coverage},
		{"Popularity@20", r.Popularity},
	} {
		fmt.Fprintf(out, "  %-14s %.4f\n", line.name, line.value)
	}
	fmt.Fprintf(out, "  a prediction   p50 %.0f µs, p90 %.0f µs, p99 %.0f µs\n", r.P50Micros, r.P90Micros, r.P99Micros)
}

// progress shows a bar on a terminal, and nothing elsewhere.
func progress(what string) func(done, total int) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total int) {
		if bar == nil {
			bar = progressbar.NewOptions(total, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionClearOnFinish())
		}
		_ = bar.Set(done)
	}
}
