package bgp

// Liveness is what BFD (RFC 5880) knows of whether a router can be reached.
type Liveness uint8

// The kinds of liveness.
const (
	// LivenessUnmonitored: there is no BFD session with the router.
	LivenessUnmonitored Liveness = iota
	// LivenessPending: the BFD session has never been up, and the router is heard.
	LivenessPending
	// LivenessSilent: the BFD session has never been up, and the router is not heard.
	LivenessSilent
	// LivenessUp: the BFD session is up.
	LivenessUp
	// LivenessFailed: the BFD session was up and went down. The router is heard, or was a
	// moment ago.
	LivenessFailed
	// LivenessLost: the BFD session was up and went down, and the router is not heard.
	LivenessLost
)

// Failed reports whether the BFD session was up and went down.
func (l Liveness) Failed() bool { return l == LivenessFailed || l == LivenessLost }

// Silent reports whether the router is not heard by BFD, or not monitored.
func (l Liveness) Silent() bool {
	return l == LivenessUnmonitored || l == LivenessSilent || l == LivenessLost
}
