// Package store keeps events and bad rows in a database, one row per event id: in
// SQLite, one file that one process writes, or in PostgreSQL, which any number of
// recorders may share. DESIGN.md says how.
//
// Insert is one transaction, durable when it returns, and idempotent: the same
// rows may be given again after a crash, by a replay or by another owner, and
// nothing changes. An event whose id is already there with the same content is a
// double and is counted; one with other content, or one that the database refuses
// for good, becomes a bad row that holds its exact record. After an error the call
// is repeated.
//
// bad_rows is a view: the rows are in bad_failures, the records in bad_records,
// each once however many of its events failed, and deleted with its last row.
//
// An event id is unique for as long as its row is kept, and for Config.DedupDays
// after its collector day in any case, also when retention deleted the row.
//
// Forget takes people out of events and bad rows. Reads have a deadline. The
// package refuses to enrich, to decide when to retry or whom to forget, and to hold
// rows that were not committed.
package store
