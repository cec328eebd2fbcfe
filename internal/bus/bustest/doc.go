// Package bustest is the contract of a bus, written as tests. Every adapter
// runs Run against itself; what passes here may stand behind the collector.
//
// The suite publishes and reads through the interfaces of package bus only. It
// knows an adapter by its Adapter value: how to open it, how to open it again
// on the same stored data, and which optional abilities it has. It assumes
// nothing about the number of messages in a batch, and nothing about order
// between keys. A delivery without messages (all of them were filtered out) is
// allowed and acknowledged like any other.
//
// The suite refuses to test speed, and what only one adapter promises.
package bustest
