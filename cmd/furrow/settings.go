package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"furrow/internal/config"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// settingFlags are the settings that a person types; all others live in the file
// and the environment.
var settingFlags = []struct{ name, key, usage string }{
	{"data-dir", "dataDir", "folder for journal, database, archive and snapshots"},
	{"listen", "listen", "address of the collector, the tracker script and /v1"},
	{"admin", "admin", "address of the inspector, /metrics and /status"},
	{"roles", "roles", "what this process does: all, or some of collector,recorder,recommender,inspector"},
	{"log", "log.file", "file for the log (default standard error)"},
	{"log-level", "log.level", "debug, info, warn or error"},
}

// addSettings gives a command the flags that shape the configuration.
func addSettings(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "YAML configuration file")
	defaults := map[string]string{"data-dir": "./furrow-data", "listen": ":8080", "admin": "127.0.0.1:8081", "roles": "all", "log-level": "info"}
	for _, f := range settingFlags {
		cmd.Flags().String(f.name, defaults[f.name], f.usage)
	}
}

// settings loads the configuration that a command's flags, the environment and
// the file describe.
func settings(cmd *cobra.Command) (config.Config, error) {
	var flags []config.Flag
	for _, f := range settingFlags {
		if cmd.Flags().Changed(f.name) {
			value, err := cmd.Flags().GetString(f.name)
			if err != nil {
				return config.Config{}, err
			}
			flags = append(flags, config.Flag{Name: f.name, Key: f.key, Value: value})
		}
	}
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return config.Config{}, err
	}
	cfg, err := config.Load(file, os.Environ(), flags)
	for _, name := range cfg.Ignored {
		fmt.Fprintf(cmd.ErrOrStderr(), "furrow: warning: %s sets nothing; `furrow check` prints all keys\n", name)
	}
	return cfg, err
}

// logger writes text for people on a terminal and JSON for machines elsewhere.
func logger(cfg config.Log) (*slog.Logger, io.Closer, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, nil, fmt.Errorf("log.level = %q: %w", cfg.Level, err)
	}
	out, done := os.Stderr, io.NopCloser(nil)
	if cfg.File != "" {
		f, err := os.OpenFile(cfg.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("log file: %w; choose another with --log", err)
		}
		out, done = f, f
	}
	if term.IsTerminal(int(out.Fd())) {
		return slog.New(tint.NewTextHandler(out, &tint.Options{Level: level, TimeFormat: "15:04:05"})), done, nil
	}
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level})), done, nil
}
