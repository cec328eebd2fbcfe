package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// request makes the bytes of a POST to the collector.
func request(body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: collector.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36\r\nContent-Type: application/json; charset=UTF-8\r\nOrigin: http://shop.example.com\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nContent-Length: %d\r\n\r\n%s", tp2Path, len(body), body)
}

const tp2Path = "/com.snowplowanalytics.snowplow/tp2"

// event is one page view of a product as a web tracker sends it, about 1 KB.
func event(n int64, session, item int) string {
	return fmt.Sprintf(`{"e":"pv","url":"http://shop.example.com/product/%d?ref=list","page":"Product %d","refr":"http://shop.example.com/list","eid":"%s","tv":"js-4.10.1","tna":"sp","aid":"shop","p":"web","cookie":"1","cs":"UTF-8","lang":"en-US","res":"1280x720","cd":"24","tz":"Europe/Prague","dtm":"%d","cx":"eyJzY2hlbWEiOiJpZ2x1OmNvbS5zbm93cGxvd2FuYWx5dGljcy5zbm93cGxvdy9jb250ZXh0cy9qc29uc2NoZW1hLzEtMC0wIiwiZGF0YSI6W3sic2NoZW1hIjoiaWdsdTpjb20uc25vd3Bsb3dhbmFseXRpY3Muc25vd3Bsb3cvd2ViX3BhZ2UvanNvbnNjaGVtYS8xLTAtMCIsImRhdGEiOnsiaWQiOiJjMzliN2VlNi04YzA5LTQ3NDctOTQ3Yy1kNzI2YzVhNmE4NzYifX1dfQ","vp":"1280x720","ds":"2608x3205","vid":"1","sid":"%s","duid":"%s","stm":"%d"}`,
		item, item, uuid(1, n), time.Now().UnixMilli(), uuid(2, int64(session)), uuid(3, int64(session)), time.Now().UnixMilli())
}

func uuid(kind, n int64) string {
	// Spread over the whole range, as random identifiers are.
	h := uint64(n)*0x9e3779b97f4a7c15 ^ uint64(kind)<<56
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(h>>32), uint16(h>>16), h&0xfff, uint64(n)>>48&0xfff, uint64(n)&0xffffffffffff)
}

func payload(events ...string) string {
	return `{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[` + strings.Join(events, ",") + `]}`
}

// result is what a load run found.
type result struct {
	answered  int64
	refused   int64
	elapsed   time.Duration
	latencies []time.Duration // sorted
}

func (r result) rate() float64 { return float64(r.answered) / r.elapsed.Seconds() }

func (r result) quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// closedLoop keeps a number of connections busy for a time: each sends its next
// request when the last was answered. It ends before its time when next gives nil.
func closedLoop(address string, connections int, d time.Duration, next func() []byte) (result, error) {
	var r result
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed atomic.Value
	begun := time.Now()
	for range connections {
		wg.Go(func() {
			own, err := drive(address, begun.Add(d), next)
			if err != nil {
				failed.Store(err)
			}
			mu.Lock()
			defer mu.Unlock()
			r.answered += own.answered
			r.refused += own.refused
			r.latencies = append(r.latencies, own.latencies...)
		})
	}
	wg.Wait()
	r.elapsed = time.Since(begun)
	slices.Sort(r.latencies)
	if err, ok := failed.Load().(error); ok {
		return r, err
	}
	return r, nil
}

func drive(address string, until time.Time, next func() []byte) (result, error) {
	var r result
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 8<<10)
	for time.Now().Before(until) {
		request := next()
		if request == nil {
			break
		}
		sent := time.Now()
		status, err := exchange(conn, answers, request)
		if err != nil {
			return r, err
		}
		if status == 200 {
			r.answered++
		} else {
			r.refused++
		}
		r.latencies = append(r.latencies, time.Since(sent))
	}
	return r, nil
}

// exchange sends a request and reads its answer: just enough of HTTP/1.1 not to be
// the bottleneck.
func exchange(conn net.Conn, answers *bufio.Reader, request []byte) (status int, err error) {
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if first {
			if len(line) < 12 {
				return 0, errors.New("not an HTTP answer")
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
			continue
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := strings.CutPrefix(strings.ToLower(string(line)), "content-length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
	_, err = io.CopyN(io.Discard, answers, int64(length))
	return status, err
}
