// Package evaluate measures recommendation algorithms on files of past sessions:
// it learns a training file click by click through the same index and the same
// path as live events, then asks for the next item after every click of the test
// sessions and compares.
//
// Contract: a run is a pure function of its files and parameters, but for its
// latencies; parameters that it does not know are errors. It reads gzip or plain
// tab-separated files with the header SessionId, ItemId, Time (seconds since the
// epoch).
//
// It refuses to tune: it measures what it is told to measure.
package evaluate
