// Package bus is the contract between the collector and its consumers: named
// streams of keyed messages, partitions, positions and consumer groups.
//
// Delivery is at least once, in order per key. A message that was published is
// durable to the adapter's configured level; a batch that was not acknowledged
// comes again. There is no negative acknowledgement: a consumer retries with
// backoff, parks, or writes a bad row. Every adapter passes the suite in bustest.
//
// The package refuses to know what messages contain, and transforms nothing.
package bus

import (
	"context"
	"errors"
	"time"
)

// Stream names a stream of messages.
type Stream string

// The streams that Furrow uses.
const (
	Raw    Stream = "raw"    // collector payloads, Thrift
	Bad    Stream = "bad"    // bad rows made at the door, JSON
	Events Stream = "events" // enriched events for outside consumers, TSV
)

// Message is one record on a stream.
type Message struct {
	Stream   Stream
	Key      []byte    // messages with one key keep their order
	Value    []byte    // must not be changed after Publish, nor by a consumer
	Time     time.Time // when it was published, millisecond precision; set by the adapter when zero
	Position Position  // set on delivery, ignored by Publish
}

// Position is a place in one partition. Positions of one partition and adapter
// compare as strings: a later message has the greater one. It is made of
// characters that are safe in a file name.
type Position string

// Positions maps each partition to the last position that was handled there.
type Positions map[string]Position

// Notice says what a Batch is.
type Notice uint8

// The kinds of batches.
const (
	Delivery Notice = iota // messages to handle
	Assigned               // the partition now belongs to this subscription
	Revoked                // the partition was taken away; Ack for it returns ErrLost
)

// Batch is a run of messages of one partition, in order, or a notice about it.
type Batch struct {
	Notice    Notice
	Partition string // safe in a file name
	First     Position
	Last      Position // what Ack acknowledges; may lie past the last message when others were filtered out
	Messages  []Message
}

// Head returns the part of the batch up to and including message i.
func (b Batch) Head(i int) Batch {
	b.Messages = b.Messages[:i+1]
	b.Last = b.Messages[i].Position
	return b
}

// Publisher stores messages.
type Publisher interface {
	// Publish returns nil when every message is durable to the configured level.
	// On an error any subset may be stored and the caller retries the whole call.
	// ErrFull: a limit binds, try later. ErrClosed: the bus is shutting down.
	// Safe for concurrent use; messages of one call keep their order.
	Publish(ctx context.Context, msgs ...Message) error
}

// Subscriber hands out subscriptions.
type Subscriber interface {
	// Subscribe joins a consumer group. An empty group reads every partition and
	// remembers nothing. Within a process a named group has one subscription at a
	// time; a second is an error.
	Subscribe(ctx context.Context, group string, streams []Stream, from Start) (Subscription, error)
}

// Subscription is one member of a group. Its methods are called from one
// goroutine, but for Close.
type Subscription interface {
	// Next waits for messages. It returns ctx.Err() when ctx ends, ErrClosed when
	// the bus or the subscription was closed.
	Next(ctx context.Context) (Batch, error)
	// Ack says that everything up to and including b.Last was handled. It is
	// cumulative within the partition. ErrLost: the partition belongs to another.
	Ack(ctx context.Context, b Batch) error
	// Close leaves the group. What was not acknowledged comes again.
	Close() error
}

// Start says where a subscription begins.
type Start struct {
	Kind      StartKind
	Time      time.Time // StartTime: messages published at or after it
	Positions Positions // StartPositions: after these; partitions not named start at the earliest
}

// StartKind is the kind of a Start.
type StartKind uint8

// The places where a subscription can begin.
const (
	Committed      StartKind = iota // after the group's last acknowledged position, the earliest when there is none
	Earliest                        // the oldest message still kept
	Latest                          // only messages published after Subscribe returned
	StartTime                       // see Start.Time
	StartPositions                  // see Start.Positions
)

// Errors that callers branch on.
var (
	ErrFull   = errors.New("bus: full")
	ErrClosed = errors.New("bus: closed")
	ErrLost   = errors.New("bus: partition lost")
)
