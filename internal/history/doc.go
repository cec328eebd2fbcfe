// Package history goes back to what was recorded: it replays the archive into the
// database, the bus or the recommender, imports enriched events that were recorded
// elsewhere, takes up bad rows again, and forgets people.
//
// Every operation is one method with a Spec and a Report that read and write
// themselves as JSON, so that it runs alike in the process of a command and inside
// a server. It reports its progress, and ends early with its context.
//
// Contract: an operation may be repeated. What it stored is not stored twice, and
// one that ended early goes on where it was when the same Spec is given again: its
// state is a file in Options.Dir, written after the effect was durable and removed
// at the end. One operation of a kind and Spec runs at a time.
//
// It refuses to invent events: what it stores was recorded, under the identifiers
// it was recorded under, and what tombstones cover stays out.
package history
