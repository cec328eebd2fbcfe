package main

import (
	"fmt"
	"sync/atomic"
	"time"
)

// measureGrowth fills one furrow to ten million events over HTTP, and reports what an
// event costs over all roles when so many are stored: processor time of the process,
// and wall time, which is that of the slowest consumer. It takes some 20 GB and a
// quarter of an hour, so it runs only when it is asked for by name.
func measureGrowth() ([]row, error) {
	s, err := startFurrow(false)
	if err != nil {
		return nil, err
	}
	var rows []row
	var n atomic.Int64
	first := 0.0
	for _, goal := range []int64{100_000, 1_000_000, 10_000_000} {
		if err := fill(s, &n, goal*9/10); err != nil {
			return rows, err
		}
		from, began, cpu := n.Load(), time.Now(), s.cpu()
		if err := fill(s, &n, goal); err != nil {
			return rows, err
		}
		events := float64(n.Load() - from)
		each := float64((s.cpu() - cpu).Microseconds()) / events
		wall := float64(time.Since(began).Microseconds()) / events
		if first == 0 {
			first = each
		}
		rows = append(rows, row{
			fmt.Sprintf("CPU an event over all roles, %d events stored", n.Load()), fmt.Sprintf("%.0f µs, %.0f µs of wall time with the generator", each, wall),
			fmt.Sprintf("100,000 events: **%.2f×**", each/first), "≤ 1.5×",
		})
	}
	return rows, s.stop()
}

// fill sends events until so many were sent, in pieces that are recorded before the
// next is sent.
func fill(s *server, n *atomic.Int64, goal int64) error {
	const connections, each, piece = 4, 10, 100_000
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n.Load() < goal {
		until := min(goal, n.Load()+piece)
		_, err := closedLoop(s.public, connections, time.Hour, func() []byte {
			if n.Load() >= until {
				return nil
			}
			batch := make([]string, each)
			for i := range batch {
				at := n.Add(1)
				batch[i] = event(at, int(at%sessions), int(at%items))
			}
			return request(payload(batch...))
		})
		if err != nil {
			return err
		}
		for worstRecords(s) > 0 {
			<-tick.C
		}
	}
	return nil
}
