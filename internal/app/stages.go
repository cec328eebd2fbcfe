package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"furrow/internal/bus"
	"furrow/internal/bus/journal"
	"furrow/internal/inspector"
	"furrow/internal/recorder"
)

// journalStage shows the journal, and what was set aside because it was damaged.
func journalStage(j journal.Status, ready error) inspector.Stage {
	stage := inspector.Stage{
		Name: "journal", Kind: inspector.KindJournal, Ready: ready == nil,
		Counters: []inspector.Counter{{Name: "records", Value: behind(j.Head, "")}},
		Details: []inspector.Detail{
			{Name: "size", Value: fmt.Sprintf("%s of %s in %d segments", megabytes(j.Bytes), megabytes(j.MaxBytes), j.Segments)},
		},
	}
	if ready != nil {
		stage.Reason = ready.Error()
	}
	for _, s := range j.SetAside {
		stage.Details = append(stage.Details, inspector.Detail{
			Name:  "set_aside",
			Value: fmt.Sprintf("%d damaged bytes of segment %s at %d are kept in %s", s.Bytes, s.Segment, s.Offset, s.File),
		})
	}
	for _, g := range j.Groups {
		if !g.Registered {
			stage.Details = append(stage.Details, inspector.Detail{
				Name:  "holds_segments",
				Value: fmt.Sprintf("group %s belongs to no role of this process and is %d records behind", g.Name, g.LagRecords),
			})
		}
	}
	return stage
}

// recorderStages shows the recorder's groups. The archive keeps a range open for
// minutes by design, so what stands in it does not count as lag.
func (a *App) recorderStages(j journal.Status) []inspector.Stage {
	var stages []inspector.Stage
	for _, g := range a.recorder.Status() {
		stage := inspector.Stage{Name: g.Group, Kind: inspector.KindStore, Ready: true, Counters: []inspector.Counter{
			{Name: "events", Value: g.Events}, {Name: "bad rows", Value: g.Bad}, {Name: "records", Value: g.Records},
		}}
		stage.LagRecords, stage.LagSeconds = lag(j, g.Group)
		if g.Group == recorder.GroupStore {
			stage.Counters = append(stage.Counters, inspector.Counter{Name: "doubles dropped", Value: g.Doubles})
		} else {
			stage.Kind = inspector.KindArchive
			for _, open := range a.archive.Status().Open {
				stage.LagRecords = max(0, stage.LagRecords-open.Records)
				stage.Details = append(stage.Details, inspector.Detail{
					Name: "open range", Value: fmt.Sprintf("%d records, %s, %s old", open.Records, megabytes(open.Bytes), open.Age.Round(time.Second)),
				})
			}
			if stage.LagRecords == 0 {
				stage.LagSeconds = 0
			}
		}
		if g.Paused != "" {
			stage.Ready, stage.Reason = false, "paused: "+g.Paused
		} else if g.Error != "" {
			stage.Ready, stage.Reason = false, g.Error
		}
		stages = append(stages, stage)
	}
	return stages
}

// recommenderStage shows the recommender. It acknowledges only what a snapshot
// holds, so its lag is what it has not applied.
func (a *App) recommenderStage(j journal.Status) inspector.Stage {
	st := a.recommender.Status()
	stage := inspector.Stage{
		Name: "recommender", Kind: inspector.KindRecommender, Ready: st.Ready, Reason: st.Reason,
		Counters: []inspector.Counter{
			{Name: "interactions", Value: st.Interactions}, {Name: "doubles dropped", Value: st.Doubles}, {Name: "robots ignored", Value: st.Robots},
		},
		LagRecords: behind(j.Head, st.Positions[journal.Partition]),
		Details: []inspector.Detail{
			{Name: "model", Value: st.Model},
			{Name: "index", Value: fmt.Sprintf("%d sessions, %d items, %s of at most %s", st.Sessions, st.Items, megabytes(st.IndexBytes), megabytes(st.BoundBytes))},
		},
	}
	if stage.LagRecords > 0 {
		stage.LagSeconds = float64(st.LagMillis) / 1000
	}
	if st.SnapshotError != "" {
		stage.Details = append(stage.Details, inspector.Detail{Name: "snapshot", Value: st.SnapshotError})
	}
	return stage
}

// behind counts the records between two positions of the journal, which are
// sequence numbers.
func behind(head, at bus.Position) int64 {
	h, err := strconv.ParseInt(string(head), 10, 64)
	if err != nil {
		return 0
	}
	p, err := strconv.ParseInt(string(at), 10, 64)
	if err != nil {
		p = 0
	}
	return max(0, h-p)
}

// lag finds how far a group is behind.
func lag(j journal.Status, group string) (records int64, seconds float64) {
	for _, g := range j.Groups {
		if g.Name == group {
			return g.LagRecords, g.LagSeconds
		}
	}
	return 0, 0
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// storages describes the database and the archive.
func (a *App) storages() (database, archived *inspector.Storage) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	database = &inspector.Storage{}
	if st, err := a.store.Status(ctx); err == nil {
		database.Path, database.Rows, database.BadRows, database.Bytes, database.BytesPerEvent = st.Path, st.Events, st.Bad, st.Bytes, float64(st.BytesPerEvent)
	}
	st := a.archive.Status()
	archived = &inspector.Storage{
		Path: a.archive.Place(), Rows: st.Rows["events"], BadRows: st.Rows["bad"], BytesPerEvent: st.BytesPerEvent,
	}
	for _, n := range st.Bytes {
		archived.Bytes += n
	}
	return database, archived
}

// diskStatus says what room there is and for how many days it lasts at the pace of
// this run.
func (a *App) diskStatus(database, archived *inspector.Storage) inspector.Disk {
	used, left := a.disk.room()
	status := inspector.Disk{UsedBytes: used, BudgetBytes: a.cfg.Disk.BudgetBytes, FreeBytes: left}
	if database == nil || archived == nil {
		return status
	}
	up := time.Since(a.started)
	var events float64
	for _, g := range a.recorder.Status() {
		if g.Group == recorder.GroupStore {
			events = float64(g.Events)
		}
	}
	perEvent := database.BytesPerEvent + archived.BytesPerEvent
	if up < minForecast || events == 0 || perEvent == 0 {
		return status
	}
	status.BytesPerDay = events * perEvent / up.Hours() * 24
	days := float64(left) / status.BytesPerDay
	status.DaysUntilFull = &days
	return status
}

// minForecast is how long a run must last before its pace says anything.
const minForecast = time.Minute

// retain applies the retention of database and archive until ctx ends.
func (a *App) retain(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	done := make(chan error, 1)
	go func() { done <- a.store.Run(ctx) }()
	for {
		select {
		case <-ctx.Done():
			return <-done
		case now := <-tick.C:
			if err := a.archive.Prune(ctx, now); err != nil && ctx.Err() == nil {
				a.log.Warn("archive could not be pruned; next try in a minute", "error", err)
			}
		}
	}
}
