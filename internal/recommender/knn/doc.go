// Package knn is a session-based nearest-neighbour index that is updated with
// every click: it holds what visitors clicked in their sessions and answers which
// items come next in a given one. Algorithms: VMIS-kNN, VS-kNN and VSTAN, as
// variants of one search.
//
// Contract: one writer, any number of readers, never at the same time. Add, Load
// and the other changing methods need the caller's exclusive lock; Search and the
// other reading methods run together under a shared one. Memory never exceeds
// Config.Bound, whatever is added: the least recently active sessions leave first,
// in time proportional to their own length, and item numbers are reclaimed with
// the last session that holds them.
//
// It refuses to know what a click or an item means, does no I/O and reads no
// clock: time is the time of the clicks.
package knn
