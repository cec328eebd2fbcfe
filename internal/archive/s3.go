package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// conditionalName is where a process makes sure, before it relies on it, that
	// the server refuses to create an object twice.
	conditionalName = "_conditional"
	// writerKey is the metadata that says which call stored an object, for callers
	// whose answer was lost.
	writerKey     = "furrow-writer"
	maxSmallBytes = 16 << 20 // of an object that create compares
	deleteBatch   = 1000     // S3's limit
)

// bucket is a place on S3, or on a server that speaks its protocol.
type bucket struct {
	client    *s3.Client
	idle      func() // closes idle connections
	name      string
	prefix    string // empty, or with a slash at its end
	tmp       string // local, for what is read
	partBytes int64
	timeout   time.Duration // of one attempt
	pause     time.Duration // before the second attempt
	pageSize  int32         // objects listed at a time; 0: as many as the server gives
	checksum  types.ChecksumAlgorithm
	requests  *prometheus.CounterVec
	log       *slog.Logger

	conditional sync.Mutex
	proven      bool        // creates are conditional here
	oneByOne    atomic.Bool // the server does not delete many at once
	versions    sync.Once   // the warning about them was given
	swept       time.Time   // when abandoned uploads were last looked for; used by one goroutine
}

func (b *bucket) key(name string) *string { return aws.String(b.prefix + name) }

func (b *bucket) String() string {
	return location{bucket: b.name, prefix: strings.TrimSuffix(b.prefix, "/")}.String()
}

// create stores the object on the condition that there is none. When the server
// says that there is one, it may be the one of this very call, whose answer was
// lost: then the answer is true.
func (b *bucket) create(ctx context.Context, name string, content []byte) (bool, error) {
	if err := b.proveConditional(ctx); err != nil {
		return false, err
	}
	writer := rand.Text()
	for range attempts {
		created, unsure, err := b.putNew(ctx, name, content, writer)
		if err != nil || created {
			return created, err
		}
		ours, err := b.wrote(ctx, name, content, writer, unsure)
		if !isMissing(err) {
			return ours, err
		}
		// Deleted between the two requests: the name is free.
	}
	return false, b.fail("create", name, errors.New("it is created and deleted again and again"))
}

// putNew stores an object unless there is one. unsure says that an earlier
// attempt had no clear answer.
func (b *bucket) putNew(ctx context.Context, name string, content []byte, writer string) (created, unsure bool, err error) {
	err = b.try(ctx, "create", name, func(ctx context.Context) error {
		_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.name, Key: b.key(name), Body: bytes.NewReader(content),
			ContentLength: aws.Int64(int64(len(content))), ContentType: contentType(name),
			IfNoneMatch: aws.String("*"), Metadata: map[string]string{writerKey: writer},
			ChecksumAlgorithm: b.checksum,
		})
		switch code, status := errorCode(err); {
		case err == nil:
			created = true
		case code == "PreconditionFailed" || status == http.StatusPreconditionFailed:
			return nil
		case status == 0 || status >= 500:
			unsure = true
		}
		return err
	})
	return created, unsure, err
}

// wrote reports whether an object was stored by the call that has this mark. A
// server that drops the mark leaves the content to compare.
func (b *bucket) wrote(ctx context.Context, name string, content []byte, writer string, unsure bool) (ours bool, err error) {
	err = b.try(ctx, "read", name, func(ctx context.Context) error {
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: b.key(name)})
		if err != nil {
			return err
		}
		defer out.Body.Close()
		if mark := out.Metadata[writerKey]; mark != "" || !unsure {
			ours = mark == writer
			return nil
		}
		there, err := io.ReadAll(io.LimitReader(out.Body, maxSmallBytes))
		ours = bytes.Equal(there, content)
		return err
	})
	return ours, err
}

// proveConditional makes sure, once, that the server knows If-None-Match: one that
// ignores it would let two owners declare the same range.
func (b *bucket) proveConditional(ctx context.Context) error {
	b.conditional.Lock()
	defer b.conditional.Unlock()
	if b.proven {
		return nil
	}
	for range 3 {
		created, _, err := b.putNew(ctx, conditionalName, []byte("Furrow made sure here that this store does not create an object twice.\n"), rand.Text())
		if err != nil {
			return err
		}
		if !created {
			b.proven = true
			return nil
		}
	}
	return b.fail("create", conditionalName, errors.New("the server overwrites an object in spite of If-None-Match: *, so two owners could archive one range; use a server that knows conditional writes"))
}

// list reads the listing page by page.
func (b *bucket) list(ctx context.Context, prefix string, fn func(name string, size int64) error) error {
	var token *string
	for {
		var page *s3.ListObjectsV2Output
		err := b.try(ctx, "list", prefix, func(ctx context.Context) (err error) {
			in := &s3.ListObjectsV2Input{
				Bucket: &b.name, Prefix: b.key(prefix), ContinuationToken: token, EncodingType: types.EncodingTypeUrl,
			}
			if b.pageSize > 0 {
				in.MaxKeys = &b.pageSize
			}
			page, err = b.client.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			name, ours := strings.CutPrefix(decodeKey(aws.ToString(o.Key), page.EncodingType), b.prefix)
			if !ours || strings.HasSuffix(name, "/") {
				continue // a folder, as some programs make them
			}
			if err := fn(name, aws.ToInt64(o.Size)); err != nil {
				return err
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return nil
		}
		if next := page.NextContinuationToken; aws.ToString(next) == "" || aws.ToString(next) == aws.ToString(token) {
			return b.fail("list", prefix, errors.New("the server says that there is more and not where it goes on"))
		}
		token = page.NextContinuationToken
	}
}

// decodeKey undoes the encoding that was asked for so that any key fits into XML.
func decodeKey(key string, encoding types.EncodingType) string {
	if encoding != types.EncodingTypeUrl {
		return key
	}
	if plain, err := url.QueryUnescape(key); err == nil {
		return plain
	}
	return key
}

func (b *bucket) remove(ctx context.Context, name string) error {
	if name != "" && !strings.HasSuffix(name, "/") {
		return b.removeOne(ctx, name)
	}
	var batch []string
	flush := func() error {
		names := batch
		batch = batch[:0]
		return b.removeAll(ctx, names)
	}
	err := b.list(ctx, name, func(name string, _ int64) error {
		if batch = append(batch, name); len(batch) < deleteBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (b *bucket) removeOne(ctx context.Context, name string) error {
	return b.try(ctx, "delete", name, func(ctx context.Context) error {
		out, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(name)})
		if isMissing(err) {
			return nil
		}
		if err == nil && aws.ToBool(out.DeleteMarker) {
			b.warnOfVersions()
		}
		return err
	})
}

// removeAll deletes up to 1000 objects with one request, or one by one where the
// server does not do that.
func (b *bucket) removeAll(ctx context.Context, names []string) error {
	if len(names) > 1 && !b.oneByOne.Load() {
		err := b.removeBatch(ctx, names)
		if !refusesBatch(err) {
			return err
		}
		b.oneByOne.Store(true)
	}
	for _, name := range names {
		if err := b.removeOne(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (b *bucket) removeBatch(ctx context.Context, names []string) error {
	ids := make([]types.ObjectIdentifier, len(names))
	for i, name := range names {
		ids[i].Key = b.key(name)
	}
	return b.try(ctx, "delete", names[0], func(ctx context.Context) error {
		out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Objects: ids}})
		if err != nil {
			return err
		}
		for _, d := range out.Deleted {
			if aws.ToBool(d.DeleteMarker) {
				b.warnOfVersions()
			}
		}
		for _, e := range out.Errors {
			if code := aws.ToString(e.Code); code != "NoSuchKey" {
				return &deleteError{key: aws.ToString(e.Key), code: code, message: aws.ToString(e.Message)}
			}
		}
		return nil
	})
}

// refusesBatch reports whether the server does not know the request for many
// objects, or wants a checksum of it that the SDK no longer sends.
func refusesBatch(err error) bool {
	if _, ok := errors.AsType[*deleteError](err); err == nil || ok {
		return false
	}
	code, status := errorCode(err)
	switch code {
	case "AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed":
		return false
	}
	return status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest || status == http.StatusNotFound
}

// deleteError is the fate of one object of a batch.
type deleteError struct{ key, code, message string }

// Error names the object.
func (e *deleteError) Error() string { return fmt.Sprintf("%s: %s (%s)", e.key, e.message, e.code) }

// warnOfVersions says, once, that what is deleted stays as an older version.
func (b *bucket) warnOfVersions() {
	b.versions.Do(func() {
		b.log.Warn("the archive's bucket keeps older versions: what is deleted, forgotten people too, stays in it until a lifecycle rule expires them", "bucket", b.name)
	})
}

func contentType(name string) *string {
	if strings.HasSuffix(name, fileSuffix) {
		return aws.String("application/vnd.apache.parquet")
	}
	return aws.String("application/json")
}
