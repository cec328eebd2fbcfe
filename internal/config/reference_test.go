package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/config.md")

const referenceFile = "../../docs/config.md"

// TestReferenceIsCurrent holds docs/config.md against the structs: the page is made
// from their comments and defaults. Run with -update (make gen) to write it.
func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Configuration\n\n" +
		"Made from the source by `make gen`. Values come, in rising order, from the defaults, the YAML file named by\n" +
		"`--config`, the environment and the flags. `furrow check` prints the effective ones.\n\n" +
		"| key | default | environment | meaning |\n|---|---|---|---|\n")
	d := &describer{t: t, comments: map[string]map[string]string{}}
	d.walk(&b, reflect.ValueOf(Default()), "")
	if *update {
		if err := os.WriteFile(referenceFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != b.String() {
		t.Error("docs/config.md is not what the structs say: run make gen")
	}
}

// describer collects the comments of struct fields from the source.
type describer struct {
	t        *testing.T
	comments map[string]map[string]string // package path → Type.Field → comment
}

func (d *describer) walk(b *strings.Builder, v reflect.Value, prefix string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		if v.Field(i).Kind() == reflect.Struct {
			d.walk(b, v.Field(i), prefix+name+".")
			continue
		}
		key := prefix + name
		meaning := d.comment(v.Type(), field.Name)
		if meaning == "" {
			d.t.Errorf("%s has no comment in %s", key, v.Type())
		}
		fmt.Fprintf(b, "| `%s` | `%s` | `%s` | %s |\n", key, text(v.Field(i)), Variable(key), meaning)
	}
}

func text(v reflect.Value) string {
	s := fmt.Sprintf("%v", v.Interface())
	if _, ok := reflect.TypeAssert[time.Duration](v); ok {
		// 1h0m0s reads better as 1h.
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
	}
	return strings.ReplaceAll(s, "|", "\\|")
}

func (d *describer) comment(typ reflect.Type, field string) string {
	path := typ.PkgPath()
	if d.comments[path] == nil {
		d.comments[path] = parseComments(d.t, filepath.Join("../..", strings.TrimPrefix(path, "furrow/")))
	}
	return d.comments[path][typ.Name()+"."+field]
}

func parseComments(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					comment := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
					for _, name := range f.Names {
						found[spec.Name.Name+"."+name.Name] = strings.ReplaceAll(comment, "|", "\\|")
					}
				}
			}
			return true
		})
	}
	return found
}
