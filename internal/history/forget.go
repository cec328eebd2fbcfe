package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"furrow/internal/archive"
	"furrow/internal/store"
	"furrow/internal/tombstone"
)

// Tombstones remember whom consumers skip.
type Tombstones interface {
	// Add makes tombstones durable and puts them in force.
	Add(identifiers []string, until time.Time) ([]tombstone.Tombstone, error)
	Merge(stones []tombstone.Tombstone) error
	All() []tombstone.Tombstone
	// Covers says whether an event of the identifier collected then is skipped.
	Covers(identifier string, collected time.Time) bool
	// Event says whether an event with these identifiers is skipped.
	Event(userID, domainUserID, networkUserID string, collected time.Time) bool
}

// Cleaner takes people out of the archive.
type Cleaner interface {
	Forget(ctx context.Context, order archive.Forgetting, progress func(done, total int)) (archive.Forgotten, error)
	Buried(ctx context.Context) ([]tombstone.Tombstone, error)
	Bury(ctx context.Context, stones []tombstone.Tombstone) error
}

// ForgetSpec names people by exact identifiers: values of user_id, domain_userid or
// network_userid.
type ForgetSpec struct {
	Users   []string `json:"users"`             // at most 1,000
	Linked  bool     `json:"linked,omitempty"`  // the identifiers on the same events too, see Links
	Preview bool     `json:"preview,omitempty"` // only say what there is
}

// ForgetReport says what a person leaves behind, or, of a preview, what there is.
type ForgetReport struct {
	Preview bool      `json:"preview"`
	At      time.Time `json:"at,omitzero"` // events collected until then are forgotten: now, or later, see Forget
	// What the database knows of the people; of a preview, or where linked
	// identifiers were asked for.
	Person *store.Person `json:"person,omitempty"`
	Links  *Links        `json:"links,omitempty"`

	Identifiers int                `json:"identifiers"` // forgotten, linked ones included
	Tombstones  int                `json:"tombstones"`
	Database    *store.Forgotten   `json:"database,omitempty"` // what went; nil: this process has none, or it was not reached, see Failed
	Archive     *archive.Forgotten `json:"archive,omitempty"`
	Rebuilt     bool               `json:"rebuilt"` // the recommender learned anew
	Bus         *BusCopies         `json:"bus,omitempty"`
	// What could not be reached. When there is anything, the people are forgotten
	// only where they were reached, and the same command is to be run again.
	Failed   []Failure `json:"failed,omitempty"`
	Complete bool      `json:"complete"`
	Receipt  string    `json:"receipt,omitempty"` // the file that keeps this report without identifiers
}

// BusCopies says when the last copies of records on a bus are gone.
type BusCopies struct {
	What  string    `json:"what"`
	Last  time.Time `json:"last,omitzero"` // when Known
	Known bool      `json:"known"`
}

// Failure is a part that an operation did not reach.
type Failure struct {
	Where string `json:"where"` // database, archive, recommender, receipt, or what is on its way
	Error string `json:"error"`
}

// forgetState outlives a forgetting that ended early.
type forgetState struct {
	Relearn bool `json:"relearn"` // the recommender may have learned of people who are forgotten
}

// Limits of what is named at once.
const (
	maxForgotten  = 1000 // identifiers
	maxIdentifier = 4096 // bytes, far more than a field for them takes
)

// Forget forgets people. Tombstones are durable and in force before anything is
// taken out, so that nothing comes back however early this ends; it may be
// repeated, and Reconcile finishes what was not. A store that fails does not keep
// others from being cleaned; the report says what was not reached.
//
// Events that are collected later are new. Should the database have some that bear a
// time to come, later means after those.
func (h *History) Forget(ctx context.Context, spec ForgetSpec, progress Progress) (ForgetReport, error) {
	report := ForgetReport{Preview: spec.Preview}
	users, err := checkUsers(spec.Users)
	if err != nil {
		return report, err
	}
	if spec.Linked || spec.Preview {
		person, links, err := h.links(ctx, users)
		if err != nil {
			return report, err
		}
		report.Person, report.Links = &person, &links
	}
	if spec.Preview {
		report.Identifiers = len(users)
		report.Complete = true
		return report, nil
	}
	if spec.Linked && report.Links.Cut {
		// Without the named events nothing would tell the others any more.
		return report, fmt.Errorf("history: %d other identifiers or more stand on the same events, too many to tell whose they are: see them in a preview, and name those you mean", maxLinked)
	}
	if spec.Linked {
		for _, link := range report.Links.Taken {
			users = append(users, link.Value)
		}
		slices.Sort(users)
		users = slices.Compact(users)
	}
	if h.opts.Tombstones == nil {
		return report, errors.New("history: this process keeps no tombstones")
	}
	report.Identifiers = len(users)
	return h.forget(ctx, users, report, progress)
}

// until is the time until which events are forgotten: now, or when the newest one
// was collected if that is later. The collector's clock may have been ahead, and what
// was imported may bear any time.
func (h *History) until(ctx context.Context, users []string) time.Time {
	at := h.opts.Now().UTC().Truncate(time.Millisecond)
	if h.opts.Database == nil {
		return at
	}
	person, err := h.opts.Database.Person(ctx, users)
	if err == nil && person.Last.After(at) { // a database that is away is told of later
		return person.Last.UTC()
	}
	return at
}

func checkUsers(named []string) ([]string, error) {
	users := slices.Clone(named)
	slices.Sort(users)
	users = slices.Compact(users)
	switch {
	case len(users) == 0:
		return nil, errors.New("history: name at least one user to forget")
	case len(users) > maxForgotten:
		return nil, fmt.Errorf("history: %d users are named; forget at most %d at once", len(users), maxForgotten)
	case users[0] == "":
		return nil, errors.New("history: an empty identifier names nobody")
	case slices.ContainsFunc(users, func(id string) bool { return len(id) > maxIdentifier }):
		return nil, fmt.Errorf("history: an identifier has at most %d bytes, and a longer one is named", maxIdentifier)
	case slices.Contains(users, nobody):
		return nil, fmt.Errorf("history: %s is the network_userid of everyone who is anonymous and names nobody", nobody)
	}
	return users, nil
}

// forget does the work, in the order in which a crash between any two steps leaves
// nothing that comes back.
func (h *History) forget(ctx context.Context, users []string, report ForgetReport, progress Progress) (ForgetReport, error) {
	job, err := h.beginForgetting()
	if err != nil {
		return report, err
	}
	defer job.end()
	if h.opts.Rebuild != nil {
		if err := job.save(forgetState{Relearn: true}); err != nil {
			return report, err
		}
	}
	report.At = h.until(ctx, users)
	stones, err := h.opts.Tombstones.Add(users, report.At)
	if err != nil {
		return report, fmt.Errorf("history: keep the tombstones: %w; nothing is forgotten, run it again", err)
	}
	report.Tombstones = len(stones)
	progress.report("waiting for what is on its way", 0, 0)
	sweep := &sweep{h: h, named: users, until: report.At, progress: progress}
	unsettled := h.settled(ctx)
	if ctx.Err() != nil {
		return report, fmt.Errorf("history: wait for what is on its way into the stores: %w; the tombstones stand, run it again", unsettled)
	}
	sweep.unsettled = unsettled != nil
	report.Database, report.Archive, report.Failed = sweep.stores(ctx)
	if unsettled != nil {
		report.Failed = append(report.Failed, Failure{"what is on its way into the stores", unsettled.Error()})
	}
	if err := h.relearn(ctx, job, progress); err != nil {
		report.Failed = append(report.Failed, Failure{"recommender", err.Error()})
	} else {
		report.Rebuilt = h.opts.Rebuild != nil
	}
	if h.opts.Purge != nil {
		h.opts.Purge(func(userID, domainUserID, networkUserID string) bool {
			return slices.Contains(users, userID) || slices.Contains(users, domainUserID) || slices.Contains(users, networkUserID)
		})
	}
	if h.opts.BusExpiry != nil {
		bus := BusCopies{}
		bus.What, bus.Last, bus.Known = h.opts.BusExpiry()
		report.Bus = &bus
	}
	report.Complete = len(report.Failed) == 0
	if err := h.keepReceipt(&report, users); err != nil {
		report.Failed = append(report.Failed, Failure{"receipt", err.Error()})
		report.Complete = false
	}
	h.opts.Log.Info("people forgotten", "identifiers", report.Identifiers, "complete", report.Complete)
	return report, nil
}

// beginForgetting claims what forgetting and reconciling share.
func (h *History) beginForgetting() (*job, error) { return h.begin("forget", struct{}{}) }

// settleTimeout bounds how long a store that takes nothing keeps others from being
// cleaned. The archive's open range may have to go to S3 meanwhile.
const settleTimeout = 2 * time.Minute

// settled waits until nothing can land that was enriched without the tombstones.
func (h *History) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := h.landed(ctx); err != nil {
		return fmt.Errorf("another operation has not stored what it holds: %w", err)
	}
	if h.opts.Settle == nil {
		return nil
	}
	return h.opts.Settle(ctx)
}

// relearn makes the recommender learn anew, and notes that it has.
func (h *History) relearn(ctx context.Context, job *job, progress Progress) error {
	if h.opts.Rebuild == nil {
		return nil
	}
	err := h.opts.Rebuild(ctx, time.Time{}, time.Time{}, func(done int64) { progress.report("the recommender learns anew", done, 0) })
	if err != nil {
		return err
	}
	return job.drop()
}

// Relearn makes the recommender learn anew when a forgetting did not come to that,
// and says whether it did.
func (h *History) Relearn(ctx context.Context, progress Progress) (bool, error) {
	if h.opts.Rebuild == nil {
		return false, nil
	}
	job, err := h.beginForgetting()
	if err != nil {
		return false, err
	}
	defer job.end()
	var state forgetState
	if _, err := job.load(&state); err != nil || !state.Relearn {
		return false, err
	}
	return true, h.relearn(ctx, job, progress)
}
