package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"furrow/internal/app"
	"furrow/internal/history"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// operator is the furrow that has the data folder, seen from a command: another
// process that runs, or this one.
type operator struct {
	*app.Operator
	cmd *cobra.Command
}

// openOperator finds the furrow that has the data folder of the command's settings.
func openOperator(cmd *cobra.Command) (*operator, error) {
	cfg, err := settings(cmd)
	if err != nil {
		return nil, err
	}
	if cfg.Log.Level != "error" {
		cfg.Log.Level = "warn" // the command's own output says what happens
	}
	log, _, err := logger(cfg.Log)
	if err != nil {
		return nil, err
	}
	o, err := app.OpenOperator(cfg, app.Options{Version: version, Log: log})
	if err != nil {
		return nil, err
	}
	if at := o.Running(); at != "" && interactive() {
		fmt.Fprintf(cmd.ErrOrStderr(), "The furrow at %s has the data folder and does the work.\n", at)
	}
	return &operator{Operator: o, cmd: cmd}, nil
}

// do runs an operation with a progress bar on a terminal.
func (o *operator) do(ctx context.Context, name string, spec any, body io.Reader, report any) error {
	bar := &steps{}
	defer bar.end()
	var progress history.Progress
	if interactive() {
		progress = bar.show
	}
	err := o.Do(ctx, name, spec, body, report, progress)
	if err != nil && ctx.Err() != nil {
		return errStopped
	}
	return err
}

var errStopped = errors.New("stopped; the same command goes on where it was")

// once runs an operation that only looks.
func once(cmd *cobra.Command, name string, spec, report any) error {
	o, err := openOperator(cmd)
	if err != nil {
		return err
	}
	return errors.Join(o.do(cmd.Context(), name, spec, nil, report), o.Close())
}

// careful is an operation that is previewed before it is done.
type careful[R any] struct {
	name     string
	spec     func(preview bool) any
	show     func(out io.Writer, preview R)
	nothing  func(preview R) bool // there is nothing to do
	question string
	preview  bool // only look
	yes      bool // do not look, do not ask
	json     bool
}

// run looks, asks and does. The report is that of the last of them that was done;
// quiet means that it was shown already.
func (c careful[R]) run(cmd *cobra.Command) (report R, quiet bool, err error) {
	o, err := openOperator(cmd)
	if err != nil {
		return report, true, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if c.preview || !c.yes {
		if err := o.do(cmd.Context(), c.name, c.spec(true), nil, &report); err != nil || c.preview {
			return report, false, err
		}
		c.show(cmd.ErrOrStderr(), report)
		if c.nothing(report) {
			return report, !c.json, nil
		}
		if yes, err := confirm(cmd, c.question); err != nil || !yes {
			return report, true, err
		}
	}
	var done R
	err = o.do(cmd.Context(), c.name, c.spec(false), nil, &done)
	return done, false, err
}

func interactive() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// steps shows a bar for each step of an operation.
type steps struct {
	what string
	bar  *progressbar.ProgressBar
}

func (s *steps) show(step history.Step) {
	if s.bar == nil || s.what != step.What {
		s.end()
		s.what = step.What
		total, options := step.Total, []progressbar.Option{
			progressbar.OptionSetDescription(step.What), progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100 * time.Millisecond),
		}
		if total > 0 {
			options = append(options, progressbar.OptionShowCount())
		} else {
			total = -1 // a spinner
		}
		s.bar = progressbar.NewOptions64(total, options...)
	}
	_ = s.bar.Set64(step.Done)
}

func (s *steps) end() {
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}

// confirm asks on a terminal. Elsewhere only --yes says yes.
func confirm(cmd *cobra.Command, question string) (bool, error) {
	if yes, err := cmd.Flags().GetBool("yes"); err != nil || yes {
		return yes, err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return false, fmt.Errorf("nobody to ask: %s repeat the command with --yes", question)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	return answer(cmd.Context(), cmd.InOrStdin())
}

// answer reads a line that says yes or no. Nothing can end the read itself: it is left
// alone when ctx ends, as the process does then.
func answer(ctx context.Context, in io.Reader) (bool, error) {
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(in).ReadString('\n')
		typed <- line{strings.ToLower(strings.TrimSpace(text)), err}
	}()
	select {
	case <-ctx.Done():
		return false, errors.New("stopped; nothing was changed")
	case l := <-typed:
		if l.err != nil {
			return false, errors.New("no answer; nothing was changed")
		}
		return l.text == "y" || l.text == "yes", nil
	}
}

// timeLayouts are how a person may write a time; without a zone it is UTC.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15", "2006-01-02"}

// parseTime reads a time, or a span such as 36h or 7d before now. Empty is no bound.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil {
			return t.UTC(), nil
		}
	}
	span := text
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days+"\n", "%d\n", &n); err == nil && n > 0 && n < 36500 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(span); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("--%s %q is no time: write 2026-11-22, 2026-11-22T09:30 (UTC), or how long ago, such as 36h or 7d", flag, text)
}
