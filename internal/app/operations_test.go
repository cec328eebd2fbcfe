package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"furrow/internal/config"
	"furrow/internal/history"
)

func settings(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.Listen, cfg.Admin = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	return cfg
}

// running starts a furrow; stop ends it and returns what Run did.
func running(t *testing.T, cfg config.Config) (stop func() error) {
	t.Helper()
	a, err := New(cfg, Options{Version: "0.0.0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func operator(t *testing.T, cfg config.Config) *Operator {
	t.Helper()
	o, err := OpenOperator(cfg, Options{Version: "0.0.0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// lines is a source of an import that has no end. It says when it is being read.
type lines struct {
	read chan struct{}
	n    int
}

func (l *lines) Read(b []byte) (int, error) {
	if l.n++; l.n == 100 {
		close(l.read)
	}
	return copy(b, strings.Repeat("no event\n", 1+len(b)/9)), nil
}

// A furrow that is stopped ends the operations first, then what they work with.
func TestStoppingEndsOperations(t *testing.T) {
	t.Parallel()
	cfg := settings(t)
	stop := running(t, cfg)
	o := operator(t, cfg)
	source := &lines{read: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		var report history.ImportReport
		done <- o.Do(context.Background(), OpImport, history.ImportSpec{Name: "endless"}, source, &report, nil)
	}()
	<-source.read
	began := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > cfg.StopTimeout/2 {
		t.Errorf("stopping took %s", took)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("the command is told %v", err)
	}
	if at := operator(t, cfg).Running(); at != "" {
		t.Errorf("%s has the data folder still", at)
	}
}

// An operation that has nothing to read and nothing to say still ends with the
// command that asked for it.
func TestOperationsEndWithTheirCommand(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	s3 := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	}))
	defer s3.Close()
	cfg := settings(t)
	cfg.Archive.S3.Endpoint, cfg.Archive.S3.PathStyle = s3.URL, true
	cfg.Archive.S3.AccessKeyID, cfg.Archive.S3.SecretAccessKey, cfg.Archive.S3.Region = "id", "secret", "eu-central-1"
	running(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		var report history.ImportReport
		done <- operator(t, cfg).Do(ctx, OpImport, history.ImportSpec{Name: "s3://bucket/key"}, nil, &report, nil)
	}()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the operation goes on without its command")
	}
}

// Two commands at once: the second must not turn to another furrow that happens to
// listen on the configured address.
func TestAFolderThatACommandHas(t *testing.T) {
	t.Parallel()
	cfg := settings(t)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another furrow was asked") }))
	defer other.Close()
	cfg.Admin = other.Listener.Addr().String()
	operator(t, cfg)
	if _, err := OpenOperator(cfg, Options{Version: "0.0.0", Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), cfg.DataDir) {
		t.Errorf("%v", err)
	}
}

func TestOperationsRefuse(t *testing.T) {
	t.Parallel()
	cfg := settings(t)
	running(t, cfg)
	o := operator(t, cfg)
	for name, c := range map[string]struct {
		operation string
		spec      any
		says      string
	}{
		"unknown operation": {"undo", struct{}{}, "undo"},
		"unknown field":     {OpReplay, map[string]string{"target": "database", "form": "x"}, "form"},
		"too long":          {OpForget, history.ForgetSpec{Users: []string{strings.Repeat("x", 2<<20)}}, "bytes"},
		"target":            {OpReplay, history.ReplaySpec{Target: "moon"}, "moon"},
	} {
		err := o.Do(t.Context(), c.operation, c.spec, io.LimitReader(nil, 0), new(any), nil)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Damaged parts of the journal are kept for ever, and may hold anybody's records.
func TestReceiptTellsOfDamagedParts(t *testing.T) {
	t.Parallel()
	cfg := settings(t)
	aside := filepath.Join(cfg.DataDir, "journal", "set-aside")
	if err := os.MkdirAll(aside, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(aside, "00000000000000000001_16_9.bin"), []byte("uid=alice"), 0o600); err != nil {
		t.Fatal(err)
	}
	var report history.ForgetReport
	if err := operator(t, cfg).Do(t.Context(), OpForget, history.ForgetSpec{Users: []string{"alice"}}, nil, &report, nil); err != nil {
		t.Fatal(err)
	}
	if report.Bus == nil || report.Bus.Known || !strings.Contains(report.Bus.What, aside) {
		t.Errorf("%+v", report.Bus)
	}
}

// Commands keep the disk's reserve as the recorder does, and go on when there is room.
func TestCommandsKeepTheReserve(t *testing.T) {
	t.Parallel()
	cfg := settings(t)
	cfg.Disk.ReserveBytes = 1 << 60
	o := operator(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := ""
	var report history.ImportReport
	err := o.Do(ctx, OpImport, history.ImportSpec{Name: "a"}, strings.NewReader("no event\n"), &report, func(step history.Step) {
		if strings.Contains(step.What, "disk.reserveBytes") {
			told = step.What
			cancel()
		}
	})
	if told == "" || !errors.Is(err, context.Canceled) {
		t.Errorf("told %q, %v", told, err)
	}
	cfg.Store.URL = "postgres://u@127.0.0.1:1/x"
	remote := &App{cfg: cfg, disk: o.app.disk}
	if _, paused := remote.pausedStore(history.InDatabase); paused {
		t.Error("a database on a server waits for this disk")
	}
	if _, paused := remote.pausedStore(history.InArchive); !paused {
		t.Error("the archive does not wait")
	}
}

// A command with other roles than those of the server leaves no group behind that
// nobody reads for: it would hold every record.
func TestCommandsRegisterNoGroups(t *testing.T) {
	t.Parallel()
	names := func(a *App) (all []string) {
		for _, g := range a.journal.Status().Groups {
			all = append(all, g.Name)
		}
		return all
	}
	cfg := settings(t)
	cfg.Roles = []string{config.RoleCollector, config.RoleRecommender}
	if err := running(t, cfg)(); err != nil {
		t.Fatal(err)
	}
	cfg.Roles = config.Default().Roles
	o := operator(t, cfg)
	if got := names(o.app); len(got) != 1 || got[0] != cfg.Recommender.Group {
		t.Errorf("groups %q", got)
	}
	// In a new folder what it publishes waits for those that record.
	if got := names(operator(t, settings(t)).app); len(got) != 2 || slices.Contains(got, cfg.Recommender.Group) {
		t.Errorf("groups of a new folder: %q", got)
	}
}
