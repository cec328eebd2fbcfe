package app

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors is the structure of the house: a room imports only from lower floors,
// and rooms on one floor never import each other. Packages inside a room belong
// to it.
var floors = map[string]int{
	"cmd/furrow":           6,
	"internal/app":         5,
	"internal/config":      4,
	"internal/collector":   3,
	"internal/recorder":    3,
	"internal/recommender": 3,
	"internal/inspector":   3,
	"internal/demo":        3,
	"internal/history":     3,
	"internal/enrich":      2,
	"internal/store":       2,
	"internal/archive":     2,
	"internal/bus":         1,
	"internal/snowplow":    1,
	"internal/tombstone":   1,
	"internal/event":       0,
	"web":                  0,
}

// outside are the packages that no room may import: whole-system tests and tools.
var outside = []string{"e2e", "bench", "web/build"}

// vendors names the one room that may import each vendor's library.
var vendors = map[string]string{
	"modernc.org/sqlite":               "internal/store",
	"github.com/jackc/pgx":             "internal/store",
	"github.com/parquet-go/parquet-go": "internal/archive",
	"github.com/aws/aws-sdk-go-v2":     "internal/archive",
	"github.com/aws/smithy-go":         "internal/archive",
	"github.com/spf13/cobra":           "cmd/furrow",
	"github.com/schollz/progressbar":   "cmd/furrow",
	"github.com/lmittmann/tint":        "cmd/furrow",
	"github.com/goccy/go-yaml":         "internal/config",
	"github.com/evanw/esbuild":         "web/build",
	"github.com/chromedp/chromedp":     "e2e",
	"github.com/rogpeppe/go-internal":  "cmd/furrow",
	"golang.org/x/term":                "cmd/furrow",
}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "furrow/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// room returns the room a package belongs to, empty when there is none.
func room(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "furrow"), "/")
	for path != "" {
		if _, ok := floors[path]; ok || slices.Contains(outside, path) {
			return path
		}
		i := strings.LastIndexByte(path, '/')
		path = path[:max(i, 0)]
	}
	return ""
}

func TestFloors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		if from == "" {
			t.Errorf("%s stands in no room: add it to the floors table, or to a room", p.ImportPath)
			continue
		}
		seen[from] = true
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		for _, imported := range p.Imports {
			checkImport(t, p.ImportPath, from, imported)
		}
	}
	for name := range floors {
		if !seen[name] {
			t.Errorf("the floors table names %s, which does not exist", name)
		}
	}
}

func checkImport(t *testing.T, path, from, imported string) {
	t.Helper()
	if from == "internal/event" && strings.Contains(imported, ".") {
		t.Errorf("%s imports %s, but may use the standard library only", path, imported)
	}
	for vendor, owner := range vendors {
		if owner != from && (imported == vendor || strings.HasPrefix(imported, vendor+"/")) {
			t.Errorf("%s imports %s, which is for %s alone", path, imported, owner)
		}
	}
	if imported != "furrow" && !strings.HasPrefix(imported, "furrow/") {
		return
	}
	to := room(imported)
	if to == from || slices.Contains(outside, from) {
		return
	}
	if slices.Contains(outside, to) {
		t.Errorf("%s imports %s, which is no room", path, imported)
	} else if floors[to] >= floors[from] {
		t.Errorf("%s (floor %d) imports %s (floor %d): imports point down", path, floors[from], imported, floors[to])
	}
}
