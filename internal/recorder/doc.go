// Package recorder takes records from the bus, enriches them, and stores what
// comes of them: in the database as group recorder-store, in the archive as group
// recorder-archive. The groups are independent, each with its own positions; a
// stalled database does not delay the archive, nor the other way round.
//
// A position is acknowledged only after what lies before it is durable, so
// delivery is at least once and the sinks make doubles harmless. Failures are
// repeated with backoff for as long as it takes; nothing is skipped. While both
// groups are level, a record is enriched once for both.
//
// Settle is the barrier of forgetting: after it nothing lands that was enriched
// before.
//
// The package refuses to judge records, which is for package enrich, and to keep
// anything that is not on disk when Run has returned: it comes again.
package recorder
