package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"furrow/internal/archive/s3test"
)

// reach opens an archive on the shared server through another address.
func reach(tb testing.TB, where, endpoint string, change ...func(*Config)) (*Archive, *bucket) {
	tb.Helper()
	a := openAt(tb, where, append([]func(*Config){func(c *Config) { c.S3.Endpoint = endpoint }}, change...)...)
	b := a.place.(*bucket)
	b.pause = time.Millisecond
	return a, b
}

func behindFaults(tb testing.TB) (*s3test.Faults, *Archive, *bucket) {
	tb.Helper()
	f := s3test.NewFaults(tb, sharedServer(tb).Endpoint)
	a, b := reach(tb, s3Place(tb), f.Endpoint)
	return f, a, b
}

func content(tb testing.TB, p place, name string) []byte {
	tb.Helper()
	obj, err := p.open(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	defer obj.Close()
	data, err := io.ReadAll(io.NewSectionReader(obj, 0, obj.size()))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func localFile(tb testing.TB, content []byte) string {
	tb.Helper()
	name, err := writeTemp(tb.TempDir(), content)
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

var troubles = map[string]s3test.Fault{
	"slow down": s3test.SlowDown, "internal error": s3test.InternalError, "dropped": s3test.Drop,
	"stored and lost": s3test.Lose, "stored and answered 500": s3test.LoseToError,
}

func TestCreateTellsTheTruth(t *testing.T) {
	t.Parallel()
	for name, fault := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, b := behindFaults(t)
			for times := 1; times < attempts; times++ {
				object := fmt.Sprintf("_ranges/raw/0/%d", times)
				f.Next(times, fault, s3test.Is("PutObject", object))
				if created, err := b.create(t.Context(), object, []byte("ours")); !created || err != nil {
					t.Errorf("after %d of them: %t %v, but nobody else wrote it", times, created, err)
				}
				if created, err := b.create(t.Context(), object, []byte("ours")); created || err != nil {
					t.Errorf("created twice (%v)", err)
				}
				if got := content(t, b, object); string(got) != "ours" {
					t.Errorf("stored %q", got)
				}
				// Somebody else was first, and our answer is lost as well.
				taken := object + "-taken"
				if _, err := b.create(t.Context(), taken, []byte("theirs")); err != nil {
					t.Fatal(err)
				}
				f.Next(times, fault, s3test.Is("PutObject", taken))
				if created, err := b.create(t.Context(), taken, []byte("theirs")); created || err != nil {
					t.Errorf("somebody else's object was called ours (%v)", err)
				}
			}
			f.Next(attempts, fault, s3test.Is("PutObject", "gone"))
			if created, err := b.create(t.Context(), "gone", nil); created || err == nil {
				t.Errorf("nobody answered: %t %v", created, err)
			}
		})
	}
}

func TestOneOfTwoOwnersWins(t *testing.T) {
	t.Parallel()
	where := s3Place(t)
	_, one := reach(t, where, sharedServer(t).Endpoint)
	_, two := reach(t, where, sharedServer(t).Endpoint)
	for round := range 40 {
		var wins atomic.Int32
		var owners sync.WaitGroup
		for _, b := range []*bucket{one, two, one, two} {
			owners.Go(func() {
				created, err := b.create(t.Context(), fmt.Sprintf("_ranges/raw/0/%d", round), []byte("the same"))
				if err != nil {
					t.Error(err)
				}
				if created {
					wins.Add(1)
				}
			})
		}
		owners.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d has %d winners", round, wins.Load())
		}
	}
}

// TestTwoOwnersRaceForARange lets two archives commit ranges of different length
// from the same position at the same time.
func TestTwoOwnersRaceForARange(t *testing.T) {
	t.Parallel()
	where := s3Place(t)
	log := story(12)
	for round := range 5 {
		partition := fmt.Sprint(round)
		var owners errgroup.Group
		var taken atomic.Int32
		for _, n := range []int{7, 12} {
			a := openAt(t, where)
			r := begin(t, a, partition, 1)
			for _, e := range log[:n] {
				if err := r.Add(e); err != nil {
					t.Fatal(err)
				}
			}
			owners.Go(func() error {
				defer r.Abort()
				err := r.Commit(t.Context(), position(n))
				if errors.Is(err, ErrTaken) {
					taken.Add(1)
					return nil
				}
				return err
			})
		}
		if err := owners.Wait(); err != nil || taken.Load() != 1 {
			t.Fatalf("%d owners were told that the range is taken, %v", taken.Load(), err)
		}
	}
}

func TestUploadThroughTroubles(t *testing.T) {
	t.Parallel()
	small, large := noise(200_000), noise(12<<20+17)
	for name, fault := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a, b := behindFaults(t)
			for _, tc := range []struct {
				operation string
				data      []byte
			}{
				{"PutObject", small},
				{"CreateMultipartUpload", large},
				{"UploadPart", large},
				{"CompleteMultipartUpload", large},
			} {
				object := "raw/date=2026-11-22/hour=09/" + tc.operation + fileSuffix
				plant(t, a, object, "what was there before")
				local := localFile(t, tc.data)
				f.Next(2, fault, s3test.Is(tc.operation, object))
				if err := b.put(t.Context(), local, object); err != nil {
					t.Errorf("%s: %v", tc.operation, err)
					continue
				}
				if !bytes.Equal(content(t, b, object), tc.data) {
					t.Errorf("%s: other bytes are stored", tc.operation)
				}
				if _, err := os.Stat(local); err == nil {
					t.Errorf("%s: the local file stays", tc.operation)
				}
				if err := b.put(t.Context(), localFile(t, tc.data), object); err != nil {
					t.Errorf("%s again: %v", tc.operation, err)
				}
			}
		})
	}
}

func TestUploadCutInTheMiddle(t *testing.T) {
	t.Parallel()
	where := s3Place(t)
	x := s3test.Proxy(t, sharedServer(t).Endpoint)
	_, b := reach(t, where, x.Endpoint)
	_, direct := reach(t, where, sharedServer(t).Endpoint)
	data := noise(11 << 20)
	object := "raw/date=2026-11-22/hour=09/cut" + fileSuffix
	for name, trouble := range map[string]func(){
		"every connection breaks after 3 MB": func() { x.LimitUpload(3 << 20) },
		"reset":                              func() { x.Reset(20 * time.Millisecond) },
		"cut":                                x.Cut,
	} {
		trouble()
		local := localFile(t, data)
		if err := b.put(t.Context(), local, object); err == nil || !strings.Contains(err.Error(), object) {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Stat(local); err != nil {
			t.Fatalf("%s: the local file is lost", name)
		}
		if _, err := direct.open(t.Context(), object); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: half an object is there: %v", name, err)
		}
		x.Restore()
		if err := b.put(t.Context(), local, object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(content(t, direct, object), data) {
			t.Errorf("%s: other bytes are stored", name)
		}
		if err := b.remove(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAbandonedUploads(t *testing.T) {
	t.Parallel()
	where := s3Place(t)
	f := s3test.NewFaults(t, sharedServer(t).Endpoint)
	a, b := reach(t, where, f.Endpoint)
	_, stranger := reach(t, where+"0", f.Endpoint)
	data := noise(6 << 20)
	leave := func(b *bucket, object string) {
		f.Next(attempts, s3test.InternalError, s3test.Is("CompleteMultipartUpload", object))
		f.Next(attempts, s3test.InternalError, s3test.Is("AbortMultipartUpload", object))
		if err := b.put(t.Context(), localFile(t, data), object); err == nil {
			t.Fatal("the upload succeeded")
		}
	}
	leave(b, "raw/date=2026-11-22/hour=09/left.parquet")
	leave(b, "somebody/elses")
	leave(stranger, "raw/date=2026-11-22/hour=09/left.parquet")
	f.Requests()
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {time.Hour, 0}, {25 * time.Hour, 1}, {50 * time.Hour, 0}} {
		if err := a.Prune(t.Context(), time.Now().Add(tc.after)); err != nil {
			t.Fatal(err)
		}
		if got := f.Requests()["AbortMultipartUpload"]; got != tc.want {
			t.Errorf("after %s: %d uploads were taken back, want %d", tc.after, got, tc.want)
		}
	}
}

func TestReadThroughTroubles(t *testing.T) {
	t.Parallel()
	f, _, b := behindFaults(t)
	for _, size := range []int{0, 1, inMemory, inMemory + 1, blockBytes, blockBytes + 1, 3*blockBytes + 5, 40 << 20} {
		data := noise(size)
		object := fmt.Sprintf("raw/date=2026-11-22/hour=09/%d.parquet", size)
		if err := b.put(t.Context(), localFile(t, data), object); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []s3test.Fault{s3test.Truncate, s3test.Shorten, s3test.SlowDown, s3test.Lose} {
			if size == 0 && (fault == s3test.Truncate || fault == s3test.Shorten) {
				continue // half of an error message
			}
			f.Next(2, fault, s3test.Is("GetObject", object))
			if !bytes.Equal(content(t, b, object), data) {
				t.Errorf("%d bytes: others came after %d", size, fault)
			}
			f.Clear()
		}
	}
	f.Requests()
	content(t, b, fmt.Sprintf("raw/date=2026-11-22/hour=09/%d.parquet", 40<<20))
	if n := f.Requests()["GetObject"]; n > 8 {
		t.Errorf("%d requests for 40 MB in sequence", n)
	}
}

// TestReadAt asks as a Parquet reader does: here and there, a few KB at a time,
// from several goroutines.
func TestReadAt(t *testing.T) {
	t.Parallel()
	f, _, b := behindFaults(t)
	data := noise(6*blockBytes + 1000)
	if err := b.put(t.Context(), localFile(t, data), "x.parquet"); err != nil {
		t.Fatal(err)
	}
	obj, err := b.open(t.Context(), "x.parquet")
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for n := range 4 {
		readers.Go(func() {
			p := make([]byte, 5000)
			for i := range 400 {
				off := (i*7919*131 + n*65537) % len(data)
				got, err := obj.ReadAt(p, int64(off))
				want := data[off:min(off+len(p), len(data))]
				if !bytes.Equal(p[:got], want) || (err != nil) != (len(want) < len(p)) || err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("at %d: %d bytes, %v", off, got, err)
					return
				}
			}
		})
	}
	readers.Wait()
	if n := f.Requests()["GetObject"]; n > 7 {
		t.Errorf("%d requests for 7 blocks", n)
	}
	for _, off := range []int64{int64(len(data)), int64(len(data)) + 5} {
		if n, err := obj.ReadAt(make([]byte, 1), off); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("at %d: %d %v", off, n, err)
		}
	}
	if err := obj.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(b.tmp); err != nil || len(left) != 0 {
		t.Errorf("%d local files are left (%v)", len(left), err)
	}
}

func TestReplacedWhileRead(t *testing.T) {
	t.Parallel()
	_, a, b := behindFaults(t)
	plant(t, a, "x.parquet", string(noise(3*blockBytes)))
	obj, err := b.open(t.Context(), "x.parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	plant(t, a, "x.parquet", string(noise(3*blockBytes-1)))
	if _, err := obj.ReadAt(make([]byte, 10), 2*blockBytes); !errors.Is(err, errReplaced) {
		t.Errorf("bytes of two versions are mixed: %v", err)
	}
	if err := b.remove(t.Context(), "x.parquet"); err != nil {
		t.Fatal(err)
	}
	if _, err := obj.ReadAt(make([]byte, 10), 2*blockBytes); !errors.Is(err, errGone) {
		t.Errorf("deleted while read: %v", err)
	}
}

func TestListAndRemoveManyPages(t *testing.T) {
	t.Parallel()
	const objects = 2300
	f, _, b := behindFaults(t)
	folder := "raw/date=2026-11-22/hour=09/"
	var writers errgroup.Group
	writers.SetLimit(12)
	for i := range objects {
		writers.Go(func() error {
			_, err := b.create(t.Context(), fmt.Sprintf("%s%05d é+%%41.parquet", folder, i), make([]byte, i%3))
			return err
		})
	}
	if err := writers.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.create(t.Context(), "raw/date=2026-11-22/hour=090", nil); err != nil {
		t.Fatal(err)
	}
	count := func(prefix string) (n int, bytes int64) {
		seen := make(map[string]bool)
		err := b.list(t.Context(), prefix, func(name string, size int64) error {
			if seen[name] || !strings.HasPrefix(name, prefix) {
				t.Errorf("%q is listed twice, or is not asked for", name)
			}
			seen[name] = true
			bytes += size
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(seen), bytes
	}
	for _, b.pageSize = range []int32{0, 100} {
		f.Next(2, s3test.SlowDown, s3test.Is("ListObjects", ""))
		f.Next(1, s3test.Truncate, s3test.Is("ListObjects", ""))
		if n, bytes := count(folder); n != objects || bytes != objects-1 { // sizes 0, 1, 2, 0, ...
			t.Errorf("pages of %d: %d objects of %d bytes", b.pageSize, n, bytes)
		}
	}
	if n, _ := count(folder + "nothing/"); n != 0 {
		t.Errorf("%d objects in an empty folder", n)
	}
	stop := errors.New("stop")
	if err := b.list(t.Context(), folder, func(string, int64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the caller's error came back as %v", err)
	}
	f.Requests()
	if err := b.remove(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	if r := f.Requests(); r["DeleteObjects"] != 3 || r["DeleteObject"] != 0 {
		t.Errorf("%v requests to delete %d objects", r, objects)
	}
	if n, _ := count("raw/"); n != 1 {
		t.Errorf("%d objects are left, want the one beside the folder", n)
	}
}

func TestRemoveWhereBatchesAreUnknown(t *testing.T) {
	t.Parallel()
	f, a, b := behindFaults(t)
	for i := range 7 {
		plant(t, a, fmt.Sprint("bad/x/", i), "")
	}
	f.Next(1, s3test.Refuse, s3test.Is("DeleteObjects", ""))
	if err := errors.Join(b.remove(t.Context(), "bad/x/"), b.remove(t.Context(), "bad/x/"), b.remove(t.Context(), "bad/x/0")); err != nil {
		t.Fatal(err)
	}
	if r := f.Requests(); r["DeleteObject"] != 8 || r["DeleteObjects"] != 1 {
		t.Errorf("requests %v", r)
	}
	if err := b.list(t.Context(), "bad/", func(name string, _ int64) error { return errors.New(name) }); err != nil {
		t.Errorf("left: %v", err)
	}
}

// TestAnswersLostAtEveryStep stores a log while, from the n-th change on, so many
// answers are lost that the call fails although it happened. The range is
// committed again, as the recorder does.
func TestAnswersLostAtEveryStep(t *testing.T) {
	t.Parallel()
	log := story(16)
	for step := 0; ; step++ {
		f, a, _ := behindFaults(t)
		var n atomic.Int32
		f.Next(attempts, s3test.Lose, func(r *http.Request) bool {
			return (r.Method == http.MethodPut || r.Method == http.MethodDelete) && int(n.Add(1)) > step
		})
		acked := 0
		failed := false
		for acked < len(log) {
			r := begin(t, a, "0", acked+1)
			next := acked + 1
			for ; ; next++ {
				if err := r.Add(log[next-1]); err != nil {
					t.Fatal(err)
				}
				if next == len(log) || next-acked == 9 {
					break
				}
			}
			for tries := 0; ; tries++ {
				err := r.Commit(t.Context(), position(next))
				if err == nil {
					break
				}
				failed = true
				if errors.Is(err, ErrBroken) || errors.Is(err, ErrTaken) || tries == 3 {
					t.Fatalf("step %d: %v", step, err)
				}
			}
			acked = next
		}
		wantExactly(t, a, log)
		if t.Failed() {
			t.Fatalf("at step %d", step)
		}
		if !failed {
			if step < 10 {
				t.Errorf("only %d steps were tried", step)
			}
			return
		}
	}
}

func TestStartWhileAway(t *testing.T) {
	t.Parallel()
	where := s3Place(t)
	log := story(20)
	write(t, openAt(t, where), "0", 1, log[:10]...)
	x := s3test.Proxy(t, sharedServer(t).Endpoint)
	x.Cut()
	a, _ := reach(t, where, x.Endpoint)
	if s := a.Status(); s.StockKnown || s.Place != where || a.Place() != where {
		t.Errorf("status %+v", s)
	}
	if err := a.ReadRaw(t.Context(), time.Time{}, time.Time{}, func(RawRow) error { return nil }); err == nil {
		t.Error("read from a store that is away")
	}
	if err := a.Prune(t.Context(), day); err == nil {
		t.Error("pruned a store that is away")
	}
	if _, err := a.Begin(t.Context(), "raw", "0", position(11)); err == nil {
		t.Error("began without knowing whether there is an intent")
	}
	x.Restore()
	r := begin(t, a, "0", 11) // open while stock is taken
	for _, e := range log[10:15] {
		if err := r.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Prune(t.Context(), day); err != nil {
		t.Fatal(err)
	}
	if !a.Status().StockKnown {
		t.Error("stock is not known after it was taken")
	}
	if err := r.Commit(t.Context(), position(15)); err != nil {
		t.Fatal(err)
	}
	write(t, a, "0", 16, log[15:]...)
	wantExactly(t, a, log)
	sameStock(t, a, where)
}

func TestSlowAndSilentServers(t *testing.T) {
	t.Parallel()
	x := s3test.Proxy(t, sharedServer(t).Endpoint)
	a, b := reach(t, s3Place(t), x.Endpoint, func(c *Config) { c.S3.Timeout = time.Second })
	x.Latency(150 * time.Millisecond)
	x.Bandwidth(8000)
	log := story(6)
	write(t, a, "0", 1, log...)
	wantExactly(t, a, log)
	x.Restore()
	x.Hang()
	began := time.Now()
	_, err := b.open(t.Context(), "raw/x")
	if err == nil || !strings.Contains(err.Error(), "archive.s3.timeout") || !strings.Contains(err.Error(), "4 attempts") {
		t.Errorf("a server that is silent: %v", err)
	}
	if took := time.Since(began); took > 3*attempts*time.Second {
		t.Errorf("gave up after %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.put(ctx, localFile(t, noise(6<<20)), "x.parquet") }()
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped with %v", err)
		}
	case <-time.After(10 * time.Second):
		// The abort of the upload has its own attempts.
		t.Error("a put goes on after it was cancelled")
	}
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	const secret = "a-wrong-secret"
	url := strings.TrimPrefix(s3Place(t), s3Scheme+testBucket+"/")
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"no bucket", func(c *Config) { c.URL = "s3://no-such-bucket/" + url }, []string{"no such bucket", "NoSuchBucket", "archive.url", "s3://no-such-bucket/"}},
		{"unknown key", func(c *Config) { c.S3.AccessKeyID = "nobody" }, []string{"does not know the access key", "archive.s3.accessKeyId"}},
		{"wrong secret", func(c *Config) { c.S3.SecretAccessKey = secret }, []string{"SignatureDoesNotMatch", "archive.s3.secretAccessKey"}},
		{"nobody there", func(c *Config) { c.S3.Endpoint = "http://127.0.0.1:1" }, []string{"connection refused", "4 attempts", "s3://furrow/"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := openAt(t, s3Scheme+testBucket+"/"+url, tc.change)
			b := a.place.(*bucket)
			b.pause = time.Millisecond
			_, openErr := b.open(t.Context(), "raw/x")
			_, createErr := b.create(t.Context(), "_ranges/raw/0/1", nil)
			for operation, err := range map[string]error{
				"open": openErr, "create": createErr, "put": b.put(t.Context(), localFile(t, noise(6<<20)), "raw/y"),
				"list": a.Prune(t.Context(), day), "remove": b.remove(t.Context(), "raw/"),
			} {
				if err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: %v", operation, err)
					continue
				}
				for _, want := range tc.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q is not in: %v", operation, want, err)
					}
				}
				if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), s3test.SecretAccessKey) {
					t.Errorf("%s: the secret is in: %v", operation, err)
				}
			}
		})
	}
}

func TestMissingPermission(t *testing.T) {
	t.Parallel()
	f, a, b := behindFaults(t)
	f.Next(100, s3test.Deny, nil)
	_, err := b.open(t.Context(), "raw/x")
	if err == nil || !strings.Contains(err.Error(), "s3:ListBucket") || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that may not be read, or is not there: %v", err)
	}
	if n := f.Requests()["GetObject"]; n != 1 {
		t.Errorf("asked %d times for what is forbidden", n)
	}
	f.Clear()
	// Nobody needs the permission to list uploads.
	f.Next(1, s3test.Deny, s3test.Is("ListMultipartUploads", ""))
	if err := a.Prune(t.Context(), day); err != nil {
		t.Error(err)
	}
}

func TestNoCredentials(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "none")
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
	} {
		t.Setenv(key, value)
	}
	a := openAt(t, s3Place(t), func(c *Config) { c.S3.AccessKeyID, c.S3.SecretAccessKey, c.S3.Region = "", "", "" })
	b := a.place.(*bucket)
	if region := b.client.Options().Region; region != defaultRegion {
		t.Errorf("region %q", region)
	}
	began := time.Now()
	_, err := b.open(t.Context(), "raw/x")
	if !errors.Is(err, errCredentials) || !strings.Contains(err.Error(), "archive.s3.accessKeyId") {
		t.Errorf("without credentials: %v", err)
	}
	if took := time.Since(began); took > credentialsLimit {
		t.Errorf("it took %s", took)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", s3test.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3test.SecretAccessKey)
	t.Setenv("AWS_REGION", s3test.Region)
	a = openAt(t, s3Place(t), func(c *Config) { c.S3.AccessKeyID, c.S3.SecretAccessKey, c.S3.Region = "", "", "" })
	write(t, a, "0", 1, story(3)...)
}

// TestAsOnAWS uploads as it is done to AWS: over TLS, with checksums of our making
// that follow the body.
func TestAsOnAWS(t *testing.T) {
	endpoint, certificate := s3test.TLS(t, sharedServer(t).Endpoint)
	t.Setenv("AWS_CA_BUNDLE", certificate)
	a, b := reach(t, s3Place(t), endpoint)
	b.checksum = types.ChecksumAlgorithmCrc32
	log := story(5)
	write(t, a, "0", 1, log...)
	wantExactly(t, a, log)
	data := noise(11 << 20)
	if err := b.put(t.Context(), localFile(t, data), "x.parquet"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, b, "x.parquet"), data) {
		t.Error("other bytes are stored")
	}
	if err := b.remove(t.Context(), "raw/"); err != nil {
		t.Error(err)
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	_, b = reach(t, s3Place(t), endpoint)
	if _, err := b.open(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func TestServerWithoutConditions(t *testing.T) {
	t.Parallel()
	f, a, b := behindFaults(t)
	f.Next(100, s3test.Pretend, s3test.Is("PutObject", ""))
	if _, err := b.create(t.Context(), "_ranges/raw/0/1", nil); err == nil || !strings.Contains(err.Error(), "If-None-Match") {
		t.Errorf("a server that overwrites: %v", err)
	}
	f.Clear()
	f.Next(1, s3test.Refuse, s3test.Is("PutObject", ""))
	if _, err := b.create(t.Context(), "_ranges/raw/0/1", nil); err == nil || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("a server that knows no conditions: %v", err)
	}
	write(t, a, "0", 1, story(3)...)
}

func TestObjectsForImports(t *testing.T) {
	t.Parallel()
	f := s3test.NewFaults(t, sharedServer(t).Endpoint)
	where := s3Place(t)
	_, b := reach(t, where, f.Endpoint)
	cfg := S3(sharedServer(t).Config(testBucket))
	cfg.Endpoint = f.Endpoint
	large := noise(3*blockBytes + 7)
	for key, data := range map[string][]byte{"run=1/part-0 é+%41?#.gz": large, "run=1/part-1": nil, "run=2/x": []byte("x"), "run=1/folder/": nil} {
		if _, err := b.create(t.Context(), key, data); err != nil {
			t.Fatal(err)
		}
	}
	urls, err := ListS3Objects(t.Context(), cfg, where+"/run=1/")
	if err != nil || fmt.Sprint(urls) != fmt.Sprint([]string{where + "/run=1/part-0 é+%41?#.gz", where + "/run=1/part-1"}) {
		t.Fatalf("listed %q, %v", urls, err)
	}
	for i, want := range [][]byte{large, nil} {
		f.Next(2, s3test.Truncate, func(r *http.Request) bool { return strings.HasPrefix(r.Header.Get("Range"), "bytes=4194304-") })
		r, size, err := OpenS3Object(t.Context(), cfg, urls[i])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) || size != int64(len(want)) {
			t.Errorf("%s: %d of %d bytes, size %d, %v", urls[i], len(got), len(want), size, err)
		}
		r.Close()
	}
	if _, _, err := OpenS3Object(t.Context(), cfg, where+"/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is not there: %v", err)
	}
	if urls, err := ListS3Objects(t.Context(), cfg, where+"/none/"); err != nil || len(urls) != 0 {
		t.Errorf("nothing: %v, %v", urls, err)
	}
	if _, err := ListS3Objects(t.Context(), cfg, "s3://no-such-bucket/"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bucket: %v", err)
	}
	for _, url := range []string{"", "s3://", "s3://furrow", "s3://furrow/", "s3://furrow/x/", "http://furrow/x", "s3://../x"} {
		if _, _, err := OpenS3Object(t.Context(), cfg, url); err == nil {
			t.Errorf("%q was opened", url)
		}
	}
}

func TestLocations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		url  string
		want location
		bad  bool
	}{
		{url: "", want: location{}},
		{url: "archive", want: location{folder: "archive"}},
		{url: "/srv/archive", want: location{folder: "/srv/archive"}},
		{url: "file:///srv/the%20archive", want: location{folder: "/srv/the archive"}},
		{url: "file://localhost/srv", want: location{folder: "/srv"}},
		{url: "s3://bucket", want: location{bucket: "bucket"}},
		{url: "s3://bucket/", want: location{bucket: "bucket"}},
		{url: "s3://my.bucket-1/a/b/", want: location{bucket: "my.bucket-1", prefix: "a/b"}},
		{url: "s3:/bucket/a", bad: true},
		{url: "file:/a", bad: true},
		{url: "s3://", bad: true},
		{url: "s3://b", bad: true},
		{url: "s3://user:pass@bucket/x", bad: true},
		{url: "s3://bucket/a//b", bad: true},
		{url: "s3://bucket/../other", bad: true},
		{url: "s3://bucket/a b", bad: true},
		{url: "S3://bucket/x", bad: true},
		{url: "gs://bucket/x", bad: true},
		{url: "https://s3.amazonaws.com/bucket", bad: true},
		{url: "file://host/srv", bad: true},
		{url: "file://srv", bad: true},
		{url: "file:///", bad: true},
		{url: "a\x00b", bad: true},
	} {
		got, err := parseLocation(tc.url)
		if (err != nil) != tc.bad || got != tc.want {
			t.Errorf("%q: %+v, %v", tc.url, got, err)
		}
	}
	for key, change := range map[string]func(*Config){
		"url":                func(c *Config) { c.URL = "ftp://x" },
		"s3.endpoint":        func(c *Config) { c.S3.Endpoint = "127.0.0.1:9000" },
		"s3.accessKeyId":     func(c *Config) { c.S3.SecretAccessKey = "x" },
		"s3.secretAccessKey": func(c *Config) { c.S3.AccessKeyID = "x" },
		"s3.partBytes":       func(c *Config) { c.S3.PartBytes = 1 << 20 },
		"s3.timeout":         func(c *Config) { c.S3.Timeout = 0 },
	} {
		cfg := Default()
		change(&cfg)
		var keys []string
		cfg.Validate(func(key, _ string) { keys = append(keys, key) })
		if fmt.Sprint(keys) != "["+key+"]" {
			t.Errorf("want a problem with %s, found %v", key, keys)
		}
	}
	cfg := Default()
	cfg.S3.Endpoint = "https://me:hush@s3.example.com"
	cfg.Validate(func(key, rule string) {
		if key != "s3.endpoint" || strings.Contains(rule, "hush") {
			t.Errorf("%s %s", key, rule)
		}
	})
}

func TestFolderByURL(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "elsewhere")
	for _, url := range []string{folder, "file://" + filepath.ToSlash(folder)} {
		cfg := Default()
		cfg.URL = url
		a, err := Open(t.TempDir(), cfg, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if a.Place() != folder || !a.Status().StockKnown {
			t.Errorf("%s: place %s", url, a.Place())
		}
		write(t, a, "0", 1, entry(1, day))
	}
	if got := eventIDs(t, openAt(t, folder), time.Time{}, time.Time{}); len(got) != 1 {
		t.Errorf("%d events in the folder", len(got))
	}
}
