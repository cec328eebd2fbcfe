package archive

import (
	"reflect"

	"github.com/parquet-go/parquet-go"
)

// groupField is a named node of an orderedGroup.
type groupField struct {
	parquet.Node
	name string
}

// Name returns the column's name.
func (f groupField) Name() string { return f.name }

// Value is for rows that are Go structs; columns are written directly here.
func (f groupField) Value(reflect.Value) reflect.Value { return reflect.Value{} }
