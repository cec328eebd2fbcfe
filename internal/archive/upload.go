package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	partsAtOnce   = 3
	maxParts      = 10_000           // S3's limit
	abortLimit    = 15 * time.Second // for taking back an upload that failed
	abandonedAge  = 24 * time.Hour   // an upload in parts that is older was left by a crash
	sweepInterval = 12 * time.Hour
)

// put uploads the file, over what is there, and then deletes it. The object
// appears whole or not at all.
func (b *bucket) put(ctx context.Context, local, name string) error {
	if err := b.upload(ctx, local, name); err != nil {
		return err
	}
	// What is left of it goes with the folder it is in.
	_ = os.Remove(local)
	return nil
}

func (b *bucket) upload(ctx context.Context, local, name string) error {
	f, err := os.Open(local)
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	if info.Size() > b.partBytes {
		return b.uploadParts(ctx, f, info.Size(), name)
	}
	return b.try(ctx, "upload", name, func(ctx context.Context) error {
		out, err := b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &b.name, Key: b.key(name), Body: io.NewSectionReader(f, 0, info.Size()),
			ContentLength: aws.Int64(info.Size()), ContentType: contentType(name), ChecksumAlgorithm: b.checksum,
		})
		if err == nil {
			b.noteVersion(out.VersionId)
		}
		return err
	})
}

func (b *bucket) noteVersion(id *string) {
	if v := aws.ToString(id); v != "" && v != "null" {
		b.warnOfVersions()
	}
}

// multipart is an upload in parts.
type multipart struct {
	bucket *bucket
	name   string
	id     *string
	mark   string // in the object's metadata, to know it again
	size   int64
	parts  []types.CompletedPart
}

// uploadParts sends parts from the file, a few at a time, none of them held in
// memory. An upload that fails is taken back.
func (b *bucket) uploadParts(ctx context.Context, f io.ReaderAt, size int64, name string) error {
	each := max(b.partBytes, (size+maxParts-1)/maxParts)
	m := &multipart{bucket: b, name: name, size: size, mark: rand.Text(), parts: make([]types.CompletedPart, (size+each-1)/each)}
	err := b.try(ctx, "upload", name, func(ctx context.Context) error {
		out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &b.name, Key: b.key(name), ContentType: contentType(name),
			Metadata: map[string]string{writerKey: m.mark}, ChecksumAlgorithm: b.checksum,
		})
		if err == nil {
			if m.id = out.UploadId; aws.ToString(m.id) == "" {
				return errors.New("the server gives an upload in parts no id")
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	group, parts := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	for i := range m.parts {
		group.Go(func() error {
			if err := parts.Err(); err != nil {
				return err
			}
			at := int64(i) * each
			return m.part(parts, i, io.NewSectionReader(f, at, min(each, size-at)))
		})
	}
	if err = group.Wait(); err == nil {
		err = m.complete(ctx)
	}
	if err != nil {
		m.abort(ctx)
	}
	return err
}

func (m *multipart) part(ctx context.Context, i int, body *io.SectionReader) error {
	b, number := m.bucket, int32(i+1) //nolint:gosec // at most 10,000
	return b.try(ctx, "upload", m.name, func(ctx context.Context) error {
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return permanent{err}
		}
		out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.name, Key: b.key(m.name), UploadId: m.id, PartNumber: &number,
			Body: body, ContentLength: aws.Int64(body.Size()), ChecksumAlgorithm: b.checksum,
		})
		if err != nil {
			return err
		}
		m.parts[i] = types.CompletedPart{PartNumber: &number, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
		return nil
	})
}

// complete puts the parts together. When the server does not know the upload any
// more, an earlier attempt may have succeeded and its answer been lost: then the
// object bears this upload's mark.
func (m *multipart) complete(ctx context.Context) error {
	b := m.bucket
	err := b.try(ctx, "upload", m.name, func(ctx context.Context) error {
		out, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &b.name, Key: b.key(m.name), UploadId: m.id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: m.parts},
		})
		if err == nil {
			b.noteVersion(out.VersionId)
		}
		return err
	})
	code, _ := errorCode(err)
	if err != nil && code != "NoSuchUpload" {
		return err
	}
	stored, size, headErr := m.stored(ctx)
	switch {
	case err == nil && headErr != nil:
		return headErr
	case size != m.size && stored, err == nil && size != m.size:
		return b.fail("upload", m.name, fmt.Errorf("the server holds %d bytes of %d", size, m.size))
	case err != nil && stored:
		return nil
	default:
		return err
	}
}

// stored reports whether the object is this upload's, and its size.
func (m *multipart) stored(ctx context.Context) (ours bool, size int64, err error) {
	b := m.bucket
	err = b.try(ctx, "upload", m.name, func(ctx context.Context) error {
		out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: b.key(m.name)})
		if err == nil {
			ours, size = out.Metadata[writerKey] == m.mark, aws.ToInt64(out.ContentLength)
		}
		return err
	})
	return ours, size, err
}

// abort takes the upload back, so that its parts cost nothing. What it cannot take
// back, the sweep finds.
func (m *multipart) abort(ctx context.Context) {
	b := m.bucket
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortLimit)
	defer cancel()
	err := b.abort(ctx, m.name, m.id)
	if err != nil {
		b.log.Warn("upload in parts could not be taken back; it is tried again after a day", "name", m.name, "error", err)
	}
}

func (b *bucket) abort(ctx context.Context, name string, id *string) error {
	return b.try(ctx, "abort", name, func(ctx context.Context) error {
		_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: b.key(name), UploadId: id})
		if code, _ := errorCode(err); code == "NoSuchUpload" {
			return nil
		}
		return err
	})
}

// sweep takes back, twice a day, the uploads of our files that a crash left
// unfinished: S3 keeps, and bills, their parts for ever.
func (b *bucket) sweep(ctx context.Context, now time.Time) error {
	if now.Sub(b.swept) < sweepInterval {
		return nil
	}
	b.swept = now
	in := &s3.ListMultipartUploadsInput{Bucket: &b.name}
	if b.prefix != "" {
		in.Prefix = &b.prefix
	}
	for {
		var page *s3.ListMultipartUploadsOutput
		err := b.try(ctx, "list uploads", "", func(ctx context.Context) (err error) {
			page, err = b.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			name, ok := b.abandoned(u, now)
			if !ok {
				continue
			}
			if err := b.abort(ctx, name, u.UploadId); err != nil {
				return err
			}
			b.log.Info("upload in parts that was left unfinished is taken back", "name", name)
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextKeyMarker) == "" {
			return nil
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

// abandoned returns the name of an upload of this archive that is over a day old.
// Others may share the bucket.
func (b *bucket) abandoned(u types.MultipartUpload, now time.Time) (string, bool) {
	key := aws.ToString(u.Key)
	if len(key) < len(b.prefix) || key[:len(b.prefix)] != b.prefix || u.Initiated == nil {
		return "", false
	}
	name := key[len(b.prefix):]
	return name, dataFile(name) && now.Sub(*u.Initiated) > abandonedAge
}
