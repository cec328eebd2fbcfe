// Package collector is the door: it turns an HTTP request into a collector
// payload, publishes it on the bus and answers 200 only after Publish returned
// nil, which means that the record is stored. When it cannot be stored the answer
// is 503 with Retry-After and CORS headers, so that the tracker keeps its copy; a
// visitor on a redirect is redirected all the same, and the loss is counted.
//
// Routes, cookies, payload fields and option names follow Snowplow's collector
// 2.10. It differs where that loses data or leaks it: a broken query is stored as
// it came, redirects need an allow list, anonymous requests keep no header that
// carries an address, and the record's key is the user.
//
// The texts of a payload are valid UTF-8, each bad byte replaced by U+FFFD, but
// for the query string, which is stored byte by byte. Header lines keep their order,
// and the sender's spelling where the name is not a well-known one. Those of a
// request that Front leaves to net/http, which keeps neither, are sorted by name.
//
// It refuses to parse events: no JSON, no content decoding, no schema. Its work
// per request is one pass over the request and one copy into the record.
package collector
