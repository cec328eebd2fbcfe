// Package archive keeps the durable history as Parquet files: three datasets,
// raw (every collector payload), events (enriched) and bad (what could not be
// understood), in folders by date and hour (UTC) of the collector's time.
//
//	raw/date=2026-11-22/hour=09/STREAM-PARTITION-FIRST-RECORD-PART.parquet
//	events/date=…/hour=…/…   bad/date=…/hour=…/…
//	_ranges/STREAM/PARTITION/FIRST   the intent of a range of positions
//	_compact/DATE/HOUR/N.…           which files of an hour were replaced, and its event ids
//	_forgotten/                      tombstones that were applied
//	_tmp/                            files being written, emptied by Open
//	_conditional                     on S3: proof that the server creates nothing twice
//
// The same layout lies in a folder or, under a prefix, in a bucket on S3 or a
// server that speaks its protocol; the files being written and read are local in
// both cases. S3 must know If-None-Match, since owners race for intents. A process
// starts while it is away. A request is tried a few times, then the caller hears of
// it; what was stored although its answer was lost is known again.
//
// Contract: a Range covers the positions of one partition from its first to the
// last that Commit names. Its intent becomes durable before any of its files is
// in place, and the files are in place before Commit returns, so whoever starts
// again at the first position either finds nothing or finds out where the range
// ends and writes the same files once more. Every position is in exactly one
// range; an event id is in a range once.
//
// Compact merges the files of closed hours; then an event id is in events once
// within DedupDays, and a record of an hour is in raw once. Forget takes people
// out. Both replace files through a decision that one object makes, so that every
// reader sees each row once at every moment, whoever dies where. See DESIGN.md.
//
// In bad, record_id names the exact record of every row, and record holds it on
// the first of a run of rows of one record; the rows after it in that file have
// null there. So a record of a thousand failing events is written once, and its
// rows find it by record_id within their own file. A record of which people were
// taken keeps its id, in raw and bad, though its bytes are others.
//
// The package refuses to acknowledge anything, to remember events across open
// ranges (that is the database's matter) and to change a file in place. Several
// processes may share an archive on S3; a folder has one owner at a time, and the
// caller sees to that.
package archive
