// Package snowplow holds Snowplow's wire formats: the collector payload on the
// bus, the tracker protocol's parameters, the enriched TSV and bad rows.
//
// It converts bytes to the values of package event and back, without I/O,
// configuration or clock. Facts come from Snowplow's Apache-2.0 releases
// (collector 2.10, Enrich 3.9). It refuses to guess: what does not follow the
// format is an error that says what was expected. The one exception is a query
// string, which is read as far as it goes, since visitors' links are what they are.
package snowplow
