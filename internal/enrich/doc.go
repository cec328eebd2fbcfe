// Package enrich turns collector payloads into events and bad rows.
//
// Parse is pure: the same record, clock and options give the same result, without
// network or files. It checks the payload, routes it to an adapter (GET, tp2
// batches, redirects, Iglu webhooks), maps the tracker protocol's parameters to
// fields, checks the envelopes of self-describing JSON, splits page and referrer
// addresses, derives identity and time, and checks lengths.
//
// Contract: every record gives at least one event or one bad row that is there or to
// be forgotten, for any bytes; there is no error and no panic. A request whose envelope is wrong gives one bad
// row and no events; an event that is wrong gives one bad row and leaves its
// neighbours alone. A query string that breaks the rules is read as far as it
// goes. A request of more than MaxEvents events is one bad row, and what exceeds
// 64 MiB of texts in all its events is one for each, so that a result is bounded.
//
// Forgetting: events of people who are to be forgotten are left out, and Result.Record
// is the record without them. In a batch their elements are replaced by
//
//	{"e":"pv","p":"srv","tv":"furrow-forgotten","tna":"<id of the original record>"}
//
// so that the others keep their indexes, and a line ":furrow-forgotten: <that id>"
// goes before the headers, where no client can write one; all else stays byte for
// byte. A network user id that is forgotten while events under another one stay is
// blanked in the payload, its headers and its query string. Parse reads the mark:
// the other events, their ids, contents and bad rows are what the original gave,
// unless that held more than 64 MiB of texts.
//
// It refuses to draw identifiers or read clocks, to truncate values, and to change
// what a tracker sent beyond the rewriting that Snowplow's Enrich 3.9 does.
package enrich
