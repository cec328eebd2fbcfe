package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"furrow/internal/bus"

	"github.com/prometheus/client_golang/prometheus"
)

// Partition is the name of the journal's only partition.
const Partition = "0"

// Journal is an open journal. Its methods are safe for concurrent use.
type Journal struct {
	dir     string
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	hooks   hooks

	queue   queue
	commits notifier      // tells readers that the durable head moved
	aged    chan struct{} // asks the flusher to end a segment that is old enough
	closing chan struct{} // closed when Close begins
	workers sync.WaitGroup
	once    sync.Once
	closeFn error

	head    atomic.Uint64          // last durable sequence number
	unready atomic.Pointer[reason] // nil when publishing works

	// Only the flusher uses these after Open.
	active   *segment // nil after a failure, until a new segment could be made
	file     segmentFile
	reserved int64  // up to here the active segment holds zeros or records
	next     uint64 // sequence number of the next record
	space    spaceGauge
	retryAt  time.Time

	saving sync.Mutex // held while files of groups change; taken before mu

	mu            sync.Mutex
	segments      []*segment // oldest first, the active one last
	bytes         int64      // of all segments
	groups        map[string]*group
	subs          map[*subscription]struct{}
	setAside      []SetAside
	setAsideBytes int64

	// Only Open uses these.
	later *header
	stale []string
	found []damage
}

// hooks are what tests replace.
type hooks struct {
	disk disk
	now  func() time.Time
}

type reason struct{ err error }

// Open opens the journal in dir, makes it if need be, and recovers it from a
// crash. groups are the registered groups: segments wait for them. It starts the
// journal's two goroutines, which Close ends. reg and log may be nil.
//
// The folder must belong to the caller alone; see LockDir.
func Open(dir string, cfg Config, groups []string, reg prometheus.Registerer, log *slog.Logger) (*Journal, error) {
	return open(dir, cfg, groups, reg, log, hooks{disk: osDisk{}, now: time.Now})
}

func open(dir string, cfg Config, groups []string, reg prometheus.Registerer, log *slog.Logger, h hooks) (*Journal, error) {
	var rules []error
	cfg.Validate(func(key, rule string) { rules = append(rules, fmt.Errorf("journal: %s %s", key, rule)) })
	if err := errors.Join(rules...); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{
		dir: dir, cfg: cfg, log: log, hooks: h,
		aged:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		groups:  map[string]*group{},
		subs:    map[*subscription]struct{}{},
	}
	j.metrics = newMetrics(j)
	j.queue.init(cfg.WaitingBytes)
	if err := j.load(); err != nil {
		return nil, err
	}
	if err := j.loadGroups(groups); err != nil {
		return nil, err
	}
	err := j.begin()
	if err == nil {
		err = j.metrics.register(reg)
	}
	if err != nil {
		if j.file != nil {
			_ = j.file.Close()
		}
		return nil, err
	}
	j.workers.Go(j.flusher)
	j.workers.Go(j.keeper)
	return j, nil
}

// begin makes the segment that this run appends to. A run never appends to a
// segment of an earlier one.
func (j *Journal) begin() error {
	for _, g := range j.groups { // numbers that a group has seen are never given again
		j.next = max(j.next, g.acked+1)
	}
	if err := j.roll(); err != nil {
		return err
	}
	if err := j.removeStale(); err != nil {
		return err
	}
	for _, dir := range []string{j.dir, filepath.Dir(filepath.Clean(j.dir))} {
		if err := j.hooks.disk.syncDir(dir); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// Close stores what was handed to Publish, writes the groups' positions and
// ends every subscription. Publish, Subscribe and Next return bus.ErrClosed
// from then on.
func (j *Journal) Close() error {
	j.once.Do(func() {
		j.queue.close()
		close(j.closing)
		j.workers.Wait()
		for _, sub := range j.subscriptions() {
			_ = sub.Close()
		}
		err := j.savePositions()
		if j.file != nil {
			// Cutting off the reserve is best effort: opening does it too.
			_ = j.file.Truncate(j.active.extent.Load().end)
			err = errors.Join(err, j.file.Close())
		}
		j.metrics.unregister()
		j.closeFn = err
	})
	return j.closeFn
}

// Head returns the last durable position. Before the first message it lies
// before every message.
func (j *Journal) Head() bus.Positions {
	return bus.Positions{Partition: formatPosition(j.head.Load())}
}

// Ready returns nil while publishing works, else why it does not: an error that
// is bus.ErrFull when a limit binds, or the failure of the disk. The journal
// tries again by itself.
func (j *Journal) Ready() error {
	select {
	case <-j.closing:
		return bus.ErrClosed
	default:
	}
	if r := j.unready.Load(); r != nil {
		return r.err
	}
	return nil
}

// setReady notes why publishing does not work, or nil that it does.
func (j *Journal) setReady(err error) {
	old := j.unready.Load()
	if err == nil {
		if old != nil {
			j.log.Info("journal: accepting messages again")
			j.unready.Store(nil)
		}
		return
	}
	if old == nil || errors.Is(old.err, bus.ErrFull) != errors.Is(err, bus.ErrFull) {
		j.log.Error("journal: not accepting messages", slog.Any("error", err))
	}
	j.unready.Store(&reason{err})
}

// notifier wakes everyone who waits.
type notifier struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that the next notify closes.
func (n *notifier) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *notifier) notify() {
	n.mu.Lock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
	n.mu.Unlock()
}

// removeFile deletes a file that may be gone already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
