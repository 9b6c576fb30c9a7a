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

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/bgp"
)

const (
	// livesEvery is the least time between two messages by which gobgp sees that the router
	// lives.
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
	// software is the software version that an OPEN names if the peer is offered it, and
	// omitted what the OPEN leaves out.
	software string
	omitted  omission
	// opened is called with the router's OPEN before gobgp sees it, without a lock. It
	// gives gobgp the routes, or returns why there can be no session. established is
	// called, without a lock, when the router and gobgp have both confirmed.
	opened      func(*open) error
	established func(terms)
	// establish passes the router's first KEEPALIVE on, and waits for gobgp.
	establish func(do func() error, over func() bool) error
	// asked is set when the router asks for all routes (RFC 2918).
	asked notify.Signal

	writing  sync.Mutex // one message at a time goes to the router
	ended    bool       // nothing goes to it any more
	notified bool       // the last word to it was a NOTIFICATION
	halfSent bool       // it has half a message, and would not understand another

	mu            sync.Mutex
	local, remote *open
	agreed        [2]bool      // gobgp, router
	reason        error        // why the session ends, the first that is known
	guess         bool         // reason only follows from another that is not known
	offered       []capability // in the OPEN, with what was omitted
	received      []byte       // the router's last NOTIFICATION, without its header
	families      bgp.Families // that both sides carry

	ignored  *atomic.Uint64 // UPDATEs that were thrown away
	extended atomic.Bool    // both sides take long messages
	blocked  atomic.Bool    // a message is on its way to the router
	sent     atomic.Int64   // when the last message went, in Unix nanoseconds
	hold     atomic.Int64   // sendHold, in nanoseconds
}

// sendState returns how far the router has taken what it was sent.
func (r *relay) sendState() sendState {
	// In this order: a reader in between sees a connection that is blocked for a moment
	// too long.
	last := time.Unix(0, r.sent.Load())
	return sendState{blocked: r.blocked.Load(), last: last}
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
var errNotReading = errors.New("the router has taken nothing of what it was sent")

// errClosed: nothing was said before the connection ended.
var errClosed = errors.New("the router closed the connection")

// run passes messages on until the router's connection ends, and returns why. What
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

// over reports whether the last message to the router was sent.
func (r *relay) over() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.ended
}

// end closes the router's connection. The first of several reasons counts.
func (r *relay) end(why error) {
	r.recordReason(why)
	_ = r.router.Close() // also ends a write under way
	r.writing.Lock()
	r.ended = true
	r.writing.Unlock()
}

// sendNotification sends a NOTIFICATION as the last message to the router, and has the
// session end when the router has read it.
func (r *relay) sendNotification(message []byte, why error) {
	r.recordReason(why)
	_ = r.router.SetWriteDeadline(time.Now().Add(time.Second)) // also of a write under way
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.ended {
		return
	}
	r.ended, r.notified = true, true
	if !r.halfSent {
		_, _ = r.router.Write(message) // the session ends either way
	}
	// With what the router has sent unread, closing would take the message
	// back. So the reader goes on until the router has closed too.
	if c, ok := r.router.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_ = r.router.SetReadDeadline(time.Now().Add(time.Second))
}

// write sends to the router what gobgp sends, unless the last message was sent.
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
	r.halfSent = err != nil
	return r.notReading(err)
}

// notReading turns an error that means that the router takes nothing into words, and
// returns others as they are. The kernel then keeps nothing for the router.
func (r *relay) notReading(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ETIMEDOUT) {
		return err
	}
	if c, ok := r.router.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	return fmt.Errorf("%w for %s", errNotReading, time.Duration(r.hold.Load()))
}

// fromRouter passes on what keeps the session, and nothing else.
func (r *relay) fromRouter() error {
	in, buffer := bufio.NewReaderSize(r.router, readBuffer), make([]byte, maxLength)
	var pace pace
	for last := time.Now(); ; {
		typ, message, length, err := readMessage(in, buffer, false, r.extended.Load())
		now := time.Now()
		if pause := pace.take(now, length); pause > 0 {
			time.Sleep(pause)
		}
		if err != nil {
			return r.readFailed(err)
		}
		recent := now.Sub(last) < livesEvery
		if message, err = r.toPass(typ, message, recent); err != nil {
			return err
		}
		if message == nil {
			continue
		}
		if err := r.pass(message); err != nil {
			return err
		}
		last = now
	}
}

// readFailed returns why the connection ends after an error of a read from it.
func (r *relay) readFailed(err error) error {
	var bad messageError
	switch {
	case errors.As(err, &bad):
		r.sendNotification(bad.answer(), fmt.Errorf("the router sent what is %w", err))
		return errEnded
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return errClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the router has not opened a session within %s of the connection", r.opening)
	case errors.Is(err, syscall.ETIMEDOUT):
		return r.notReading(err)
	}
	return fmt.Errorf("read from the router: %w", stripAddrs(err))
}

// toPass returns what gobgp gets of a message of the router, nil for nothing. recent
// reports whether gobgp got something a moment ago.
func (r *relay) toPass(typ byte, message []byte, recent bool) ([]byte, error) {
	switch typ {
	case typeOpen:
		return r.receiveOpen(message)
	case typeNotification:
		r.receiveNotification(message)
	case typeUpdate:
		r.ignored.Add(1)
		if recent || !r.confirmed() {
			return nil, nil
		}
		return keepalive(), nil // an UPDATE proves that the router lives, as a KEEPALIVE does
	case typeRefresh:
		// Before the session, all routes are about to be sent anyway.
		if r.confirmed() && r.asksForAll(message) {
			r.asked.Set()
		}
		return nil, nil
	case typeKeepalive:
		if recent && r.confirmed() {
			return nil, nil
		}
	}
	return message, nil
}

// pass gives gobgp a message. The router's first KEEPALIVE establishes the session.
func (r *relay) pass(message []byte) error {
	if message[18] != typeKeepalive || r.confirmed() {
		return r.toGobgp(message)
	}
	err := r.establish(func() error { return r.toGobgp(message) }, r.over)
	if err == nil {
		r.confirm(sideRouter)
	}
	return err
}

// asksForAll reports whether a ROUTE-REFRESH asks for routes of a family that the
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

// stripAddrs returns an error without the addresses and ports of the connection, which
// differ each time: the same failure reads the same.
func stripAddrs(err error) error {
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

// receiveOpen checks the router's OPEN before gobgp sees it, and returns what gobgp is to
// see of it.
func (r *relay) receiveOpen(message []byte) ([]byte, error) {
	all, err := parseOpen(message)
	if err == nil {
		var list []capability
		if list, err = capabilitiesOf(message); err == nil {
			message, err = withCapabilities(message, r.usable(understood(list)))
		}
	}
	var o open
	if err == nil {
		o, err = parseOpen(message)
	}
	var bad messageError
	switch {
	case errors.As(err, &bad):
		r.sendNotification(bad.answer(), fmt.Errorf("the router sent what is %w", err))
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
	second := r.remote != nil
	r.remote = &theirs
	r.mu.Unlock()
	if second {
		r.sendNotification(notification(codeStateMachine, 0, ""), errors.New("the router sent a second OPEN"))
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

// usable returns those of a router's capabilities that count: what is left out here is
// used by neither side. Without any multiprotocol capability here, the session
// carries IPv4, whatever the router has.
func (r *relay) usable(list []capability) []capability {
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
		r.sendNotification(notification(codeOpen, openHoldTime, ""), fmt.Errorf(
			"told the router: OPEN error: unacceptable hold time (it is %d s, and 3 s is the least)", hold))
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
	r.sendNotification(notification(codeOpen, openCapability, string(needed)),
		fmt.Errorf("told the router: OPEN error: unsupported capability (the session is to carry %s, "+
			"and the router carries %s)", wanted, theirs.families))
	return errEnded
}

// badAS returns which AS number the router has and which it should have, for a
// NOTIFICATION about a bad peer AS, and "" for any other.
func (r *relay) badAS(message []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	body := message[headerLength:]
	if len(body) < 2 || body[0] != codeOpen || body[1] != openBadPeerAS || r.remote == nil {
		return ""
	}
	return fmt.Sprintf(" (it is AS %d, and the peer is to be AS %d)", r.remote.as, r.peer.PeerASN)
}

func (r *relay) toGobgp(message []byte) error {
	if _, err := r.gobgp.Write(message); err != nil {
		return errEnded // gobgp has sent why before, and fromGobgp has recorded it
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
			if message, err = r.rewriteOpen(message); err != nil {
				return err
			}
		case typeNotification:
			why := fmt.Errorf("told the router: %s%s", inWords(message), r.badAS(message))
			r.sendNotification(message, why)
			continue
		}
		if err := r.write(message); err != nil && !r.over() {
			r.writeFailed(err) // and go on reading: see run
		}
		if typ == typeKeepalive {
			r.confirm(sideGobgp)
		}
	}
}

// rewriteOpen writes into gobgp's OPEN what gobgp cannot be asked for, and takes out of it
// what the peer is not to be offered, or has refused.
func (r *relay) rewriteOpen(message []byte) ([]byte, error) {
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
	r.local, r.offered = &mine, offered
	r.mu.Unlock()
	return message, nil
}

// offer returns which capabilities are offered to the router. gobgp offers every peer the
// name of the host, and internal peers its own version.
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

// recordReason records why the session is about to end. The first reason counts.
func (r *relay) recordReason(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == nil || r.guess && errors.Is(why, errNotReading) {
		r.reason, r.guess = why, false
	}
}

// receiveNotification records the router's NOTIFICATION: that is why the session ends,
// unless this side has ended it.
func (r *relay) receiveNotification(message []byte) {
	why := fmt.Errorf("the router says: %s", inWords(message))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = slices.Clone(message[headerLength:])
	if r.reason == nil || r.guess {
		r.reason, r.guess = why, false
	}
}

// writeFailed ends the connection after an error of a write to it. What the router sent
// before it closed the connection is read first: that is the reason.
func (r *relay) writeFailed(err error) {
	why := fmt.Errorf("write to the router: %w", stripAddrs(err))
	if errors.Is(err, errNotReading) {
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

// notification returns the router's last NOTIFICATION, without its header, and the
// capabilities that the router had been offered.
func (r *relay) notification() (received []byte, offered []capability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received, r.offered
}

// refusedByUs reports whether this side has ended the connection with a NOTIFICATION.
func (r *relay) refusedByUs() bool {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.notified
}

// The two sides of a relay.
const (
	sideGobgp = iota
	sideRouter
)

// confirmed reports whether both sides have confirmed the other's OPEN with a KEEPALIVE.
func (r *relay) confirmed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bothConfirmed()
}

// bothConfirmed is confirmed; the caller holds mu.
func (r *relay) bothConfirmed() bool {
	return r.agreed[sideGobgp] && r.agreed[sideRouter] && r.local != nil && r.remote != nil
}

// confirm records that a side has confirmed the other's OPEN with a KEEPALIVE. When both
// have, the session is established.
func (r *relay) confirm(side int) {
	r.mu.Lock()
	before := r.bothConfirmed()
	r.agreed[side] = true
	if before || !r.bothConfirmed() {
		r.mu.Unlock()
		return
	}
	t := r.terms()
	r.families = t.families
	r.extended.Store(r.local.extended && r.remote.extended)
	r.mu.Unlock()

	r.writing.Lock()
	if !r.ended {
		_ = r.router.SetReadDeadline(time.Time{}) // from here on gobgp's hold timer counts
		r.hold.Store(int64(sendHold(t.hold)))
		if c, ok := r.router.(*net.TCPConn); ok {
			// Also of what is in the kernel's buffer. A kernel that does not know it leaves
			// the deadline of each write.
			_ = control(c, func(fd int) error { return setSendHold(fd, sendHold(t.hold)) })
		}
	}
	r.writing.Unlock()

	r.established(t)
}

// terms returns what follows from both OPENs. The caller holds mu.
func (r *relay) terms() terms {
	t := terms{peerASN: r.remote.as, families: r.local.families & r.remote.families}
	t.hold = time.Second * time.Duration(min(number(r.local.hold), number(r.remote.hold)))
	t.keepalive = min(r.peer.Keepalive, t.hold/3)
	t.omitted = r.omitted.inWords(r.offered)
	t.restart = r.local.restart && r.remote.restart
	t.hard = t.restart && r.local.notification && r.remote.notification
	if t.restart && r.remote.longLived+r.local.longLived > 0 && len(r.remote.longLivedFlags) > 0 {
		t.longLived = time.Duration(r.local.longLived) * time.Second
	}
	return t
}

func number(two []byte) int { return int(two[0])<<8 | int(two[1]) }

// hopsFor chooses the next hops of a session whose local address is local. withheld says
// in words which family has none.
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
		withheld = "IPv4 routes: the router takes no IPv6 next hop for them (RFC 8950), " +
			"and the node has no IPv4 address"
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
