package bgp

// Path is what BFD finds of the way to a router.
type Path uint8

// The kinds of paths.
const (
	// PathUnwatched: BFD is not used.
	PathUnwatched Path = iota
	// PathPending: BFD is used, and it is not known whether the way works. The
	// router is heard.
	PathPending
	// PathSilent: as PathPending, and nothing is heard of the router.
	PathSilent
	// PathUp: the way works.
	PathUp
	// PathFailed: it did, and does no more. The router is heard, or was a moment
	// ago.
	PathFailed
	// PathLost: as PathFailed, and nothing is heard of the router.
	PathLost
)

// Failed tells whether the way worked, and does no more.
func (p Path) Failed() bool { return p == PathFailed || p == PathLost }

// Silent tells whether nothing is heard of the router by BFD, or BFD does not run.
func (p Path) Silent() bool { return p == PathUnwatched || p == PathSilent || p == PathLost }
