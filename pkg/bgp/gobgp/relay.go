package gobgp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

const (
	// livesEvery is how often gobgp is told at most that the router lives.
	livesEvery = 250 * time.Millisecond
	// readBuffer and sendBuffer are the sizes of buffers, one of them here and
	// the other the kernel's, in bytes.
	readBuffer = 32 << 10
	sendBuffer = 256 << 10
)

// relay joins a router's connection with gobgp's. It has two goroutines, one
// for each direction.
type relay struct {
	peer   bgp.Peer
	router net.Conn
	gobgp  net.Conn
	// drained is closed when nothing comes from gobgp any more.
	drained chan struct{}
	// opening bounds the time to the session.
	opening time.Duration
	// restarted and preserved are flags for the router: the speaker is back
	// from a restart, and what it announced before still works.
	restarted, preserved bool
	// software is what a router is told that is to hear of it, and omitted what is
	// left out of the OPEN.
	software string
	omitted  omission
	// opened is called with the router's OPEN before gobgp sees it. It gives
	// gobgp the routes, or says why there can be no session. established is
	// called when the router and gobgp have both agreed.
	opened      func(*open) error
	established func(terms)
	// establish passes the router's first KEEPALIVE on, and waits for gobgp.
	establish func(do func() error, over func() bool) error
	// asked is of one, and gets a value when the router asks for all routes.
	asked chan struct{}

	writing sync.Mutex // one message at a time goes to the router
	ended   bool       // nothing goes to it any more
	told    bool       // the last word to it was a NOTIFICATION
	cut     bool       // it has half a message, and would not understand another

	mu           sync.Mutex
	mine, theirs *open
	agreed       [2]bool      // gobgp, router
	reason       error        // why the session ends, the first that is known
	guess        bool         // reason only follows from another that is not known
	offered      []capability // in the OPEN, with what was omitted
	said         []byte       // the router's last NOTIFICATION, without its header
	families     bgp.Families // that both sides carry

	ignored  *atomic.Uint64 // UPDATEs that were thrown away
	extended atomic.Bool    // both sides take long messages
	blocked  atomic.Bool    // a message is on its way to the router
	sent     atomic.Int64   // when the last message went, in Unix nanoseconds
	hold     atomic.Int64   // sendHold, in nanoseconds
}

// line is what is known of the connection to the router.
func (r *relay) line() line {
	// In this order: who reads it in between sees one that is blocked for a
	// moment too long.
	last := time.Unix(0, r.sent.Load())
	return line{blocked: r.blocked.Load(), last: last}
}

// terms are what both sides have agreed on.
type terms struct {
	peerASN         uint32
	families        bgp.Families
	hold, keepalive time.Duration
	restart         bool
	hard            bool   // a NOTIFICATION does not make the router forget
	omitted         string // of this side's capabilities, in words
	longLived       time.Duration
}

// errEnded: the session was ended from this side.
var errEnded = errors.New("ended by this side")

// errTakesNothing: what is written to the router stays in the kernel.
var errTakesNothing = errors.New("the router has taken nothing of what it was sent")

// errClosed: nothing was said before the connection ended.
var errClosed = errors.New("the router closed the connection")

// run passes messages on until the router's connection ends, and says why. What
// gobgp sends afterwards is thrown away, until its connection ends too and
// drained is closed: gobgp leaks what it could not send.
func (r *relay) run() error {
	_ = r.router.SetReadDeadline(time.Now().Add(r.opening))
	r.hold.Store(int64(r.opening))
	if c, ok := r.router.(*net.TCPConn); ok {
		_ = c.SetWriteBuffer(sendBuffer) // else it is longer, and what is in it older
	}
	go func() {
		defer close(r.drained)
		if err := r.fromGobgp(); !r.over() {
			r.end(err)
		}
	}()
	r.end(r.fromRouter())
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

// over tells whether the last word was said.
func (r *relay) over() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.ended
}

// end closes the router's connection. Of several reasons the first counts.
func (r *relay) end(why error) {
	r.note(why)
	_ = r.router.Close() // also ends a write under way
	r.writing.Lock()
	r.ended = true
	r.writing.Unlock()
}

// say sends a NOTIFICATION to the router as the last word, and has the session
// end when the router has heard it.
func (r *relay) say(message []byte, why error) {
	r.note(why)
	_ = r.router.SetWriteDeadline(time.Now().Add(time.Second)) // also of a write under way
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.ended {
		return
	}
	r.ended, r.told = true, true
	if !r.cut {
		_, _ = r.router.Write(message) // who does not listen is not told
	}
	// With what the router has sent unread, closing would take the message
	// back. So the reader goes on until the router has closed too.
	if c, ok := r.router.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = r.router.SetReadDeadline(time.Now().Add(time.Second))
}

// write sends to the router what gobgp says, unless the last word was said.
func (r *relay) write(message []byte) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.ended {
		return nil
	}
	hold := time.Duration(r.hold.Load())
	_ = r.router.SetWriteDeadline(time.Now().Add(hold))
	r.blocked.Store(true)
	_, err := r.router.Write(message)
	r.sent.Store(time.Now().UnixNano())
	r.blocked.Store(false)
	r.cut = err != nil
	return r.stuck(err)
}

// stuck says in words that the router takes nothing, if that is what an error
// means. The kernel then keeps nothing for it.
func (r *relay) stuck(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ETIMEDOUT) {
		return err
	}
	if c, ok := r.router.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	return fmt.Errorf("%w for %s", errTakesNothing, time.Duration(r.hold.Load()))
}

// fromRouter passes on what keeps the session, and nothing else.
func (r *relay) fromRouter() error {
	in, buffer := bufio.NewReaderSize(r.router, readBuffer), make([]byte, maxLength)
	var bad messageError
	var pace pace
	for last := time.Now(); ; {
		typ, message, length, err := readMessage(in, buffer, false, r.extended.Load())
		now := time.Now()
		if pause := pace.take(now, length); pause > 0 {
			time.Sleep(pause)
		}
		switch {
		case errors.As(err, &bad):
			r.say(bad.answer(), fmt.Errorf("the router sent what is %w", err))
			return errEnded
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
			return errClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the router has not opened a session within %s of the connection", r.opening)
		case errors.Is(err, syscall.ETIMEDOUT):
			return r.stuck(err)
		case err != nil:
			return fmt.Errorf("read from the router: %w", plain(err))
		case typ == typeNotification:
			r.hear(message)
		case typ == typeUpdate:
			r.ignored.Add(1)
			if !r.agree(-1) || now.Sub(last) < livesEvery {
				continue
			}
			// It proves that the router lives, as much as a KEEPALIVE.
			typ, message = typeKeepalive, keepalive()
		case typ == typeRefresh:
			// Before the session, all routes are about to be sent anyway.
			if r.agree(-1) && r.asksForAll(message) {
				signal(r.asked)
			}
			continue
		case typ == typeKeepalive && r.agree(-1) && now.Sub(last) < livesEvery:
			continue
		case typ == typeOpen:
			if message, err = r.takeOpen(message); err != nil {
				return err
			}
		}
		var passed error
		switch {
		case typ == typeKeepalive && !r.agree(-1):
			if passed = r.establish(func() error { return r.toGobgp(message) }, r.over); passed == nil {
				r.agree(1)
			}
		default:
			passed = r.toGobgp(message)
		}
		if passed != nil {
			return passed
		}
		last = now
	}
}

// asksForAll tells whether a ROUTE-REFRESH asks for routes of a family that the
// session carries. Others are passed over (RFC 2918, 4), and so are the marks of
// a router's own refresh, which it may send only to those that ask for them (RFC
// 7313, 4).
func (r *relay) asksForAll(message []byte) bool {
	if len(message) != headerLength+4 || message[headerLength+2] != 0 {
		return false
	}
	asked := family(message[headerLength:])
	r.mu.Lock()
	defer r.mu.Unlock()
	return asked != 0 && r.families.Has(asked)
}

// plain is an error without the addresses and ports of the connection, which
// differ each time: the same failure reads the same.
func plain(err error) error {
	var on *net.OpError
	if errors.As(err, &on) {
		return on.Err
	}
	return err
}

func keepalive() []byte {
	m := notification(0, 0, "")[:headerLength]
	m[17], m[18] = headerLength, typeKeepalive
	return m
}

// takeOpen looks at the router's OPEN before gobgp does, and returns what gobgp is
// to see of it.
func (r *relay) takeOpen(message []byte) ([]byte, error) {
	all, err := parseOpen(message)
	if err == nil {
		var list []capability
		if list, err = capabilitiesOf(message); err == nil {
			message, err = withCapabilities(message, r.heeded(known(list)))
		}
	}
	var o open
	if err == nil {
		o, err = parseOpen(message)
	}
	var bad messageError
	switch {
	case errors.As(err, &bad):
		r.say(bad.answer(), fmt.Errorf("the router sent what is %w", err))
		return nil, errEnded
	case err != nil:
		return nil, err
	}
	theirs := o
	theirs.hold = []byte{o.hold[0], o.hold[1]} // message is changed
	if r.omitted.multiprotocol(r.peer.Families) {
		theirs.families &= all.families // which are none where it has only others
	}
	r.mu.Lock()
	second := r.theirs != nil
	r.theirs = &theirs
	r.mu.Unlock()
	if second {
		r.say(notification(codeStateMachine, 0, ""), errors.New("the router sent a second OPEN"))
		return nil, errEnded
	}
	if err := r.acceptable(&theirs); err != nil {
		return nil, err
	}
	if r.peer.Hold == 0 {
		o.hold[0], o.hold[1] = 0, 0
	}
	return message, r.opened(&theirs)
}

// heeded are those of a router's capabilities that count: what is left out here
// is used by neither side. Without any multiprotocol capability here, the session
// carries IPv4, whatever the router has.
func (r *relay) heeded(list []capability) []capability {
	out := r.omitted.from(list)
	if !r.omitted.multiprotocol(r.peer.Families) {
		out = slices.DeleteFunc(out, func(c capability) bool { return c.code == capMultiprotocol })
	}
	if !r.peer.Offer.ExtendedMessage {
		out = slices.DeleteFunc(out, func(c capability) bool { return c.code == capExtendedMessage })
	}
	return out
}

// acceptable refuses what gobgp would let pass, or could not explain.
func (r *relay) acceptable(theirs *open) error {
	if hold := number(theirs.hold); hold == 1 || hold == 2 {
		r.say(notification(codeOpen, openHoldTime, ""),
			fmt.Errorf("told the router: OPEN error: unacceptable hold time (it is %d s, and 3 s is the least)", hold))
		return errEnded
	}
	wanted := r.omitted.carried(r.peer.Families)
	if wanted&theirs.families != 0 {
		return nil
	}
	var needed []byte
	for _, f := range wanted.List() {
		needed = appendCapabilities(needed, multiprotocol(f))
	}
	r.say(notification(codeOpen, openCapability, string(needed)),
		fmt.Errorf("told the router: OPEN error: unsupported capability (the session is to carry %s, and the router carries %s)",
			wanted, theirs.families))
	return errEnded
}

// badAS says which AS number the router has and which it should have, when a
// NOTIFICATION tells it that it has the wrong one.
func (r *relay) badAS(message []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if body := message[headerLength:]; len(body) < 2 || body[0] != codeOpen || body[1] != openBadPeerAS || r.theirs == nil {
		return ""
	}
	return fmt.Sprintf(" (it is AS %d, and the peer is to be AS %d)", r.theirs.as, r.peer.PeerASN)
}

func (r *relay) toGobgp(message []byte) error {
	if _, err := r.gobgp.Write(message); err != nil {
		return errEnded // gobgp has said why before, and fromGobgp has noted it
	}
	return nil
}

// fromGobgp passes on what gobgp sends.
func (r *relay) fromGobgp() error {
	buffer := make([]byte, math.MaxUint16)
	for {
		typ, message, _, err := readMessage(r.gobgp, buffer, true, false)
		if err != nil {
			return errEnded
		}
		switch typ {
		case typeOpen:
			if message, err = r.fit(message); err != nil {
				return err
			}
		case typeNotification:
			r.say(message, fmt.Errorf("told the router: %s%s", inWords(message), r.badAS(message)))
			continue
		}
		if err := r.write(message); err != nil && !r.over() {
			r.falter(err) // and go on reading: see run
		}
		if typ == typeKeepalive {
			r.agree(0)
		}
	}
}

// fit writes into gobgp's OPEN what gobgp cannot be asked for, and takes out of it
// what the router is not to be told, or has refused.
func (r *relay) fit(message []byte) ([]byte, error) {
	list, err := capabilitiesOf(message)
	if err != nil {
		return nil, fmt.Errorf("gobgp's OPEN: %w", err)
	}
	offered := r.offer(list)
	if message, err = withCapabilities(message, r.omitted.from(offered)); err != nil {
		return nil, err
	}
	o, err := parseOpen(message)
	if err != nil {
		return nil, fmt.Errorf("gobgp's OPEN: %w", err)
	}
	if r.peer.Hold == 0 {
		o.hold[0], o.hold[1] = 0, 0
	}
	if r.restarted && o.restart {
		o.restartFlags[0] |= 0x80
	}
	if r.preserved {
		// Traffic goes on while the speaker is away: kube-proxy sees to that.
		for _, flags := range o.forwarding {
			flags[0] |= 0x80
		}
		for _, flags := range o.longLivedFlags {
			flags[0] |= 0x80
		}
	}
	mine := o
	mine.hold = []byte{o.hold[0], o.hold[1]}
	r.mu.Lock()
	r.mine, r.offered = &mine, offered
	r.mu.Unlock()
	return message, nil
}

// offer is what of gobgp's capabilities is offered to the router. gobgp tells
// everybody the name of the host, and internal peers its own version.
func (r *relay) offer(list []capability) []capability {
	offer := r.peer.Offer
	out := slices.DeleteFunc(slices.Clone(list), func(c capability) bool {
		return c.code == capFQDN && !offer.FQDN || c.code == capSoftwareVersion ||
			c.code == capExtendedMessage && !offer.ExtendedMessage
	})
	for i := range out {
		out[i].value = slices.Clone(out[i].value) // the message is overwritten
	}
	if offer.SoftwareVersion && r.software != "" {
		out = append(out, softwareVersion(r.software))
	}
	return out
}

// note remembers why the session is about to end.
func (r *relay) note(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == nil || r.guess && errors.Is(why, errTakesNothing) {
		r.reason, r.guess = why, false
	}
}

// hear takes in a NOTIFICATION of the router: that is why the session ends, unless
// this side has ended it.
func (r *relay) hear(message []byte) {
	why := fmt.Errorf("the router says: %s", inWords(message))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = slices.Clone(message[headerLength:])
	if r.reason == nil || r.guess {
		r.reason, r.guess = why, false
	}
}

// falter ends the connection after an error of a write to it. What the router has
// said before it closed the connection is read first: that is the reason.
func (r *relay) falter(err error) {
	why := fmt.Errorf("write to the router: %w", plain(err))
	if errors.Is(err, errTakesNothing) {
		r.end(why)
		return
	}
	r.mu.Lock()
	if r.reason == nil {
		r.reason, r.guess = why, true
	}
	r.mu.Unlock()
	r.writing.Lock()
	r.ended = true
	r.writing.Unlock()
	_ = r.router.SetReadDeadline(time.Now().Add(time.Second))
}

// notified is what the router has said in its last NOTIFICATION, in octets, and
// what it had been offered.
func (r *relay) notified() (said []byte, offered []capability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said, r.offered
}

// refused tells whether this side has ended the connection with a NOTIFICATION.
func (r *relay) refused() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.told
}

// agree notes that a side has agreed to the other's OPEN, 0 for gobgp and 1
// for the router, and tells whether both have. With -1 it only tells.
func (r *relay) agree(side int) bool {
	r.mu.Lock()
	before := r.agreed[0] && r.agreed[1] && r.mine != nil && r.theirs != nil
	if side >= 0 {
		r.agreed[side] = true
	}
	now := r.agreed[0] && r.agreed[1] && r.mine != nil && r.theirs != nil
	var t terms
	if now && !before {
		t = r.terms()
		r.families = t.families
		r.extended.Store(r.mine.extended && r.theirs.extended)
	}
	r.mu.Unlock()
	if now && !before {
		r.writing.Lock()
		if !r.ended {
			_ = r.router.SetReadDeadline(time.Time{}) // from here on gobgp's hold timer counts
			r.hold.Store(int64(sendHold(t.hold)))
			if c, ok := r.router.(*net.TCPConn); ok {
				// Also of what is in the kernel's buffer. A kernel that does not know
				// it leaves the write above.
				_ = control(c, func(fd int) error { return setSendHold(fd, sendHold(t.hold)) })
			}
		}
		r.writing.Unlock()
		r.established(t)
	}
	return now
}

// terms follow from both OPENs. The caller holds mu.
func (r *relay) terms() terms {
	t := terms{peerASN: r.theirs.as, families: r.mine.families & r.theirs.families}
	t.hold = time.Second * time.Duration(min(number(r.mine.hold), number(r.theirs.hold)))
	t.keepalive = min(r.peer.Keepalive, t.hold/3)
	t.omitted = r.omitted.inWords(r.offered)
	t.restart = r.mine.restart && r.theirs.restart
	t.hard = t.restart && r.mine.notification && r.theirs.notification
	if t.restart && r.theirs.longLived+r.mine.longLived > 0 && len(r.theirs.longLivedFlags) > 0 {
		t.longLived = time.Duration(r.mine.longLived) * time.Second
	}
	return t
}

func number(two []byte) int { return int(two[0])<<8 | int(two[1]) }

// hopsFor chooses the next hops of a session whose own address is local.
// withheld says in words which family has none.
//
// A family that is the session's own has the session's address. IPv4 routes of
// an IPv6 session take an IPv4 address of the same link where there is one,
// which every router understands, else the IPv6 address (RFC 8950) if the
// router takes that. IPv6 routes of an IPv4 session need an IPv6 address.
func hopsFor(p bgp.Peer, local netip.Addr, takesNextHop6 bool) (via nextHops, withheld string) {
	link4, link6 := linkAddresses(local)
	own := local.WithZone("")
	if local.Is4() {
		via.v4, via.v6 = own, firstValid(link6, p.NextHop6)
		if p.Families.Has(bgp.IPv6) && !via.v6.IsValid() {
			withheld = "IPv6 routes: the node has no IPv6 address to be their next hop"
		}
		return via, withheld
	}
	via.v6 = own
	switch {
	case p.Interface != "" && takesNextHop6:
		via.v4 = own
	case link4.IsValid():
		via.v4 = link4
	case takesNextHop6:
		via.v4 = own
	case p.NextHop4.IsValid():
		via.v4 = p.NextHop4
	case p.Families.Has(bgp.IPv4):
		withheld = "IPv4 routes: the router takes no IPv6 next hop for them (RFC 8950), and the node has no IPv4 address"
	}
	return via, withheld
}

func firstValid(list ...netip.Addr) netip.Addr {
	for _, addr := range list {
		if addr.IsValid() {
			return addr
		}
	}
	return netip.Addr{}
}
