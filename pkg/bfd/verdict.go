package bfd

// Verdict is whether one received packet counts, and if not, why.
type Verdict uint8

// The verdicts, in the order in which a packet is examined (RFC 5880 6.8.6).
// Only Accepted changes a session.
const (
	// BadLength: too short, or the length in it does not fit.
	BadLength Verdict = iota
	// BadVersion: not version 1.
	BadVersion
	// ZeroMultiplier: the detection time would be 0.
	ZeroMultiplier
	// Multipoint: the M bit is set, which is reserved.
	Multipoint
	// ZeroDiscriminator: the sender does not name its session.
	ZeroDiscriminator
	// UnknownDiscriminator: names a session that is not ours, or not any more.
	UnknownDiscriminator
	// StateWithoutDiscriminator: the sender is in Init or Up, so it hears us, and names no
	// session of ours.
	StateWithoutDiscriminator
	// UnknownPeer: names no session of ours, and none is configured for its
	// addresses.
	UnknownPeer
	// WrongPeer: names a session of ours and comes from another address or link,
	// to another address, or to the other port. Somebody guessed or overheard a
	// discriminator, or the peer sends with an address that is not configured.
	WrongPeer
	// WrongTTL: came farther than allowed: over one hop, any TTL but 255
	// (RFC 5881 5); over several, less than the session's minimum.
	WrongTTL
	// Authenticated: the A bit is set, and no session of ours uses authentication.
	Authenticated
	// Leaving: the session is AdminDown, and only signals that until its peer answers.
	Leaving
	// Accepted: the packet counts for its session.
	Accepted

	verdictCount
)

var verdictNames = [verdictCount]string{
	BadLength:                 "bad_length",
	BadVersion:                "bad_version",
	ZeroMultiplier:            "zero_multiplier",
	Multipoint:                "multipoint",
	ZeroDiscriminator:         "zero_discriminator",
	UnknownDiscriminator:      "unknown_discriminator",
	StateWithoutDiscriminator: "state_without_discriminator",
	UnknownPeer:               "unknown_peer",
	WrongPeer:                 "wrong_peer",
	WrongTTL:                  "wrong_ttl",
	Authenticated:             "authenticated",
	Leaving:                   "leaving",
	Accepted:                  "accepted",
}

// String returns the verdict as a metric label, for example "wrong_ttl".
func (v Verdict) String() string {
	if v >= verdictCount {
		return "unknown"
	}
	return verdictNames[v]
}

// Verdicts returns all verdicts in order.
func Verdicts() []Verdict {
	out := make([]Verdict, verdictCount)
	for i := range out {
		out[i] = Verdict(i)
	}
	return out
}
