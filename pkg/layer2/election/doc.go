// Package election decides which of several nodes owns an address ([Elect], [Rank]).
// Every node computes it from the same inputs and gets the same result, so nothing
// has to be agreed upon. It is pure.
package election
