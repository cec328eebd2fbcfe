// Package journal is the embedded bus: a segmented, append-only log on the
// local disk that holds every stream, in one partition named "0".
//
// Publish returns nil when fdatasync has covered the messages; concurrent calls
// share one. Consumers read only what is durable, woken by the commit itself.
// Each group's position is kept on disk and may lag by a moment after a crash,
// so messages may come again; none is skipped. A segment is deleted when every
// group has passed it and the retention has run out, earlier when a limit binds,
// and never before every group has passed it.
//
// A subscription that filters streams receives a delivery without messages when
// only filtered records were passed, so that its position reaches Head. An empty
// list of streams means all of them. Damaged records are skipped, copied aside
// and shown in Status.
//
// The package refuses to lock its folder (LockDir is for the owner of the whole
// data folder), to retry a failed write, and to reuse a sequence number.
// DESIGN.md has the format and the failure table.
package journal
