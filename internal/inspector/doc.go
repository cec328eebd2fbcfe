// Package inspector is the admin listener's handler: a live view of what the
// recorder stores, the state and lag of every stage, health with reasons, the
// metrics, and the pages that show them.
//
// It reads a bounded tap of the recorder. Recorded packs the newest events and
// bad rows into two rings with a limit on entries and bytes, and never waits for
// a reader: a watcher holds a cursor into the rings, is told how many entries it
// missed when it falls behind, and is dropped and counted when it stops reading.
//
// It shows visitors' data, so it refuses requests whose Host is neither loopback
// nor configured (DNS rebinding), requests from other origins, and changes
// without the header X-Furrow-Admin that no form can send. It answers no CORS
// request. Where the listener binds is the app's business; loopback is the rule.
//
// It stores nothing: what left the rings is in the database and the archive.
package inspector
