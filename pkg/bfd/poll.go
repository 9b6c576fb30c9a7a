package bfd

// staleMax bounds how many answers to an earlier poll are waited for.
const staleMax = 3

// poll is the Poll Sequence of one end (RFC 5880 6.5): while it is active every
// periodic packet carries Poll, until a packet with Final comes.
//
// An answer does not say to which packet it is one. When intervals change again
// while a sequence is under way, answers to the packets before must not end the
// sequence for what came after, or we would count on the peer to know what it
// has never read. So packets and answers are counted.
type poll struct {
	active bool
	// again: another change came while the sequence was active, so another
	// sequence has to follow.
	again bool
	// asked are the packets sent in this sequence, open those of all sequences
	// without an answer yet, and stale the answers that belong to earlier ones.
	asked, open, stale int
}

// start begins a sequence, or has another one follow.
func (p *poll) start() {
	if p.active {
		p.again = true
		return
	}
	*p = poll{active: true, open: p.open, stale: min(p.open, staleMax)}
}

// sent counts a packet with Poll.
func (p *poll) sent() {
	p.asked++
	p.open++
}

// answered counts a packet with Final and reports whether it ended the last
// sequence, so that both ends now know the same.
func (p *poll) answered() bool {
	p.open = max(p.open-1, 0)
	switch {
	case !p.active || p.asked == 0:
		return false
	case p.stale > 0:
		p.stale--
		return false
	case p.again:
		*p = poll{active: true, open: p.open, stale: min(p.open, staleMax)}
		return false
	default:
		p.active = false
		return true
	}
}

// cancel ends it all: there is nobody to ask.
func (p *poll) cancel() { *p = poll{} }
