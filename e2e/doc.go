// Package e2e tests the built binary as its users meet it: over HTTP, with real
// trackers and a real browser, by reading the database and the archive it leaves,
// and by killing it. It needs bin/furrow (make build); what a suite needs beyond
// that and cannot be had is named and skipped, or fails when CI=true.
package e2e
