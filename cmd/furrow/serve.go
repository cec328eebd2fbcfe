package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"furrow/internal/app"
	"furrow/internal/config"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Collect, record and recommend",
		Long: `Serve runs the whole pipeline on this machine with no configuration: the collector
and /v1 on the public listener, the inspector on loopback, everything that is kept
in the data folder. The first Ctrl-C or SIGTERM stops it cleanly, a second at once;
neither loses what was answered 200.`,
		Example: `  furrow serve
  furrow serve --listen :80 --data-dir /var/lib/furrow
  furrow serve --config furrow.yaml --roles collector,recorder`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begun := time.Now()
			cfg, err := settings(cmd)
			if err != nil {
				return err
			}
			log, logFile, err := logger(cfg.Log)
			if err != nil {
				return err
			}
			defer logFile.Close()
			furrow, err := app.New(cfg, app.Options{Version: version, Log: log})
			if err != nil {
				return err
			}
			announce(cmd.OutOrStdout(), cfg, furrow)
			fmt.Fprintf(cmd.OutOrStdout(), "\nReady in %d ms. Ctrl-C stops it; nothing that was answered 200 is lost.\n", time.Since(begun).Milliseconds())
			return furrow.Run(cmd.Context())
		},
	}
	addSettings(cmd)
	return cmd
}

// announce says where the process listens and where its data is.
func announce(out io.Writer, cfg config.Config, furrow *app.App) {
	line := func(name, value, note string) { fmt.Fprintf(out, "  %-12s%-32s%s\n", name, value, note) }
	public := browsable(furrow.PublicAddr())
	fmt.Fprintf(out, "Furrow %s\n", version)
	if cfg.Has(config.RoleCollector) {
		line("collector", public, "events, tracker script "+public+"/furrow.js")
	}
	if cfg.Has(config.RoleRecommender) {
		line("recommend", public+"/v1/recommend", "")
	}
	if cfg.Has(config.RoleInspector) {
		line("inspector", browsable(furrow.AdminAddr()), "open it in a browser")
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		dir = cfg.DataDir
	}
	line("data", dir, "")
}

// browsable turns a listener's address into a URL for this machine.
func browsable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() {
		_, port, err := net.SplitHostPort(a.String())
		if err != nil {
			return a.String()
		}
		return "http://localhost:" + port
	}
	return "http://" + a.String()
}
