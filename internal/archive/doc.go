// Package archive keeps the durable history as Parquet files: three datasets,
// raw (every collector payload), events (enriched) and bad (what could not be
// understood), in folders by date and hour (UTC) of the collector's time.
//
//	raw/date=2026-11-22/hour=09/STREAM-PARTITION-FIRST-RECORD-PART.parquet
//	events/date=…/hour=…/…   bad/date=…/hour=…/…
//	_ranges/STREAM/PARTITION/FIRST   the intent of a range of positions
//	_tmp/                            files being written, emptied by Open
//
// Contract: a Range covers the positions of one partition from its first to the
// last that Commit names. Its intent becomes durable before any of its files is
// in place, and the files are in place before Commit returns, so whoever starts
// again at the first position either finds nothing or finds out where the range
// ends and writes the same files once more. Every position is in exactly one
// range; an event id is in a range once.
//
// In bad, record_id names the exact record of every row, and record holds it on
// the first of a run of rows of one record; the rows after it in that file have
// null there. So a record of a thousand failing events is written once, and its
// rows find it by record_id within their own file.
//
// The package refuses to acknowledge anything, to remember events across ranges
// (that is the database's matter) and to change a file once its range is
// committed. One process owns a folder at a time; the caller sees to that.
package archive
