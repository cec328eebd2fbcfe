package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// OpenS3Object opens s3://BUCKET/KEY for reading from start to end, and returns
// its size in bytes. Requests that fail are repeated a few times. It fails with
// fs.ErrNotExist when there is no such object, and reading fails when the object
// is replaced meanwhile. ctx lasts until the reader is closed.
func OpenS3Object(ctx context.Context, cfg S3, url string) (io.ReadCloser, int64, error) {
	b, key, err := foreignBucket(ctx, cfg, url)
	if err != nil {
		return nil, 0, err
	}
	if key == "" || strings.HasSuffix(key, "/") {
		return nil, 0, fmt.Errorf("archive: %q names no object; it must be s3://BUCKET/KEY", url)
	}
	s := &stream{bucket: b, ctx: ctx, name: key}
	err = b.try(ctx, "read", key, func(ctx context.Context) error {
		s.block.Reset()
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: &b.name, Key: aws.String(key), Range: aws.String(fmt.Sprintf("bytes=0-%d", blockBytes-1)),
		})
		if _, status := errorCode(err); status == http.StatusRequestedRangeNotSatisfiable {
			return nil // empty
		}
		if err != nil {
			return err
		}
		defer out.Body.Close()
		if s.end, err = totalSize(out); err != nil {
			return err
		}
		s.etag, s.at = out.ETag, min(s.end, blockBytes)
		n, err := io.CopyN(&s.block, out.Body, s.at)
		return exactly(int(n), err)
	})
	if err != nil {
		b.close()
		return nil, 0, err
	}
	return s, s.end, nil
}

// ListS3Objects returns the addresses, s3://BUCKET/KEY, of the objects whose keys
// begin with the prefix in s3://BUCKET/PREFIX, in the order of their keys; what
// follows a prefix without a slash at its end may begin with any character. The
// empty objects that some programs make as folders are left out. It fails when
// there is no such bucket; no object is no error.
func ListS3Objects(ctx context.Context, cfg S3, url string) ([]string, error) {
	b, prefix, err := foreignBucket(ctx, cfg, url)
	if err != nil {
		return nil, err
	}
	defer b.close()
	var all []string
	err = b.list(ctx, prefix, func(name string, _ int64) error {
		all = append(all, s3Scheme+b.name+"/"+name)
		return nil
	})
	return all, err
}

// foreignBucket reaches a bucket that holds something else than an archive: its
// keys are what they are.
func foreignBucket(ctx context.Context, cfg S3, url string) (*bucket, string, error) {
	var problems []error
	cfg.validate(func(key, rule string) {
		problems = append(problems, fmt.Errorf("archive: s3.%s %s", key, rule))
	})
	rest, ok := strings.CutPrefix(url, s3Scheme)
	name, key, _ := strings.Cut(rest, "/")
	if !ok || !validBucket(name) {
		problems = append(problems, fmt.Errorf("archive: %q is no address of an object; it must be s3://BUCKET/KEY", url))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, "", err
	}
	b, err := newBucket(ctx, location{bucket: name}, cfg, "", nil, slog.New(slog.DiscardHandler))
	return b, key, err
}
