package announcer

// Verdict is what was decided about one received frame.
type Verdict uint8

// The verdicts, about in the order in which a frame is examined. Only Answered
// leads to a reply.
const (
	// Malformed: a frame that is too short, has impossible lengths or addresses,
	// a wrong checksum or a hop limit other than 255.
	Malformed Verdict = iota
	// OwnFrame: a frame that this link sent and a loop in the network, or the
	// switch, gave back.
	OwnFrame
	// NotForUs: a frame for another host's Ethernet address, with a VLAN tag, or
	// for an IPv6 destination that is not the target's.
	NotForUs
	// NotRequest: ARP other than a request, ICMPv6 other than a solicitation, or
	// another protocol altogether, if it claims nothing of ours.
	NotRequest
	// NotAnnounced: a good request for an address that is not announced here. The
	// kernel's filter lets few of these through.
	NotAnnounced
	// ForeignClaim: another host says that it has an address which we announce
	// (RFC 5227 2.4). See [Announcer.Conflicts].
	ForeignClaim
	// MemberClaim: the same from a member node. During a handover the claim is
	// rightful, and a defence would draw traffic back.
	MemberClaim
	// Stalled: a good request that is not answered because this process was
	// stalled. See [Announcer.Suspended].
	Stalled
	// LeftToOwner: a good request to all hosts for an address for which this node only
	// lingers. Its owner answers.
	LeftToOwner
	// Answered: a good request for an announced address.
	Answered

	verdictCount
)

var verdictNames = [verdictCount]string{
	Malformed:    "malformed",
	OwnFrame:     "own_frame",
	NotForUs:     "not_for_us",
	NotRequest:   "not_request",
	NotAnnounced: "not_announced",
	ForeignClaim: "foreign_claim",
	MemberClaim:  "member_claim",
	Stalled:      "stalled",
	LeftToOwner:  "left_to_owner",
	Answered:     "answered",
}

// String is the verdict as a metric label, for example "not_for_us".
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
