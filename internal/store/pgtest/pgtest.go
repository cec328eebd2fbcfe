// Package pgtest runs real PostgreSQL servers for tests.
//
// A process initialises one database cluster and copies it for every server it
// starts. Servers listen on free ports of 127.0.0.1, trust everybody there, and
// keep their data in a temporary folder. A small shell waits for the end of the
// process, however it ends, and then stops the server and removes its folder.
//
// The package refuses to skip: a test that needs a server fails where PostgreSQL
// is not installed, and says what to do.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long one command of PostgreSQL may take on a busy machine.
const patience = 90 * time.Second

// Option changes how a server is started.
type Option func(*Server)

// Fsync makes the server sync its files as one in production does; without it
// what it holds survives a crash of the server, not one of the machine.
func Fsync() Option { return func(s *Server) { s.set["fsync"] = "on" } }

// Setting sets a parameter of postgresql.conf.
func Setting(name, value string) Option { return func(s *Server) { s.set[name] = value } }

// Server is one PostgreSQL server. Its methods are for one goroutine at a time,
// except URL and Database.
type Server struct {
	tools  tools
	folder string
	port   int
	set    map[string]string
	up     bool
	reaper *reaper

	mu        sync.Mutex
	databases int
}

// Start runs a server of its own for the test and stops it afterwards.
func Start(tb testing.TB, options ...Option) *Server {
	tb.Helper()
	s, err := start(options)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		s.Stop()
		s.reaper.end()
	})
	return s
}

var shared = sync.OnceValues(func() (*Server, error) { return start(nil) })

// Shared returns the server that all tests of the process share, for those that
// leave it alone and are content with a database of their own.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	s, err := shared()
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return s
}

// Database creates an empty database and returns its URL.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	s.mu.Lock()
	s.databases++
	name := "test" + strconv.Itoa(s.databases)
	s.mu.Unlock()
	if _, err := s.SQL("postgres", "CREATE DATABASE "+name); err != nil {
		tb.Fatalf("pgtest: create a database: %v", err)
	}
	return s.url(name)
}

// URL is that of the server's own first database, postgres.
func (s *Server) URL() string { return s.url("postgres") }

// Addr is the host and port on which the server listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *Server) url(database string) string {
	return "postgres://furrow:secret@" + s.Addr() + "/" + database + "?sslmode=disable"
}

// SQL runs statements through psql and returns its unaligned output.
func (s *Server) SQL(database, statements string) (string, error) {
	return s.tools.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port),
		"-U", "furrow", "-d", database, "-c", statements)
}

// Stop ends the server at once after what runs was undone; its data stays.
func (s *Server) Stop() {
	s.stop("fast")
}

// Restart stops the server, if it runs, in a mode of pg_ctl (smart, fast, or
// immediate, which is a crash), and starts it on the same port and data. It panics
// when the server does not come back.
func (s *Server) Restart(mode string) {
	s.stop(mode)
	if err := s.start(); err != nil {
		panic(fmt.Sprintf("pgtest: restart: %v", err))
	}
}

func (s *Server) stop(mode string) {
	if !s.up {
		return
	}
	s.up = false
	if _, err := s.tools.run("pg_ctl", "-D", s.data(), "-w", "-m", mode, "stop"); err != nil {
		panic(fmt.Sprintf("pgtest: stop: %v", err))
	}
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

func start(options []Option) (*Server, error) {
	t, err := find()
	if err != nil {
		return nil, err
	}
	from, err := cluster()
	if err != nil {
		return nil, err
	}
	s := &Server{tools: t, set: map[string]string{"fsync": "off"}}
	for _, o := range options {
		o(s)
	}
	if s.folder, err = t.folder(); err != nil {
		return nil, err
	}
	if s.reaper, err = reap(s.folder, t, true); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.folder))
	}
	if _, err := t.run("cp", "-a", "--reflink=auto", from.data, s.data()); err != nil {
		s.reaper.end()
		return nil, err
	}
	for range 5 { // somebody may take the port between the look and the start
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	s.reaper.end()
	return nil, err
}

func (s *Server) start() error {
	flags := []string{"-p", strconv.Itoa(s.port), "-k", s.folder, "-c", "listen_addresses=127.0.0.1"}
	for name, value := range s.set {
		flags = append(flags, "-c", name+"="+value)
	}
	command := strings.Join(flags, " ")
	log := filepath.Join(s.folder, "log")
	if _, err := s.tools.run("pg_ctl", "-D", s.data(), "-w", "-t", "60", "-l", log, "-o", command, "start"); err != nil {
		text, _ := os.ReadFile(log) // what there is of it
		return fmt.Errorf("%w; the server's log says: %s", err, text)
	}
	s.up = true
	return nil
}

// template is the cluster that servers are copied from. It holds its reaper: a
// pipe that nobody holds is closed by the collector.
type template struct {
	data   string
	reaper *reaper
}

// cluster initialises the template, once.
var cluster = sync.OnceValues(func() (c template, err error) {
	t, err := find()
	if err != nil {
		return c, err
	}
	folder, err := t.folder()
	if err != nil {
		return c, err
	}
	if c.reaper, err = reap(folder, t, false); err != nil {
		return c, err
	}
	c.data = filepath.Join(folder, "data")
	_, err = t.run("initdb", "-D", c.data, "-A", "trust", "-U", "furrow", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	return c, err
})

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// tools are the programs of a PostgreSQL installation.
type tools struct {
	bin  string
	as   string // the user who runs them, empty for ourselves: a server refuses to run as root
	user *user.User
}

// find looks the programs up: on the PATH, then where Debian, Red Hat and others
// put them, the newest first.
var find = sync.OnceValues(func() (tools, error) {
	var t tools
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // the others lie beside the real one
			return t, err
		}
		t.bin = filepath.Dir(path)
	} else {
		var found []string
		for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/pgsql/bin"} {
			dirs, _ := filepath.Glob(pattern + "/initdb") // the patterns are well-formed
			found = append(found, dirs...)
		}
		if len(found) == 0 {
			return t, errors.New("PostgreSQL is not installed (no initdb on the PATH or in /usr/lib/postgresql): run make setup, or install the postgresql package")
		}
		slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
		t.bin = filepath.Dir(found[0])
	}
	if os.Geteuid() != 0 {
		return t, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			t.as, t.user = name, u
			return t, nil
		}
	}
	return t, errors.New("a PostgreSQL server refuses to run as root and there is no user postgres: run make setup, or run the tests as another user")
})

// version is the first number in a path.
func version(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0]) // only digits
	return n
}

func (t tools) command(name string, args ...string) []string {
	path := name
	if full := filepath.Join(t.bin, name); name != "cp" {
		path = full
	}
	if t.as == "" {
		return append([]string{path}, args...)
	}
	return append([]string{"runuser", "-u", t.as, "--", path}, args...)
}

func (t tools) run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line := t.command(name, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // programs of PostgreSQL, arguments of tests
	cmd.Dir = "/"
	// A file and not a pipe: the server that pg_ctl leaves behind holds it open.
	out, err := os.CreateTemp("", "pgtest-output-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = errors.Join(out.Close(), os.Remove(out.Name())) }() // a temporary file
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, readErr := os.ReadFile(out.Name())
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, text)
	}
	return strings.TrimSpace(string(text)), readErr
}

// folder makes a temporary folder that the server's user owns.
func (t tools) folder() (string, error) {
	folder, err := os.MkdirTemp("", "furrow-postgres-")
	if err != nil || t.user == nil {
		return folder, err
	}
	uid, uidErr := strconv.Atoi(t.user.Uid)
	gid, gidErr := strconv.Atoi(t.user.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return "", err
	}
	return folder, os.Chown(folder, uid, gid)
}

// reaper removes a folder, and the server in it, once this process has ended or
// said so: the shell waits for the end of its standard input.
type reaper struct {
	cmd  *exec.Cmd
	wire *os.File
	once sync.Once
}

func reap(folder string, t tools, server bool) (*reaper, error) {
	script := "read -r _; "
	if server {
		stop := t.command("pg_ctl", "-D", filepath.Join(folder, "data"), "-w", "-m", "immediate", "stop")
		script += strings.Join(stop, " ") + "; "
	}
	script += "rm -rf " + folder
	end, wire, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir, cmd.Stdin = "/", end
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for the tests
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, end.Close(), wire.Close())
	}
	return &reaper{cmd: cmd, wire: wire}, end.Close()
}

func (r *reaper) end() {
	r.once.Do(func() { _ = errors.Join(r.wire.Close(), r.cmd.Wait()) }) // the folder is temporary
}
