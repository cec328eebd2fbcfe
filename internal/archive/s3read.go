package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	blockBytes   = 4 << 20   // read at a time, and in the request that opens an object
	readAhead    = 4         // blocks, once an object is read in sequence
	inMemory     = 256 << 10 // an object up to this size is held in memory
	maxOpenBytes = 1 << 44   // what a Content-Range may claim
)

// errReplaced: half of an object would be of one version and half of another.
var errReplaced = errors.New("the object was replaced while it was read; read it again")

// s3Object is an object that is fetched in blocks as they are needed, each once.
// A small one is held in memory, a larger one in a local file with holes: a
// Parquet reader goes to and fro between columns, and asks for a few KB at a time.
type s3Object struct {
	bucket *bucket
	ctx    context.Context //nolint:containedctx // of open: ReadAt has none of its own
	name   string
	etag   *string
	bytes  int64

	mu     sync.Mutex
	memory []byte
	file   *os.File
	have   []bool // blocks that are in the file
}

func (o *s3Object) size() int64 { return o.bytes }

// open asks for the first block, which tells the size and is all of most objects.
func (b *bucket) open(ctx context.Context, name string) (object, error) {
	o := &s3Object{bucket: b, ctx: ctx, name: name}
	err := b.try(ctx, "read", name, func(ctx context.Context) error {
		o.drop()
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: &b.name, Key: b.key(name), Range: aws.String(fmt.Sprintf("bytes=0-%d", blockBytes-1)),
		})
		if code, status := errorCode(err); code == "InvalidRange" || status == http.StatusRequestedRangeNotSatisfiable {
			o.bytes = 0 // an empty object has no first byte
			return nil
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		o.etag = out.ETag
		if o.bytes, err = totalSize(out); err != nil {
			return err
		}
		return o.begin(out.Body)
	})
	if err != nil {
		o.drop()
		return nil, err
	}
	return o, nil
}

// totalSize finds the size of the whole object in the answer to the first block.
func totalSize(out *s3.GetObjectOutput) (int64, error) {
	length := aws.ToInt64(out.ContentLength)
	if out.ContentRange == nil {
		if out.ContentLength == nil || length < 0 {
			return 0, errors.New("the server does not tell the object's size")
		}
		if length > blockBytes {
			return 0, permanent{errors.New("the server ignores the Range of a request, so large objects cannot be read in parts")}
		}
		return length, nil
	}
	first, total, _ := strings.Cut(*out.ContentRange, "/")
	n, err := strconv.ParseInt(total, 10, 64)
	if err != nil || n < 1 || n > maxOpenBytes || first != fmt.Sprintf("bytes 0-%d", min(n, blockBytes)-1) {
		return 0, fmt.Errorf("the server answers %q to a request for the first %d bytes", *out.ContentRange, blockBytes)
	}
	return n, nil
}

// begin stores the first block.
func (o *s3Object) begin(body io.Reader) error {
	if o.bytes <= inMemory {
		o.memory = make([]byte, o.bytes)
		return exactly(io.ReadFull(body, o.memory))
	}
	f, err := os.CreateTemp(o.bucket.tmp, "object-*")
	if err != nil {
		return permanent{err}
	}
	o.file = f
	_ = os.Remove(f.Name()) // gone with the process, where the system lets us
	o.have = make([]bool, (o.bytes+blockBytes-1)/blockBytes)
	if err := o.store(body, 0, min(o.bytes, blockBytes)); err != nil {
		return err
	}
	o.have[0] = true
	return nil
}

// store writes n bytes of a body to the file.
func (o *s3Object) store(body io.Reader, at, n int64) error {
	w := &localWriter{w: io.NewOffsetWriter(o.file, at)}
	_, err := io.CopyN(w, body, n)
	if w.err != nil {
		return permanent{w.err} // the local disk's trouble
	}
	return exactly(0, err)
}

// localWriter remembers that it was the writing that failed.
type localWriter struct {
	w   io.Writer
	err error
}

// Write writes to the file.
func (l *localWriter) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	l.err = err
	return n, err
}

// exactly makes an early end an error.
func exactly(_ int, err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt reads from what was fetched, and fetches what is missing.
func (o *s3Object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("archive: read %s at %d", o.name, off)
	}
	if off >= o.bytes {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), o.bytes-off))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes <= inMemory {
		copy(p, o.memory[off:])
	} else {
		if o.file == nil {
			return 0, os.ErrClosed
		}
		if err := o.fetch(off, int64(n)); err != nil {
			return 0, err
		}
		if n, err := o.file.ReadAt(p[:n], off); err != nil {
			return n, fmt.Errorf("archive: copy of %s: %w", o.name, err)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fetch gets the blocks of a span that are missing.
func (o *s3Object) fetch(off, n int64) error {
	last := (off + max(n, 1) - 1) / blockBytes
	for i := off / blockBytes; i <= last; i++ {
		if o.have[i] {
			continue
		}
		run := max(1, last-i+1)
		if i > 0 && o.have[i-1] {
			run = max(run, readAhead)
		}
		end := i + 1
		for end < int64(len(o.have)) && end < i+min(run, readAhead) && !o.have[end] {
			end++
		}
		from, to := i*blockBytes, min(end*blockBytes, o.bytes)
		err := o.bucket.getRange(o.ctx, o.name, o.etag, from, to, func(body io.Reader) error {
			return o.store(body, from, to-from)
		})
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		if err != nil {
			return err
		}
		for j := i; j < end; j++ {
			o.have[j] = true
		}
	}
	return nil
}

// getRange hands the bytes [from, to) of one version of an object to a function,
// again from the start when they do not come whole.
func (b *bucket) getRange(ctx context.Context, name string, etag *string, from, to int64, use func(io.Reader) error) error {
	return b.try(ctx, "read", name, func(ctx context.Context) error {
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: &b.name, Key: b.key(name), IfMatch: etag, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, to-1)),
		})
		if _, status := errorCode(err); status == http.StatusPreconditionFailed {
			return permanent{errReplaced}
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		if etag != nil && aws.ToString(out.ETag) != *etag {
			return permanent{errReplaced}
		}
		if got := aws.ToString(out.ContentRange); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-%d/", from, to-1)) {
			return fmt.Errorf("the server answers %q to a request for the bytes %d-%d", got, from, to-1)
		}
		return use(out.Body)
	})
}

// Close deletes the local copy.
func (o *s3Object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drop()
	return nil
}

func (o *s3Object) drop() {
	o.memory, o.have = nil, nil
	if o.file != nil {
		o.file.Close()
		os.Remove(o.file.Name())
		o.file = nil
	}
}

// stream reads an object from its start to its end, a few MB at a request, so that
// a connection that breaks costs one of them and not the whole.
type stream struct {
	bucket *bucket
	ctx    context.Context //nolint:containedctx // of OpenS3Object: Read has none of its own
	name   string
	etag   *string
	at     int64
	end    int64
	block  bytes.Buffer
}

// Read reads on.
func (s *stream) Read(p []byte) (int, error) {
	if s.block.Len() == 0 {
		if s.at >= s.end {
			return 0, io.EOF
		}
		to := min(s.at+blockBytes, s.end)
		err := s.bucket.getRange(s.ctx, s.name, s.etag, s.at, to, func(body io.Reader) error {
			s.block.Reset()
			n, err := io.CopyN(&s.block, body, to-s.at)
			return exactly(int(n), err)
		})
		if err != nil {
			s.block.Reset()
			return 0, err
		}
		s.at = to
	}
	return s.block.Read(p)
}

// Close ends the reading.
func (s *stream) Close() error {
	s.end, s.at = 0, 0
	s.block = bytes.Buffer{}
	s.bucket.close()
	return nil
}
