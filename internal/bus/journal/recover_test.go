package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"furrow/internal/bus"
)

func text(v string) bus.Message {
	return bus.Message{Stream: bus.Raw, Key: []byte("k"), Value: []byte(v)}
}

func put(t *testing.T, j *Journal, values ...string) {
	t.Helper()
	for _, v := range values { // one commit each
		if err := j.Publish(t.Context(), text(v)); err != nil {
			t.Fatalf("Publish(%q): %v", v, err)
		}
	}
}

// get reads everything that is there.
func get(t *testing.T, j *Journal) []string {
	t.Helper()
	sub, err := j.Subscribe(t.Context(), "", nil, bus.Start{Kind: bus.Earliest})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	var got []string
	head := j.Head()[Partition]
	for at := bus.Position(""); at < head && head != formatPosition(0); {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		b, err := sub.Next(ctx)
		cancel()
		if err != nil {
			t.Fatalf("Next behind %q, head %q: %v", at, head, err)
		}
		for _, m := range b.Messages {
			got = append(got, string(m.Value))
		}
		at = max(at, b.Last)
	}
	return got
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("value-%05d", i))
	}
	return out
}

// closedJournal stores values and closes; it returns the folder and the one
// segment in it.
func closedJournal(t *testing.T, values ...string) (dir, segment string) {
	t.Helper()
	dir = t.TempDir()
	j := mustOpen(t, dir, Default())
	put(t, j, values...)
	segment = j.segments[0].path
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, segment
}

func TestTornTailAtEveryByte(t *testing.T) {
	t.Parallel()
	_, segment := closedJournal(t, "one", "two", strings.Repeat("three", 10))
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	lastSize := int64(recordHeader+len("raw")+len("k")+50+recordAlign-1) &^ (recordAlign - 1)
	begin := len(whole) - int(lastSize)
	for _, tail := range [][]byte{nil, make([]byte, 200), bytes.Repeat([]byte{0xff}, 123)} {
		for cut := begin; cut < len(whole); cut++ {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.Base(segment))
			if err := os.WriteFile(path, append(slices.Clone(whole[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpen(t, dir, Default())
			put(t, j, "four")
			want := []string{"one", "two", "four"}
			if padding := len(whole) - cut; padding <= 4 && (len(tail) == 200) {
				want = []string{"one", "two", strings.Repeat("three", 10), "four"} // only padding was cut
			}
			got := get(t, j)
			if cut < len(whole)-int(recordAlign) && !slices.Equal(got, want) {
				t.Fatalf("cut at %d of %d with a tail of %d: got %q", cut, len(whole), len(tail), got)
			}
			if n := len(got); n < 3 || got[0] != "one" || got[1] != "two" || got[n-1] != "four" {
				t.Fatalf("cut at %d of %d with a tail of %d: got %q", cut, len(whole), len(tail), got)
			}
			if st := j.Status(); len(st.SetAside) > 0 {
				t.Fatalf("a torn tail was taken for damage: %+v", st.SetAside)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBitFlips damages one bit anywhere in a sealed segment: every other record
// must come, the damage must be shown and copied, and nothing may be invented.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	values := numbers(0, 12)
	_, segment := closedJournal(t, values...)
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(whole); at += 7 {
		for _, newest := range []bool{true, false} {
			dir := t.TempDir()
			path := filepath.Join(dir, filepath.Base(segment))
			if !newest { // a later segment makes this one sealed
				_ = os.WriteFile(path, whole, 0o600)
				j := mustOpen(t, dir, Default())
				put(t, j, "later")
				_ = j.Close()
			}
			flipped := slices.Clone(whole)
			flipped[at] ^= 1 << (at % 8)
			if err := os.WriteFile(path, flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpen(t, dir, Default())
			put(t, j, "end")
			got := get(t, j)
			for _, v := range got {
				if v != "later" && v != "end" && !slices.Contains(values, v) {
					t.Fatalf("bit %d of byte %d: invented %q", at%8, at, v)
				}
			}
			want := len(values) + 1
			if !newest {
				want++
			}
			st := j.Status()
			switch lost := want - len(got); {
			case lost < 0 || lost > 1 || !slices.Contains(got, "end"):
				t.Fatalf("byte %d: read %d of %d: %q", at, len(got), want, got)
			case lost == 1 && len(st.SetAside) == 0 && (!newest || slices.Contains(got, values[11])):
				t.Fatalf("byte %d: a lost record is not in the status", at)
			}
			for _, a := range st.SetAside {
				if b, err := os.ReadFile(filepath.Join(dir, a.File)); err != nil || int64(len(b)) != a.Bytes {
					t.Fatalf("byte %d: copy of %+v: %d bytes, %v", at, a, len(b), err)
				}
			}
			again := len(st.SetAside)
			_ = j.Close()
			j = mustOpen(t, dir, Default())
			get(t, j)
			if n := len(j.Status().SetAside); n != again {
				t.Fatalf("byte %d: %d ranges set aside, %d after reopening", at, again, n)
			}
			_ = j.Close()
		}
	}
}

func TestDamagedRangeOfManyRecords(t *testing.T) {
	t.Parallel()
	dir, segment := closedJournal(t, numbers(0, 300)...)
	whole, _ := os.ReadFile(segment)
	copy(whole[4000:9000], bytes.Repeat([]byte{0xa5}, 5000))
	_ = os.WriteFile(segment, whole, 0o600)
	j := mustOpen(t, dir, Default())
	got := get(t, j)
	if len(got) < 190 || got[0] != "value-00000" || got[len(got)-1] != "value-00299" {
		t.Fatalf("read %d records", len(got))
	}
	if st := j.Status(); len(st.SetAside) != 1 || st.SetAside[0].Bytes < 5000 {
		t.Fatalf("set aside %+v", st.SetAside)
	}
}

func TestMissingSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := small()
	cfg.SegmentBytes = 4 * kib
	j := mustOpen(t, dir, cfg)
	put(t, j, numbers(0, 500)...)
	if err := os.Remove(j.segments[1].path); err != nil { // under the running journal
		t.Fatal(err)
	}
	got := get(t, j)
	if len(got) < 300 || len(got) >= 500 || got[len(got)-1] != "value-00499" {
		t.Fatalf("read %d records", len(got))
	}
	if st := j.Status(); len(st.SetAside) != 1 {
		t.Fatalf("set aside %+v", st.SetAside)
	}
	_ = j.Close()
	j = mustOpen(t, dir, cfg)
	if again := get(t, j); !slices.Equal(again, got) {
		t.Fatalf("read %d records after reopening, %d before", len(again), len(got))
	}
}

func TestNumbersAreNeverReused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := mustOpen(t, dir, Default(), "g")
	put(t, j, numbers(0, 10)...)
	sub, err := j.Subscribe(t.Context(), "g", nil, bus.Start{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Ack(t.Context(), bus.Batch{Partition: Partition, Last: j.Head()[Partition]}); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	for _, f := range files { // an operator deleted the log but not the positions
		_ = os.Remove(f)
	}
	j = mustOpen(t, dir, Default(), "g")
	put(t, j, "new")
	sub, err = j.Subscribe(t.Context(), "g", nil, bus.Start{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Messages) > 0 {
			if string(b.Messages[0].Value) != "new" {
				t.Fatalf("read %q", b.Messages[0].Value)
			}
			break
		}
	}
	stale := bus.Start{Kind: bus.StartPositions, Positions: bus.Positions{Partition: formatPosition(1e6)}}
	ahead, err := j.Subscribe(t.Context(), "", nil, stale)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ahead.Next(t.Context()); err != nil { // the notice
		t.Fatal(err)
	}
	if b, err := ahead.Next(t.Context()); err != nil || len(b.Messages) != 1 {
		t.Fatalf("a position of another journal hides records: %v %v", b, err)
	}
}

func TestLostPositionFile(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"empty": "", "garbage": "furrow-position 1 00000000000000000009 deadbeef\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := closedJournal(t, "a")
			if err := os.WriteFile(filepath.Join(dir, groupsDir, "g"+groupSuffix), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			j := mustOpen(t, dir, Default(), "g")
			if g := j.Status().Groups[0]; g.Position != formatPosition(0) || g.LagRecords != 1 {
				t.Fatalf("group %+v", g)
			}
		})
	}
}

func TestLockDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = LockDir(dir)
	want := fmt.Sprintf("data folder %s is in use by another furrow (pid %d); stop it or choose another --data-dir", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = LockDir(dir); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	j := mustOpen(t, t.TempDir(), Default())
	bad := []bus.Message{
		{Value: []byte("no stream")},
		{Stream: bus.Stream(strings.Repeat("s", 256))},
		{Stream: bus.Raw, Key: make([]byte, maxKey+1)},
		{Stream: bus.Raw, Value: make([]byte, 8*mib)},
	}
	for i, m := range bad {
		if err := j.Publish(t.Context(), m); !errors.Is(err, errMessage) || errors.Is(err, bus.ErrFull) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	large := bus.Message{Stream: "own-stream", Value: make([]byte, 8*mib-100)}
	if err := j.Publish(t.Context(), large, large, text("x")); err != nil {
		t.Fatalf("a call larger than the buffer: %v", err)
	}
	if got := get(t, j); len(got) != 3 || len(got[1]) != 8*mib-100 {
		t.Fatalf("read %d messages", len(got))
	}
}
