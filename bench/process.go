package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a child process under measurement.
type server struct {
	cmd    *exec.Cmd
	public string // host:port
	admin  string
	dir    string
	ready  time.Duration // from start to "Ready in"
}

var addresses = regexp.MustCompile(`(collector|inspector) +http://(\S+)`)

// startFurrow runs bin/furrow over a fresh folder. With one core it is bound to
// the first, and Go uses one processor.
func startFurrow(oneCore bool, args ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "furrow-bench-")
	if err != nil {
		return nil, err
	}
	args = append([]string{"bin/furrow", "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error"}, args...)
	s, err := startServer(oneCore, args...)
	if err != nil {
		return nil, err
	}
	s.dir = dir
	return s, nil
}

func startServer(oneCore bool, args ...string) (*server, error) {
	if oneCore {
		args = append([]string{"taskset", "-c", "0"}, args...)
	}
	s := &server{cmd: exec.Command(args[0], args[1:]...)}
	s.cmd.Env = os.Environ()
	if oneCore {
		s.cmd.Env = append(s.cmd.Env, "GOMAXPROCS=1")
	}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := addresses.FindStringSubmatch(lines.Text()); m != nil {
			if m[1] == "collector" {
				s.public = m[2]
			} else {
				s.admin = m[2]
			}
		}
		if strings.HasPrefix(lines.Text(), "Ready in") {
			s.ready = time.Since(begun)
			go func() {
				for lines.Scan() {
				}
			}()
			return s, nil
		}
	}
	return nil, fmt.Errorf("%s ended before it was ready", args[0])
}

// end ends the process cleanly; its folder stays.
func (s *server) end() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// stop ends the process cleanly and removes its folder.
func (s *server) stop() error {
	err := s.end()
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
	return err
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for /proc.
const ticksPerSecond = 100

// cpu is the processor time that the process has used.
func (s *server) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	cells := strings.Fields(rest)
	if len(cells) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(cells[11], 10, 64)
	system, _ := strconv.ParseInt(cells[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// rss is the resident memory in bytes.
func (s *server) rss() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
