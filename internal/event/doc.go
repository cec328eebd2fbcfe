// Package event holds the values that travel through Furrow: the collector's
// Payload, the enriched Event with its 131 fields, the BadRow, and the
// identifiers that are derived from them.
//
// It depends on the standard library only, does no I/O and knows no wire format;
// those live in package snowplow. Identity is derived, never drawn: every
// identifier here is a pure function of the exact record bytes, so every consumer
// and every replay agrees on it.
package event
