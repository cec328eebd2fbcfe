// Package store keeps events and bad rows in a database: SQLite, one file, one
// row per event id.
//
// Insert is one transaction, durable when it returns, and idempotent: the same
// rows may be given again after a crash, by a replay or by another owner, and
// nothing changes. An event whose id is already there with the same content is a
// double and is counted; one with other content, or one that the database refuses
// for good, becomes a bad row that holds its exact record. An error from Insert
// means that nothing was stored and that the call may be repeated.
//
// bad_rows is a view: the rows are in bad_failures, the records in bad_records,
// each once however many of its events failed, and deleted with its last row.
//
// Doubles are found for as long as the first row is kept, so the retention of the
// database is also the window within which an event id is unique.
//
// One connection writes, a small pool reads with a deadline. The package refuses
// to enrich, to decide when to retry, and to hold rows that were not committed.
package store
