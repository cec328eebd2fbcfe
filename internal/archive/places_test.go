package archive

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"furrow/internal/archive/s3test"
)

const testBucket = "furrow"

// shared is the S3 server of all tests that need one to be well.
var shared struct {
	once   sync.Once
	folder string
	server *s3test.Server
	err    error
	places atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Stop()
	}
	if shared.folder != "" {
		os.RemoveAll(shared.folder)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code) //nolint:forbidigo // a TestMain ends with the tests' result
}

func sharedServer(tb testing.TB) *s3test.Server {
	tb.Helper()
	shared.once.Do(func() {
		shared.folder, shared.err = os.MkdirTemp(quick(), "furrow-s3-") //nolint:usetesting // outlives the test that comes first
		if shared.err == nil {
			shared.server, shared.err = s3test.Launch(shared.folder)
		}
	})
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server
}

// s3Place returns an empty place on the shared S3 server, for openAt.
func s3Place(tb testing.TB) string {
	tb.Helper()
	sharedServer(tb)
	return fmt.Sprintf("%s%s/archive/%d", s3Scheme, testBucket, shared.places.Add(1))
}

// places are the kinds of places; each makes an empty one, for openAt.
var places = map[string]func(testing.TB) string{
	"disk": func(tb testing.TB) string { tb.Helper(); return quickDir(tb) },
	"s3":   s3Place,
}

// openAt opens the archive in a folder, or at an s3:// address of the shared server.
func openAt(tb testing.TB, where string, change ...func(*Config)) *Archive {
	tb.Helper()
	cfg := Default()
	dir := where
	if strings.HasPrefix(where, s3Scheme) {
		dir, cfg.URL, cfg.S3 = tb.TempDir(), where, S3(sharedServer(tb).Config(testBucket))
	}
	for _, c := range change {
		c(&cfg)
	}
	a, err := Open(dir, cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.Close)
	return a
}
