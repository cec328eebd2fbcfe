package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
)

const s3Scheme = "s3://"

// location is where an archive is: a folder, or a bucket with a prefix.
type location struct {
	folder string // empty: the default
	bucket string
	prefix string // without slashes at its ends
}

// parseLocation reads an archive's URL.
func parseLocation(s string) (location, error) {
	if rest, ok := strings.CutPrefix(s, s3Scheme); ok {
		bucket, prefix, _ := strings.Cut(rest, "/")
		if !validBucket(bucket) {
			return location{}, fmt.Errorf("names the bucket %q; it must be s3://BUCKET/PREFIX", bucket)
		}
		prefix = strings.Trim(prefix, "/")
		if prefix != "" && !validPrefix(prefix) {
			return location{}, fmt.Errorf("has the prefix %q; it must be names of letters, digits and punctuation with single slashes between them", prefix)
		}
		return location{bucket: bucket, prefix: prefix}, nil
	}
	if rest, ok := strings.CutPrefix(s, "file://"); ok {
		u, err := url.Parse(s)
		if err != nil || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" || u.RawQuery != "" {
			return location{}, fmt.Errorf("has the folder %q; write file:///FOLDER, or the folder alone", rest)
		}
		return location{folder: filepath.FromSlash(u.Path)}, nil
	}
	if strings.HasPrefix(s, "s3:") || strings.HasPrefix(s, "file:") {
		return location{}, errors.New("has no two slashes after its scheme; it must be s3://BUCKET/PREFIX, file:///FOLDER or a folder")
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return location{}, fmt.Errorf("begins with %s://; it must be s3://BUCKET/PREFIX or a folder, and a store that speaks S3's protocol is named with s3.endpoint", scheme)
	}
	if strings.ContainsRune(s, 0) {
		return location{}, errors.New("holds a NUL character")
	}
	return location{folder: s}, nil
}

func (l location) String() string {
	switch {
	case l.bucket == "":
		return l.folder
	case l.prefix == "":
		return s3Scheme + l.bucket
	default:
		return s3Scheme + l.bucket + "/" + l.prefix
	}
}

// validBucket is wider than AWS's own rule, for the servers that have another.
func validBucket(s string) bool {
	if len(s) < 3 || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return !strings.Contains(s, "..")
}

// validPrefix refuses what a server or a folder behind it could read in another
// way: empty, . and .. parts, backslashes and what is no visible character.
func validPrefix(s string) bool {
	if !fs.ValidPath(s) || len(s) > 512 {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || c == '\\' || c == 0xfffd {
			return false
		}
	}
	return true
}
