// Package recommender turns the events on the bus into live recommendations: it
// finds the items in them, keeps an in-memory index of what sessions did, and
// answers GET /v1/recommend with what is likely to come next.
//
// Contract: a click is in everybody's lists as soon as its record was consumed;
// a request first waits a little until everything that was published before it
// is in, and says so when it is not. Every item is labelled with the rung of the
// ladder that gave it. Memory stays below Config.Bound. What is learned survives
// in a snapshot, with the positions it reflects; the bus is acknowledged only up
// to a durable snapshot, so nothing is learned twice or missed. Rebuild learns anew
// from history while requests go on; a snapshot that is older than a tombstone is
// not served.
//
// It refuses to learn from impressions, page pings, robots and removals from a
// cart, to mix pages and products in one list, to read a cookie, and to store
// anything about a request.
package recommender
