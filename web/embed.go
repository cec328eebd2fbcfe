// Package web embeds the built front end: the tracker script, the inspector's
// pages and the demo shop. The files under dist are made by `make web` from the
// TypeScript beside them and committed, so that the binary builds with Go alone.
package web

import (
	"embed"
	"io/fs"
)

//go:embed dist
var dist embed.FS

// Tracker is the tracker script, minified.
func Tracker() []byte { return read("dist/furrow.js") }

// UI holds the inspector's pages: index.html, main.js, style.css.
func UI() fs.FS { return sub("dist/ui") }

// Demo holds the demo shop's pages: index.html, main.js, style.css.
func Demo() fs.FS { return sub("dist/demo") }

func read(name string) []byte {
	b, err := dist.ReadFile(name)
	if err != nil {
		panic("web: not built: " + err.Error()) // the build embeds it; only a broken build gets here
	}
	return b
}

func sub(name string) fs.FS {
	f, err := fs.Sub(dist, name)
	if err != nil {
		panic("web: " + err.Error())
	}
	return f
}
