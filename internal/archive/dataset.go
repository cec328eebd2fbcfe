package archive

import (
	"fmt"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"

	"furrow/internal/event"
)

// dataset is one of the three tables.
type dataset uint8

const (
	rawSet dataset = iota
	eventSet
	badSet
	numDatasets
)

var datasetNames = [numDatasets]string{"raw", "events", "bad"}

func (d dataset) String() string { return datasetNames[d] }

const (
	rangesFolder = "_ranges"
	tempFolder   = "_tmp"
	fileSuffix   = ".parquet"
)

// hour is a UTC hour since the epoch.
type hour int64

const (
	firstHour hour = 0
	lastHour  hour = 70389527 // 9999-12-31 23h: a later year would not fit the folder's name
)

// hourOf returns the hour of a time; times that no folder name can hold go to
// the nearest one.
func hourOf(t time.Time) hour {
	sec := t.Unix()
	if sec < 0 {
		return firstHour
	}
	return min(hour(sec/3600), lastHour)
}

func (h hour) time() time.Time { return time.Unix(int64(h)*3600, 0).UTC() }

// folder returns the hour's folder in a dataset, with a slash at its end.
func (h hour) folder(d dataset) string {
	return h.time().Format(d.String() + "/date=2006-01-02/hour=15/")
}

// parseName finds dataset and hour in the name of a data file.
func parseName(name string) (dataset, hour, bool) {
	set, rest, _ := strings.Cut(name, "/")
	for d := range numDatasets {
		if d.String() != set {
			continue
		}
		t, err := time.Parse("date=2006-01-02/hour=15/", rest[:strings.LastIndexByte(rest, '/')+1])
		if err != nil {
			return 0, 0, false
		}
		h := hourOf(t)
		return d, h, strings.HasPrefix(name, h.folder(d))
	}
	return 0, 0, false
}

// column is one column of a dataset.
type column struct {
	name     string
	node     parquet.Node
	optional bool
	unbound  bool // no minimum and maximum: values may be of any size, and nobody looks for them by range

	dictionary bool // each value is written once, and then its number
}

// schema is the column list of a dataset, in the order in which it is written.
type schema struct {
	columns []column
	parquet *parquet.Schema
}

func newSchema(d dataset, columns []column) schema {
	root := orderedGroup{fields: make([]parquet.Field, len(columns))}
	for i, c := range columns {
		node := c.node
		if c.optional {
			node = parquet.Optional(node)
		}
		root.fields[i] = groupField{Node: node, name: c.name}
		columns[i].dictionary = c.node.Encoding() == &parquet.RLEDictionary
	}
	return schema{columns: columns, parquet: parquet.NewSchema(d.String(), root)}
}

// orderedGroup is a group whose fields keep their order; parquet.Group sorts
// them by name.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields returns the columns in their order.
func (g orderedGroup) Fields() []parquet.Field { return g.fields }

var schemas = [numDatasets]schema{
	rawSet: newSchema(rawSet, []column{
		{name: "record_id", node: plainString()},
		{name: "collector_tstamp", node: timestamp()},
		{name: "key", node: parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.RLEDictionary), optional: true},
		{name: "record", node: parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.Plain), unbound: true},
	}),
	eventSet: newSchema(eventSet, eventColumns()),
	badSet: newSchema(badSet, []column{
		{name: "id", node: plainString()},
		{name: "time", node: timestamp()},
		{name: "schema", node: parquet.Encoded(parquet.String(), &parquet.RLEDictionary)},
		{name: "failure", node: plainString(), unbound: true},
		// Null where the row before it, in the file, is of the same record.
		{name: "record", node: parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.Plain), optional: true, unbound: true},
		{name: "event_index", node: parquet.Leaf(parquet.Int32Type)},
		{name: "record_id", node: plainString()},
	}),
}

func plainString() parquet.Node { return parquet.Encoded(parquet.String(), &parquet.Plain) }

func timestamp() parquet.Node {
	return parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.DeltaBinaryPacked)
}

// eventFields are the cells in column order: the TSV's without the JSON ones,
// which come last.
var eventFields = func() []event.Field {
	var plain []event.Field
	for _, f := range event.Fields() {
		if f.Kind() != event.JSON {
			plain = append(plain, f)
		}
	}
	return append(plain, event.Contexts, event.UnstructEvent, event.DerivedContexts)
}()

// required are the columns that the atomic table has as not null.
var required = map[event.Field]bool{
	event.EventID: true, event.CollectorTstamp: true, event.VCollector: true, event.VEtl: true,
}

// eventPlan says of each column, in their order, what it takes to fill it.
var eventPlan = func() []plannedColumn {
	plan := make([]plannedColumn, len(eventFields))
	for i, f := range eventFields {
		plan[i] = plannedColumn{field: f, kind: f.Kind(), required: required[f], level: 1}
		if required[f] {
			plan[i].level = 0
		}
	}
	return plan
}()

type plannedColumn struct {
	field    event.Field
	kind     event.Kind
	required bool
	level    int // definition level of a value
}

// distinct are the text columns with a value of its own in nearly every row,
// where a dictionary only costs.
var distinct = map[event.Field]bool{
	event.EventID: true, event.EventFingerprint: true, event.MktClickID: true,
	event.TrOrderID: true, event.TiOrderID: true, event.PageURLQuery: true,
	event.Contexts: true, event.UnstructEvent: true,
}

func eventColumns() []column {
	columns := make([]column, len(eventFields))
	for i, f := range eventFields {
		columns[i] = column{name: f.Name(), node: eventNode(f), optional: !required[f], unbound: f.Kind() == event.JSON}
	}
	// The bits of event.Event.Content; null when it is unknown.
	return append(columns, column{name: contentHash, node: parquet.Encoded(parquet.Leaf(parquet.Int64Type), &parquet.Plain), optional: true})
}

func eventNode(f event.Field) parquet.Node {
	switch f.Kind() {
	case event.Int:
		return parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary)
	case event.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case event.Time:
		return timestamp()
	case event.Float, event.Decimal:
		return parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.RLEDictionary)
	default:
		if distinct[f] {
			return plainString()
		}
		return parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	}
}

// micros is a time as the files hold it; times that do not fit are cut to the
// nearest that does.
func micros(ms int64) int64 {
	const limit = int64(1<<63-1) / 1000
	return max(-limit, min(limit, ms)) * 1000
}

// rangeName is the start of every file name of a range. It holds part of the
// first record's id, so that a bus that was set up anew, and counts from the
// start again, never writes over the files of the former one.
func rangeName(stream, partition, first string, record event.RecordID) string {
	return fmt.Sprintf("%s-%s-%s-%s", stream, partition, first, record.String()[:12])
}
