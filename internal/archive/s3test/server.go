// Package s3test runs an S3 server for tests, and puts troubles between it and a
// client. It looks for the programs in .tools/bin of the repository, then in PATH;
// make setup brings them. Everything listens on 127.0.0.1 and ends with the test.
// It refuses to imitate S3: the server is a real one (versitygw), and what passes
// through a trouble is passed on unchanged.
package s3test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The server's one account.
const (
	AccessKeyID     = "furrowtest"
	SecretAccessKey = "furrowtestsecret"
	Region          = "us-east-1"
)

const (
	startLimit = 20 * time.Second
	pollEvery  = 10 * time.Millisecond
)

// Config has the fields of archive.S3, into which it converts: archive.S3(c). The
// archive's own tests could not use it if it were that type.
type Config struct {
	Endpoint        string
	Region          string
	PathStyle       bool
	AccessKeyID     string
	SecretAccessKey string
	PartBytes       int64
	Timeout         time.Duration
}

// Server is a running S3 server with buckets in a folder.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	Folder   string // a bucket is a folder in it, an object a file

	process *process
	mu      sync.Mutex
	buckets map[string]bool
}

// Start starts a server with its data in a folder of the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s, err := Launch(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Launch starts a server with its data in a folder, for a TestMain that shares it
// among tests. Stop ends it.
func Launch(folder string) (*Server, error) {
	program, err := find("versitygw")
	if err != nil {
		return nil, err
	}
	s := &Server{Folder: folder, buckets: make(map[string]bool)}
	// Another process may take a port between our look and the server's start.
	for range 5 {
		address, portErr := freeAddress()
		if portErr != nil {
			return nil, portErr
		}
		s.Endpoint = "http://" + address
		s.process, err = start(address, program, "--access", AccessKeyID, "--secret", SecretAccessKey,
			"--region", Region, "--port", address, "--keep-alive", "--quiet", "posix", folder)
		if err == nil {
			return s, nil
		}
	}
	return nil, err
}

// Stop ends the server. Its data stays.
func (s *Server) Stop() { s.process.stop() }

// Config makes the bucket, unless it is there, and says how it is reached.
func (s *Server) Config(bucket string) Config {
	c := Config{
		Endpoint: s.Endpoint, Region: Region, PathStyle: true,
		AccessKeyID: AccessKeyID, SecretAccessKey: SecretAccessKey,
		PartBytes: 5 << 20, Timeout: 20 * time.Second,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.buckets[bucket] {
		if err := s.create(bucket); err != nil {
			panic(fmt.Sprintf("s3test: create bucket %s: %v", bucket, err)) // a test cannot go on
		}
		s.buckets[bucket] = true
	}
	return c
}

func (s *Server) create(bucket string) error {
	transport := &http.Transport{DisableKeepAlives: true}
	client := s3.New(s3.Options{
		BaseEndpoint: &s.Endpoint, Region: Region, UsePathStyle: true, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(AccessKeyID, SecretAccessKey, ""),
	})
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

// find looks a program up in the repository's tools, then in PATH.
func find(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			program := filepath.Join(dir, ".tools", "bin", name)
			if _, err := os.Stat(program); err == nil {
				return program, nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	program, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("s3test: %s is missing: run make setup", name)
	}
	return program, nil
}

// process is a program that listens.
type process struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	output *log
}

// log is what a program wrote, up to a size.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps the beginning.
func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() < 1<<16 {
		l.text.Write(p)
	}
	return len(p), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs a program until it listens on an address.
func start(address, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), ended: make(chan struct{}), output: &log{}} //nolint:gosec // our own tools
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("s3test: %w", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	limit := time.After(startLimit)
	for {
		select {
		case <-p.ended:
			return nil, fmt.Errorf("s3test: %s ended at once: %s", filepath.Base(program), p.output)
		case <-limit:
			p.stop()
			return nil, fmt.Errorf("s3test: %s does not listen on %s: %s", filepath.Base(program), address, p.output)
		case <-tick.C:
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				return p, nil
			}
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("s3test: %w", err)
	}
	return l.Addr().String(), errors.Join(nil, l.Close())
}
