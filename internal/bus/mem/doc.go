// Package mem is a bus in memory, for tests of the rooms that publish or
// consume. It keeps the whole contract of package bus, several partitions,
// revocation and a limit included, and nothing else: nothing it holds survives
// the process, so it refuses to be offered in a configuration.
package mem
