package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sessions is how many visitors a paced load has, items how many products.
const (
	sessions = 20_000
	items    = 5_000
)

// paced sends requests at a fixed rate whatever the answers, over as many
// connections as it takes: n counts the events answered 200, late those requests
// that left more than 100 ms after their time.
func paced(s *server, perSecond, eventsEach, seconds int, n, late *atomic.Int64) error {
	const connections = 32
	var wg sync.WaitGroup
	errs := make(chan error, connections)
	begun := time.Now()
	interval := time.Second * connections / time.Duration(perSecond)
	for c := range connections {
		wg.Go(func() {
			if err := pacedConnection(s, begun.Add(interval*time.Duration(c)/connections), interval, begun.Add(time.Duration(seconds)*time.Second), eventsEach, n, late); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func pacedConnection(s *server, due time.Time, interval time.Duration, until time.Time, eventsEach int, n, late *atomic.Int64) error {
	conn, err := net.Dial("tcp", s.public)
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 8<<10)
	for ; due.Before(until); due = due.Add(interval) {
		<-time.After(time.Until(due))
		if time.Since(due) > 100*time.Millisecond {
			late.Add(1)
		}
		session := rand.IntN(sessions)
		events := make([]string, eventsEach)
		for i := range events {
			events[i] = event(rand.Int64(), session, (session*7+rand.IntN(50))%items)
		}
		status, err := exchange(conn, answers, request(payload(events...)))
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("answered %d", status)
		}
		n.Add(int64(eventsEach))
	}
	return nil
}
