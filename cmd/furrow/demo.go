package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"furrow/internal/app"
	"furrow/internal/collector"
	"furrow/internal/demo"
	"furrow/web"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func demoCommand() *cobra.Command {
	address := ""
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve, with a demo shop and simulated visitors",
		Long: `Demo is serve with a small shop on a port of its own. Simulated visitors replay the
clicks of a real shop (bol.com's Serenade example, Apache-2.0) through the collector,
so that events stream through the inspector and the shop recommends what visitors
like you looked at. Your own visit counts from the first click.

Its data folder is ./furrow-demo unless you name another.`,
		Example: "  furrow demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("data-dir") {
				if err := cmd.Flags().Set("data-dir", "./furrow-demo"); err != nil {
					return err
				}
			}
			return runDemo(cmd, address)
		},
	}
	addSettings(cmd)
	cmd.Flags().Lookup("data-dir").DefValue = "./furrow-demo"
	cmd.Flags().StringVar(&address, "shop", "127.0.0.1:8082", "address of the demo shop")
	return cmd
}

func runDemo(cmd *cobra.Command, address string) error {
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
	port, err := app.Listen(address, "--shop")
	if err != nil {
		return err
	}
	defer port.Close()
	furrow, err := app.New(cfg, app.Options{Version: version, Log: log})
	if err != nil {
		return err
	}
	shop, err := demo.New(cfg.Demo, demo.Options{
		Pages:        web.Demo(),
		CollectorURL: browsable(furrow.PublicAddr()),
		InspectorURL: browsable(furrow.AdminAddr()),
		ShopURL:      browsable(port.Addr()),
		Log:          log.With("component", "demo"),
	})
	if err != nil {
		return err
	}
	announce(cmd.OutOrStdout(), cfg, furrow)
	fmt.Fprintf(cmd.OutOrStdout(), "  %-12s%-32s%s\n", "demo shop", browsable(port.Addr()), "open it, look at some products")
	fmt.Fprintf(cmd.OutOrStdout(), "\nReady in %d ms. Ctrl-C stops it.\n", time.Since(begun).Milliseconds())

	// The visitors and the shop leave before Furrow stops, so that its balance is
	// of whole visits.
	group, ctx := errgroup.WithContext(cmd.Context())
	pipeline, stop := context.WithCancel(context.WithoutCancel(ctx))
	server := collector.NewServer(cfg.Collector.Networking, shop.Handler(), log)
	visitors := make(chan struct{})
	group.Go(func() error { return furrow.Run(pipeline) })
	group.Go(func() error {
		defer close(visitors)
		return shop.Run(ctx)
	})
	group.Go(func() error { return serveShop(server, port) })
	group.Go(func() error {
		defer stop()
		<-ctx.Done()
		<-visitors
		deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return server.Shutdown(deadline)
	})
	return group.Wait()
}

func serveShop(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("demo shop: %w", err)
	}
	return nil
}
