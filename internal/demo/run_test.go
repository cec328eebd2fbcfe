package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The parameters of payload_data 1-0-4; the schema allows no other.
var allowed = strings.Fields(`tna aid p dtm tz e tid eid tv duid nuid uid vid ip res url page refr fp ctype cookie lang
	f_pdf f_qt f_realp f_wma f_dir f_fla f_java f_gears f_ag cd ds cs vp mac pp_mix pp_max pp_miy pp_may
	ad_ba ad_ca ad_ad ad_uid tr_id tr_af tr_tt tr_tx tr_sh tr_ci tr_st tr_co tr_cu ti_id ti_sk ti_nm ti_na ti_ca ti_pr ti_qu ti_cu
	sa sn st sp se_ca se_ac se_la se_pr se_va ue_na ue_pr ue_px co cx ua tnuid stm sid ttm`)

var uuidV4 = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// collector answers as told and remembers what it took.
type collector struct {
	mu     sync.Mutex
	answer func(n int) (status int, header http.Header, err error)
	posts  []time.Time
	bodies [][]byte
	reqs   []*http.Request
}

func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.posts = append(c.posts, time.Now())
	c.bodies = append(c.bodies, body)
	c.reqs = append(c.reqs, r)
	status, header, err := 200, http.Header{}, error(nil)
	if c.answer != nil {
		status, header, err = c.answer(len(c.posts))
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: header, Body: io.NopCloser(bytes.NewReader([]byte("ok"))), Request: r}, nil
}

type post struct {
	Schema string
	Data   []map[string]string
}

// opened is a shop that tests share: reading the data set takes a while.
var opened = sync.OnceValue(func() *Demo {
	d, err := New(Default(), Options{Pages: pages(), CollectorURL: "http://127.0.0.1:8080", ShopURL: "http://127.0.0.1:8082"})
	if err != nil {
		panic(err)
	}
	return d
})

// run lets visitors into the shop for a while of fake time.
func run(t *testing.T, cfg Config, c *collector, length time.Duration) {
	t.Helper()
	d := *opened()
	d.cfg, d.client = cfg, &http.Client{Transport: c}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	if err := d.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestVisitorsSpeakTheProtocol(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &collector{answer: func(int) (int, http.Header, error) {
			return 200, http.Header{"Set-Cookie": {"sp=0f1e; Path=/"}}, nil
		}}
		run(t, Default(), c, 40*time.Second)
		eids, duids, sids, kinds, cookies := map[string]bool{}, map[string]bool{}, map[string]string{}, map[string]int{}, 0
		for i, body := range c.bodies {
			var p post
			if err := json.Unmarshal(body, &p); err != nil {
				t.Fatal(err)
			}
			if p.Schema != "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4" || len(p.Data) == 0 {
				t.Fatalf("envelope %s with %d events", p.Schema, len(p.Data))
			}
			r := c.reqs[i]
			if r.URL.String() != "http://127.0.0.1:8080/com.snowplowanalytics.snowplow/tp2" || !strings.Contains(r.UserAgent(), "Mozilla/5.0") {
				t.Fatalf("%s from %s", r.URL, r.UserAgent())
			}
			if _, err := r.Cookie("sp"); err == nil {
				cookies++
			}
			for _, e := range p.Data {
				for k, v := range e {
					if !slices.Contains(allowed, k) || v == "" {
						t.Fatalf("parameter %s=%q", k, v)
					}
				}
				for _, k := range []string{"e", "p", "tv", "dtm", "stm", "url"} {
					if e[k] == "" {
						t.Fatalf("no %s in %v", k, e)
					}
				}
				if eids[e["eid"]] || !uuidV4.MatchString(e["eid"]) {
					t.Fatalf("event id %q is no new UUID", e["eid"])
				}
				eids[e["eid"]], duids[e["duid"]] = true, true
				if was, ok := sids[e["sid"]]; ok && was != e["duid"] {
					t.Fatalf("session %s has two visitors", e["sid"])
				}
				sids[e["sid"]] = e["duid"]
				kinds[kind(t, e)]++
			}
		}
		if len(sids) <= len(duids) {
			t.Errorf("%d sessions of %d visitors: nobody came back", len(sids), len(duids))
		}
		if cookies < len(c.bodies)/2 {
			t.Errorf("only %d of %d requests bring the collector's cookie back", cookies, len(c.bodies))
		}
		for _, k := range []string{"pv", "product_view", "add_to_cart", "transaction"} {
			if kinds[k] == 0 {
				t.Errorf("no %s among %v", k, kinds)
			}
		}
		// 25 s of warm-up at 300/s, then 10/s.
		if n := len(eids); n < 7500 || n > 7800 {
			t.Errorf("%d events in 40 s, want about 7650", n)
		}
	})
}

// kind names an event and checks that an action carries its entities.
func kind(t *testing.T, e map[string]string) string {
	t.Helper()
	if e["e"] != "ue" {
		return e["e"]
	}
	var ue struct {
		Data struct {
			Data struct {
				Type string
			}
		}
	}
	var co struct {
		Data []struct {
			Schema string
			Data   map[string]any
		}
	}
	if err := errors.Join(json.Unmarshal([]byte(e["ue_pr"]), &ue), json.Unmarshal([]byte(e["co"]), &co)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range co.Data {
		name := strings.Split(c.Schema, "/")[1]
		names = append(names, name)
		if name == "product" && (c.Data["id"] == "" || c.Data["category"] == "" || c.Data["price"] == nil || c.Data["currency"] != "EUR") {
			t.Fatalf("product %v", c.Data)
		}
	}
	want := map[string][]string{
		"product_view": {"product", "web_page"}, "add_to_cart": {"product", "cart", "web_page"}, "transaction": {"transaction", "product", "web_page"},
	}[ue.Data.Data.Type]
	for _, w := range want {
		if !slices.Contains(names, w) {
			t.Fatalf("%s with %v lacks %s", ue.Data.Data.Type, names, w)
		}
	}
	return ue.Data.Data.Type
}

func TestVisitorsWaitForACollectorThatIsAway(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func() (int, http.Header, error){
		"503":             func() (int, http.Header, error) { return 503, http.Header{"Retry-After": {"20"}}, nil },
		"connection":      func() (int, http.Header, error) { return 0, nil, errors.New("connection refused") },
		"too many":        func() (int, http.Header, error) { return 429, http.Header{}, nil },
		"odd Retry-After": func() (int, http.Header, error) { return 503, http.Header{"Retry-After": {"999999999999"}}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var back time.Time
				c := &collector{answer: func(int) (int, http.Header, error) {
					if time.Since(start) < 2*time.Minute {
						return answer()
					}
					if back.IsZero() {
						back = time.Now()
					}
					return 200, http.Header{}, nil
				}}
				cfg := Default()
				cfg.Visitors = 1
				run(t, cfg, c, 4*time.Minute)
				away := 0
				for _, at := range c.posts {
					if at.Sub(start) < 2*time.Minute {
						away++
					}
				}
				if away < 3 || away > 20 {
					t.Errorf("%d requests in two minutes of absence", away)
				}
				if len(c.posts)-away < 100 {
					t.Errorf("%d requests after the collector came back", len(c.posts)-away)
				}
				first, after := post{}, post{}
				if err := errors.Join(json.Unmarshal(c.bodies[0], &first), json.Unmarshal(c.bodies[away], &after)); err != nil {
					t.Fatal(err)
				}
				if first.Data[0]["eid"] != after.Data[0]["eid"] || first.Data[0]["dtm"] != after.Data[0]["dtm"] {
					t.Error("the events tried first are not the events delivered first")
				}
			})
		})
	}
}

func TestRefusedEventsAreNotSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &collector{answer: func(int) (int, http.Header, error) { return 404, http.Header{}, nil }}
		cfg := Default()
		cfg.Visitors = 1
		run(t, cfg, c, 5*time.Second)
		if len(c.bodies) < 10 || bytes.Equal(c.bodies[0], c.bodies[1]) {
			t.Errorf("%d requests, the first two alike: %v", len(c.bodies), bytes.Equal(c.bodies[0], c.bodies[1]))
		}
	})
}

func TestNoVisitorsStillRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := Default()
		cfg.Visitors = 0
		c := &collector{}
		start := time.Now()
		run(t, cfg, c, time.Minute)
		if len(c.posts) != 0 || time.Since(start) < time.Minute {
			t.Errorf("%d requests in %s", len(c.posts), time.Since(start))
		}
	})
}
