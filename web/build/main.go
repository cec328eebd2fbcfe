// Command build bundles the TypeScript of the tracker, the inspector's pages and
// the demo shop into web/dist, with esbuild's Go API: no Node is needed. Its
// output is committed and embedded; CI runs it again and fails on a difference.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/evanw/esbuild/pkg/api"
)

// bundle is one output file, or a page's static file when entry is not a script.
type bundle struct{ entry, out string }

var bundles = []bundle{
	{"tracker/src/furrow.ts", "furrow.js"},
	{"ui/src/main.ts", "ui/main.js"},
	{"ui/style.css", "ui/style.css"},
	{"ui/index.html", "ui/index.html"},
	{"demo/src/main.ts", "demo/main.js"},
	{"demo/style.css", "demo/style.css"},
	{"demo/index.html", "demo/index.html"},
}

func main() {
	root := "web"
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	for _, b := range bundles {
		if err := build(filepath.Join(root, b.entry), filepath.Join(root, "dist", b.out)); err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			os.Exit(1)
		}
	}
}

func build(entry, out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	if filepath.Ext(entry) == ".html" {
		page, err := os.ReadFile(entry)
		if err != nil {
			return err
		}
		return os.WriteFile(out, page, 0o644)
	}
	result := api.Build(api.BuildOptions{
		EntryPoints:       []string{entry},
		Outfile:           out,
		Bundle:            true,
		Write:             true,
		Format:            api.FormatIIFE,
		Target:            api.ES2018,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsNone,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		LogLevel:          api.LogLevelWarning,
	})
	if len(result.Errors) > 0 {
		return fmt.Errorf("%s: %s", entry, result.Errors[0].Text)
	}
	return nil
}
