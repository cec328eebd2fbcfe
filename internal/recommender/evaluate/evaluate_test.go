package evaluate

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFigures wants the figures that were published for Serenade's example data,
// or measured there by another implementation.
func TestFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, algorithm string
		params          map[string]string
		hr, mrr, ndcg   float64
	}{
		// The README of Serenade says .6402 and .3277 for this configuration.
		{"shipped", "vmis", map[string]string{"m": "500", "k": "50", "last": "2", "idf": "1"}, .6402, .3260, .3545},
		{"defaults are the shipped ones", "vmis", nil, .6402, .3260, .3545},
		{"tuned", "vmis", map[string]string{"m": "1502", "k": "288", "last": "4", "idf": "1"}, .6638, .3379, .3713},
		{"vstan", "vstan", map[string]string{"m": "2500", "k": "500", "l1": "1.25", "l2": "20", "l3": "4", "l4": "2", "idf": "2", "current": "0"}, .6681, .3494, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := Run(t.Context(), Options{TrainFile: trainFile, TestFile: testFile, Algorithm: c.algorithm, Params: c.params})
			if err != nil {
				t.Fatal(err)
			}
			if r.Predictions != 931 {
				t.Errorf("%d predictions, want 931", r.Predictions)
			}
			for _, f := range []struct {
				name      string
				got, want float64
			}{{"HR", r.HR20, c.hr}, {"MRR", r.MRR20, c.mrr}, {"NDCG", r.NDCG, c.ndcg}} {
				if f.want != 0 && math.Abs(f.got-f.want) > 0.00006 {
					t.Errorf("%s is %.4f, want %.4f", f.name, f.got, f.want)
				}
			}
		})
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("SessionId\tItemId\tTime\n"+body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var calls, last int
	opt := Options{
		TrainFile: write("train.tsv", "1\t10\t1\n1\tcup\t2\n2\t10\t3\n2\tcup\t4\n2\t7\t5\n3\t8\t9\n3\t9\t10\n"),
		TestFile:  write("test.tsv", "5\t10\t20\n5\tcup\t21\n5\t7\t22\nx\tnew\t30\nx\t10\t31\n"),
		Algorithm: "vsknn", Params: map[string]string{"idf": "0"},
		ListsFile: filepath.Join(dir, "lists.jsonl"),
		Progress:  func(_, total int) { calls++; last = total },
	}
	r, err := Run(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if r.Predictions != 3 || calls != 3 || last != 3 {
		t.Errorf("%d predictions, %d calls, total %d, want 3 each", r.Predictions, calls, last)
	}
	f, err := os.Open(opt.ListsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
	}
	want := []string{
		`{"session":5,"position":1,"items":[[10,2],["cup",2],[7,1]]}`,
		`{"session":5,"position":2,"items":[[10,1.5],["cup",1.5],[7,0.75]]}`,
		`{"session":"x","position":1,"items":[]}`,
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("lists\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"hr20":`) || !strings.Contains(string(b), `"weight":"div"`) {
		t.Errorf("report %s, %v", b, err)
	}
}

func TestBadParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		algorithm, key, value, want string
	}{
		{"gru4rec", "", "", `algorithm "gru4rec" is unknown`},
		{"vmis", "mm", "3", "parameter mm: unknown to vmis"},
		{"vmis", "weight", "div", "parameter weight: unknown to vmis"},
		{"vmis", "m", "many", `parameter m: "many" is not a whole number`},
		{"vmis", "k", "0", "parameter k:"},
		{"vmis", "idf", "NaN", "parameter idf:"},
		{"vsknn", "weight", "cubic", `parameter weight: "cubic" is no weighting`},
		{"vsknn", "cosine", "perhaps", "parameter cosine:"},
	} {
		params := map[string]string{}
		if c.key != "" {
			params[c.key] = c.value
		}
		_, err := Run(t.Context(), Options{TrainFile: trainFile, TestFile: testFile, Algorithm: c.algorithm, Params: params})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s=%s: %v, want %q", c.algorithm, c.key, c.value, err, c.want)
		}
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ body, want string }{
		{"", "no clicks"},
		{"SessionId\tItemId\tTime\n", "no clicks"},
		{"SessionId,ItemId,Time\n1,2,3\n", "no column SessionId"},
		{"SessionId\tItemId\tTime\n1\t2\n", "line 2: 2 fields, want 3"},
		{"SessionId\tItemId\tTime\n1\t2\tnoon\n", `line 2: time "noon"`},
		{"SessionId\tItemId\tTime\n1\t\t5\n", "line 2: SessionId and ItemId"},
		{"\x1f\x8bxx", "gzip"},
	} {
		if _, err := Read(strings.NewReader(c.body)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.body, err, c.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("SessionId\tItemId\tTime\n1\t2\t3\n1\t4\t2.5\n")
	f.Add("Time\tItemId\tSessionId\r\n1e9\ta\tb\r\n")
	f.Add("\x1f\x8b\x08")
	f.Fuzz(func(t *testing.T, body string) {
		sessions, err := Read(strings.NewReader(body))
		if err != nil {
			return
		}
		for _, s := range sessions {
			for i, c := range s.Clicks {
				if c.Item == "" || i > 0 && c.Time < s.Clicks[i-1].Time {
					t.Fatalf("session %q holds %+v", s.ID, s.Clicks)
				}
			}
		}
	})
}

func TestOtherSpellings(t *testing.T) {
	t.Parallel()
	want, err := parse("vsknn", map[string]string{"last": "7", "idf": "3"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse("vsknn", map[string]string{"lastN": "7", "lambda": "3"})
	if err != nil || got != want {
		t.Errorf("lastN and lambda gave %+v, %v", got, err)
	}
}
