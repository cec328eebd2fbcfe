// Package demo is a shop to try Furrow on: its pages, its catalogue and its
// simulated visitors.
//
// The catalogue is made of the most clicked items of a published data set of a
// real shop's sessions (see data/ATTRIBUTION). Ids and behaviour are real; names,
// prices and shelves are invented, and items that visitors look at together stand
// on one shelf so that a person can see what a recommendation means. The visitors
// replay the sessions of that data set, time-compressed to now, as a browser with
// our tracker would: HTTP POSTs of the tracker protocol to the collector, with a
// cookie-borne identity and a user agent of their own.
//
// Handler serves the shop on a port that the caller binds; Run sends the visitors
// and returns when its context ends. Nothing reaches into the pipeline: whatever
// the shop shows went through the collector.
//
// The package refuses to be a load generator: rates are bounded, and a collector
// that answers 503 or not at all is given time.
package demo
