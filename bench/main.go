// Command bench measures what docs/bench.md states, in one run on one machine, and
// prints the table. Speeds are ratios to something in the same run: a bare server,
// the bare library, the limit. It needs bin/furrow (make build) and two cores.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// row is one line of the table.
type row struct{ what, measured, compared, aim string }

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "bare":
			fail(serveBare(os.Args[2]))
			return
		case "load":
			fail(loadPinned(os.Args[2], os.Args[3]))
			return
		}
	}
	only := ""
	if len(os.Args) > 1 {
		only = os.Args[1]
	}
	fmt.Printf("%s, %s, %d cores, Go %s\n\n", time.Now().Format("2006-01-02"), cpuModel(), runtime.NumCPU(), strings.TrimPrefix(runtime.Version(), "go"))
	fmt.Print("| what | measured | compared with | aim |\n|---|---|---|---|\n")
	for _, step := range []struct {
		name string
		run  func() ([]row, error)
	}{
		{"growth", measureGrowth}, // only by name
		{"start", measureStart},
		{"http", measureHTTP},
		{"libraries", measureLibraries},
		{"pipeline", measurePipeline},
		{"recommend", measureRecommend},
		{"history", measureHistory},
	} {
		if only != step.name && (only != "" || step.name == "growth") {
			continue
		}
		rows, err := step.run()
		for _, r := range rows {
			fmt.Printf("| %s | %s | %s | %s |\n", r.what, r.measured, r.compared, r.aim)
		}
		fail(err)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
