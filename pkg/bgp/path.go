package bgp

// Path is what BFD finds of the way to a router.
type Path uint8

// The kinds of paths.
const (
	// PathUnwatched: BFD is not used.
	PathUnwatched Path = iota
	// PathPending: BFD is used, and it is not known whether the way works.
	PathPending
	// PathUp: the way works.
	PathUp
	// PathFailed: it did, and does no more.
	PathFailed
)
