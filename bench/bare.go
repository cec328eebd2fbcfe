package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// serveBare is the yardstick: net/http alone, reading the body into a pooled
// buffer and setting the headers that a collector sets, storing nothing.
func serveBare(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("collector http://%s\nReady in 0 ms\n", l.Addr())
	pool := sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf, ok := pool.Get().(*[]byte)
		if !ok {
			return
		}
		defer pool.Put(buf)
		for {
			if _, err := r.Body.Read(*buf); err == io.EOF {
				break
			} else if err != nil {
				return
			}
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Content-Type", "text/plain; charset=UTF-8")
		h.Set("P3P", `policyref="/w3c/p3p.xml", CP="NOI DSP COR NID PSA OUR IND COM NAV STA"`)
		h.Set("Set-Cookie", "sp=00000000-0000-4000-8000-000000000000; Expires=Wed, 01 Jan 2031 00:00:00 GMT; Path=/; Secure; HttpOnly; SameSite=None")
		io.WriteString(w, "ok")
	}))
}
