package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"furrow/internal/app"
	"furrow/internal/history"

	"github.com/spf13/cobra"
)

func importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Bring history along from another system",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(importSnowplowCommand())
	return cmd
}

func importSnowplowCommand() *cobra.Command {
	var spec history.ImportSpec
	asJSON := false
	cmd := &cobra.Command{
		Use:   "snowplow FILE|FOLDER|s3://BUCKET/KEY ...",
		Short: "Import Snowplow's enriched events",
		Long: `Import stores enriched events as Snowplow writes them: lines of 131 tab-separated
cells, plain or gzip. They go into the database and the archive under their own ids
and times, and the recommender learns from them. An event that is there already is
dropped; a line that is no event becomes a bad row. A folder, or an s3:// address
that ends in a slash, stands for all files under it. An import that was stopped goes
on where it was when the same command is given again.`,
		Example: `  furrow import snowplow enriched-2026-11-01.tsv.gz
  furrow import snowplow /backup/enriched/
  furrow import snowplow s3://acme-snowplow/enriched/archive/run=2026-11-01/`,
		Args: someSource,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := openOperator(cmd)
			if err != nil {
				return err
			}
			defer func() { _ = o.Close() }() // what was imported is durable
			sources, err := o.sources(cmd.Context(), args)
			if err != nil {
				return err
			}
			var total history.ImportReport
			for i, s := range sources {
				file := spec
				file.NoRebuild = spec.NoRebuild || i < len(sources)-1 // once, after the last
				report, err := o.importOne(cmd.Context(), file, s)
				if err != nil {
					return err
				}
				if asJSON {
					if err := json.NewEncoder(cmd.OutOrStdout()).Encode(report); err != nil {
						return err
					}
					continue
				}
				printImport(cmd.OutOrStdout(), report)
				addImport(&total, report)
			}
			if len(sources) > 1 && !asJSON {
				total.Name = fmt.Sprintf("%d files", len(sources))
				printImport(cmd.OutOrStdout(), total)
			}
			return nil
		},
	}
	addSettings(cmd)
	cmd.Flags().BoolVar(&spec.NoDatabase, "no-database", false, "leave the database alone")
	cmd.Flags().BoolVar(&spec.NoArchive, "no-archive", false, "leave the archive alone; the recommender, which learns from it, then learns nothing")
	cmd.Flags().BoolVar(&spec.NoRebuild, "no-recommender", false, "leave the recommender alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON line for each file")
	return cmd
}

func someSource(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("name a file, a folder or an s3:// address to import")
	}
	return nil
}

// source is a file or object to import.
type source struct {
	name string // absolute path, or s3:// address
	size int64  // 0: unknown
}

func isS3(name string) bool { return strings.HasPrefix(name, "s3://") }

// sources resolves what was named to files and objects, in the order of their names.
func (o *operator) sources(ctx context.Context, named []string) ([]source, error) {
	var all []source
	for _, name := range named {
		var found []source
		var err error
		switch {
		case isS3(name) && strings.HasSuffix(name, "/"):
			var keys []string
			err = o.do(ctx, app.OpSources, app.Sources{URL: name}, nil, &keys)
			for _, key := range keys {
				found = append(found, source{name: key})
			}
		case isS3(name):
			found = []source{{name: name}}
		default:
			found, err = files(name)
		}
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("there is nothing to import in %s", name)
		}
		slices.SortFunc(found, func(a, b source) int { return strings.Compare(a.name, b.name) })
		all = append(all, found...)
	}
	return all, nil
}

// files returns a file, or all files under a folder but hidden ones.
func files(name string) ([]source, error) {
	root, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	var found []source
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != root && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(path) // follows links
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		found = append(found, source{path, info.Size()})
		return nil
	})
	return found, err
}

func (o *operator) importOne(ctx context.Context, spec history.ImportSpec, s source) (history.ImportReport, error) {
	var report history.ImportReport
	spec.Name, spec.Size = s.name, s.size
	var body io.Reader
	if !isS3(s.name) {
		f, err := os.Open(s.name)
		if err != nil {
			return report, err
		}
		defer f.Close()
		body = f
	}
	return report, o.do(ctx, app.OpImport, spec, body, &report)
}

func addImport(total *history.ImportReport, r history.ImportReport) {
	total.Lines += r.Lines
	total.Events += r.Events
	total.New += r.New
	total.Doubles += r.Doubles
	total.Conflicts += r.Conflicts
	total.Refused += r.Refused
	total.Bad += r.Bad
	total.NewBad += r.NewBad
	total.Forgotten += r.Forgotten
	total.Archived += r.Archived
	total.Seconds += r.Seconds
	total.Rebuilt = total.Rebuilt || r.Rebuilt
}

func printImport(out io.Writer, r history.ImportReport) {
	fmt.Fprintln(out, r.Name)
	if r.ResumedFrom > 0 {
		fmt.Fprintf(out, "  went on after line %d, where an earlier run ended\n", r.ResumedFrom)
	}
	fmt.Fprintf(out, "  %d lines: %d events, %d bad rows", r.Lines, r.Events, r.Bad)
	if r.Forgotten > 0 {
		fmt.Fprintf(out, ", %d events of forgotten people left out", r.Forgotten)
	}
	fmt.Fprintf(out, "\n  database: %d events were new, %d it had", r.New, r.Doubles)
	if r.Conflicts+r.Refused > 0 {
		fmt.Fprintf(out, ", %d were there with other content, %d it cannot hold", r.Conflicts, r.Refused)
	}
	fmt.Fprintf(out, "\n  archive: %d lines\n", r.Archived)
	if r.Rebuilt {
		fmt.Fprintln(out, "  recommender: learned anew")
	}
	if r.Seconds > 0 {
		fmt.Fprintf(out, "  %.1f s, %.0f lines a second\n", r.Seconds, float64(r.Lines)/r.Seconds)
	}
}
