package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"unicode"

	"furrow/internal/store"

	"github.com/goccy/go-yaml"
)

// Flag is a command line flag that was given, with the key it sets.
type Flag struct{ Name, Key, Value string }

// Load builds the configuration: defaults, then the file (none when empty), then
// variables of environ that begin with FURROW_, then flags. It reports every
// problem at once: an unknown key, a value of the wrong type, and all that the
// rooms' own rules refuse, each with key, value, origin and rule.
func Load(file string, environ []string, flags []Flag) (Config, error) {
	cfg := Default()
	origins := map[string]string{}
	if file != "" {
		if err := loadFile(&cfg, file, origins); err != nil {
			return cfg, err
		}
	}
	known := map[string]entry{}
	walk(reflect.ValueOf(&cfg).Elem(), "", known)
	var errs []error
	cfg.Ignored, errs = loadEnvironment(known, environ, origins)
	for _, f := range flags {
		errs = append(errs, set(known[f.Key], f.Value, "flag --"+f.Name, origins))
	}
	if err := errors.Join(errs...); err != nil {
		return cfg, err
	}
	return cfg, validate(&cfg, known, origins)
}

func loadFile(cfg *Config, file string, origins map[string]string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("configuration file: %w", err)
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(cfg); err != nil && len(bytes.TrimSpace(text)) > 0 {
		return fmt.Errorf("configuration file %s: %s", file, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return fmt.Errorf("configuration file %s: %w", file, err)
	}
	note(tree, "", "file "+file, origins)
	return nil
}

// note records where each key that a tree sets came from.
func note(tree map[string]any, prefix, origin string, origins map[string]string) {
	for name, value := range tree {
		origins[prefix+name] = origin
		if sub, ok := value.(map[string]any); ok {
			note(sub, prefix+name+".", origin, origins)
		}
	}
}

// entry is one key of the configuration: a leaf of the struct.
type entry struct {
	key   string
	value reflect.Value
}

// walk collects the leaves of a configuration struct by their keys.
func walk(v reflect.Value, prefix string, into map[string]entry) {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "-" || name == "" {
			continue
		}
		if field := v.Field(i); field.Kind() == reflect.Struct {
			walk(field, prefix+name+".", into)
		} else {
			into[prefix+name] = entry{prefix + name, field}
		}
	}
}

// environmentPrefix begins every variable that sets a key.
const environmentPrefix = "FURROW_"

// Variable returns the environment variable of a key: collector.cookie.fallbackDomain
// becomes FURROW_COLLECTOR_COOKIE_FALLBACK_DOMAIN.
func Variable(key string) string {
	var b strings.Builder
	b.WriteString(environmentPrefix)
	lower := false
	for _, r := range key {
		switch {
		case r == '.':
			b.WriteByte('_')
			lower = false
			continue
		case unicode.IsUpper(r) && lower:
			b.WriteByte('_')
		}
		lower = !unicode.IsUpper(r)
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// loadEnvironment sets keys from variables. One that names no key is not an error:
// Kubernetes gives every pod FURROW_PORT and the like when a service is called
// furrow. Their names are returned, to be warned about.
func loadEnvironment(known map[string]entry, environ []string, origins map[string]string) (ignored []string, errs []error) {
	keys := make(map[string]string, len(known))
	for key := range known {
		keys[Variable(key)] = key
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, environmentPrefix) {
			continue
		}
		key, ok := keys[name]
		if !ok {
			ignored = append(ignored, name)
			continue
		}
		errs = append(errs, set(known[key], value, "environment "+name, origins))
	}
	return ignored, errs
}

// set parses a text as YAML into one key. Maps and lists take YAML flow style, for
// example {/com.acme/t1: /com.snowplowanalytics.snowplow/tp2}; lists also take
// commas alone.
func set(e entry, text, origin string, origins map[string]string) error {
	if e.value.Kind() == reflect.String {
		e.value.SetString(text)
		origins[e.key] = origin
		return nil
	}
	if e.value.Kind() == reflect.Slice && !strings.HasPrefix(strings.TrimSpace(text), "[") {
		text = "[" + text + "]"
	}
	fresh := reflect.New(e.value.Type())
	if err := yaml.NewDecoder(strings.NewReader(text), yaml.Strict()).Decode(fresh.Interface()); err != nil {
		return fmt.Errorf("%s = %q (%s): not a %s", e.key, text, origin, kindName(e.value.Type()))
	}
	e.value.Set(fresh.Elem())
	origins[e.key] = origin
	return nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int64:
		if t.String() == "time.Duration" {
			return "duration such as 30s, 5m or 24h"
		}
		return "whole number"
	case reflect.Bool:
		return "boolean: true or false"
	case reflect.Map:
		return "map such as {key: value}"
	case reflect.Slice:
		return "list such as [a, b]"
	}
	return t.Kind().String()
}

// Invalid is every rule that a configuration breaks.
type Invalid struct{ Problems []Problem }

// Problem is one broken rule.
type Problem struct{ Key, Value, Origin, Rule string }

// Error lists the problems, one a line.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s = %s (%s): %s", p.Key, p.Value, p.Origin, p.Rule)
	}
	return strings.Join(lines, "\n")
}

func validate(cfg *Config, known map[string]entry, origins map[string]string) error {
	var invalid Invalid
	cfg.validate(func(key, rule string) {
		p := Problem{Key: key, Origin: origin(key, origins), Rule: rule, Value: "…"}
		if e, ok := known[key]; ok {
			p.Value = fmt.Sprintf("%v", e.value.Interface())
			if e.value.Kind() == reflect.String {
				p.Value = fmt.Sprintf("%q", printable(key, e.value.String()))
			}
		}
		invalid.Problems = append(invalid.Problems, p)
	})
	if len(invalid.Problems) == 0 {
		return nil
	}
	sort.SliceStable(invalid.Problems, func(i, j int) bool { return invalid.Problems[i].Key < invalid.Problems[j].Key })
	return &invalid
}

// printable hides what must not be printed of a key's value.
func printable(key, value string) string {
	switch key {
	case "archive.s3.secretAccessKey":
		return hidden
	case "store.url":
		return withoutPassword(value)
	default:
		return value
	}
}

// origin finds who set a key, or the nearest key around it.
func origin(key string, origins map[string]string) string {
	for {
		if o, ok := origins[key]; ok {
			return o
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return "default"
		}
		key = key[:i]
	}
}

// hidden stands for a secret in what is printed.
const hidden = "(hidden)"

// Public returns the configuration without its secrets.
func (c Config) Public() Config {
	if c.Archive.S3.SecretAccessKey != "" {
		c.Archive.S3.SecretAccessKey = hidden
	}
	c.Store.URL = withoutPassword(c.Store.URL)
	return c
}

// withoutPassword hides the password of a database's address, or all of one that
// cannot be read.
func withoutPassword(address string) string {
	if place := (store.Config{URL: address}).Place(); place != "" || address == "" {
		return place
	}
	return hidden
}

// YAML prints the configuration as a file that Load accepts, without its secrets.
func (c Config) YAML() (string, error) {
	text, err := yaml.MarshalWithOptions(c.Public(), yaml.UseLiteralStyleIfMultiline(true))
	return string(text), err
}
