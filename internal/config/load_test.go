package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "furrow.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "listen: :1\nadmin: :1\nstopTimeout: 5s\ndataDir: /file\ncollector:\n  cookie:\n    name: fromfile\n")
	cfg, err := Load(file, []string{"FURROW_LISTEN=:2", "FURROW_ADMIN=:2", "FURROW_COLLECTOR_COOKIE_FALLBACK_DOMAIN=acme.com", "PATH=/bin"},
		[]Flag{{Name: "listen", Key: "listen", Value: ":3"}})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != ":3" || cfg.Admin != ":2" || cfg.DataDir != "/file" || cfg.StopTimeout != 5*time.Second {
		t.Errorf("listen %q admin %q dataDir %q stopTimeout %v", cfg.Listen, cfg.Admin, cfg.DataDir, cfg.StopTimeout)
	}
	if cfg.Collector.Cookie.Name != "fromfile" || cfg.Collector.Cookie.FallbackDomain != "acme.com" || !cfg.Collector.Cookie.Enabled {
		t.Errorf("cookie %+v: the file must change only what it names", cfg.Collector.Cookie)
	}
}

func TestCollectionsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg, err := Load("", []string{
		"FURROW_ROLES=collector,recorder",
		"FURROW_COLLECTOR_PATHS={/com.acme/t1: /com.snowplowanalytics.snowplow/tp2}",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Roles) != 2 || cfg.Roles[1] != "recorder" || cfg.Collector.Paths["/com.acme/t1"] != "/com.snowplowanalytics.snowplow/tp2" {
		t.Errorf("roles %v, paths %v", cfg.Roles, cfg.Collector.Paths)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file    string
		environ []string
		flags   []Flag
		want    []string
	}{
		"unknown key in the file":        {file: "colector: {}\n", want: []string{"furrow.yaml", "colector"}},
		"wrong type in the file":         {file: "stopTimeout: soon\n", want: []string{"furrow.yaml"}},
		"wrong type in the environment":  {environ: []string{"FURROW_STOP_TIMEOUT=soon"}, want: []string{"stopTimeout", "soon", "FURROW_STOP_TIMEOUT", "duration"}},
		"broken rule names its origin":   {environ: []string{"FURROW_LOG_LEVEL=loud"}, want: []string{`log.level = "loud" (environment FURROW_LOG_LEVEL): must be debug`}},
		"every broken rule, not the 1st": {file: "listen: nowhere\nbus: {key: none}\n", flags: []Flag{{"roles", "roles", "cook"}}, want: []string{`listen = "nowhere" (file`, `bus.key = "none"`, "roles = [cook] (flag --roles)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := ""
			if c.file != "" {
				file = write(t, c.file)
			}
			_, err := Load(file, c.environ, c.flags)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
	if _, err := Load("/nowhere/furrow.yaml", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
}

func TestPrintedConfigurationLoads(t *testing.T) {
	t.Parallel()
	text, err := Default().YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(write(t, text), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if second, _ := again.YAML(); second != text {
		t.Errorf("printing what was loaded changed it:\n%s", second)
	}
}

func TestUnknownVariablesAreNamed(t *testing.T) {
	t.Parallel()
	cfg, err := Load("", []string{"FURROW_PORT=tcp://10.0.0.1:80", "FURROW_LISTEN=:7"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Ignored) != 1 || cfg.Ignored[0] != "FURROW_PORT" || cfg.Listen != ":7" {
		t.Errorf("ignored %v, listen %q", cfg.Ignored, cfg.Listen)
	}
}

func TestExampleFileLoads(t *testing.T) {
	t.Parallel()
	cfg, err := Load("../../furrow.example.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Store.Retention != 90*24*time.Hour || len(cfg.Recommender.Rules) != 2 {
		t.Errorf("retention %v, rules %v", cfg.Store.Retention, cfg.Recommender.Rules)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://shop:hunter2@db.acme.com:5432/furrow?sslmode=verify-full",
		"postgres://db.acme.com/furrow?user=shop&password=hunter2",
		"postgres://shop:hunter2@db.acme.com:notaport/furrow",
	} {
		c := Default()
		c.Store.URL = address
		c.Archive.S3.SecretAccessKey = "hunter2"
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "hunter2") || !strings.Contains(text, "(hidden)") {
			t.Errorf("%s is printed as\n%s", address, text)
		}
	}
	_, err := Load("", []string{"FURROW_STORE_URL=mysql://shop:hunter2@db/furrow"}, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("want an error without the password, got %v", err)
	}
}
