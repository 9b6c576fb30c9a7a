package prober

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

const (
	// askRate bounds the frames that all questions together send in a second:
	// each is a broadcast or multicast that hosts of the segment look at.
	askRate = 2000
	// askPause is how long questions wait when the rate is used up, askBurst what
	// may be sent at once after a pause.
	askPause = 5 * time.Millisecond
	askBurst = 1 + int(2*askRate*askPause/time.Second)
	// askLinger is how long a socket stays open after its last question, because
	// questions come in crowds.
	askLinger = time.Second
	// maxFound bounds the holders and the probers of one question, for a hostile host
	// can make up Ethernet addresses.
	maxFound = 64
)

// Question asks who has an address.
type Question struct {
	// Addr is the address, of either family.
	Addr netip.Addr
	// Link is the link of this node on which to ask.
	Link string
	// Count is how many times to ask, so that a lost frame is not taken for a
	// free address. Default 3, as PROBE_NUM of RFC 5227.
	Count int
	// Interval is how long to wait for an answer each time; the whole takes
	// Count*Interval at least. Default 200 ms: RFC 5227 waits for a second or two,
	// for hosts that are slow to answer and ports that a switch has yet to open.
	Interval time.Duration
	// AsHost asks as a client does, from an address of the link in whose subnet Addr
	// is or, for IPv6, from any that it has. Bridges that suppress ARP and NDP drop
	// what is asked from 0.0.0.0 and ::. Without such an address, it is asked from
	// there all the same, and Found says so. Default: it is asked from 0.0.0.0 or ::.
	AsHost bool
}

func (q Question) withDefaults() Question {
	q.Addr = q.Addr.Unmap().WithZone("")
	q.Count = cmp.Or(q.Count, 3)
	q.Interval = cmp.Or(q.Interval, 200*time.Millisecond)
	return q
}

func (q Question) validate() error {
	switch {
	case !q.Addr.IsValid() || !neighbor.CanOwn(q.Addr):
		return errors.New("not a unicast address")
	case q.Count < 0:
		return fmt.Errorf("count %d is negative", q.Count)
	case q.Interval < 0:
		return fmt.Errorf("interval %s is negative", q.Interval)
	}
	return nil
}

// Errors of Ask, which it wraps.
var (
	// ErrLinkUnusable: the link is missing, down or no Ethernet link, or it
	// changed before all was asked.
	ErrLinkUnusable = errors.New("link cannot be used")
	// ErrFramesLost: nobody was found, but answers may have been among the frames
	// that this process was too slow to read.
	ErrFramesLost = errors.New("received frames were lost")
	// ErrStopped: Run has ended.
	ErrStopped = errors.New("prober has stopped")
)

// Ask finds out who has an address, without saying that this node wants to have
// it: by ARP Probes (RFC 5227 2.1.1) or by the solicitations of duplicate
// address detection (RFC 4862 5.4, with the nonce of RFC 7527). It returns who
// says that he has it, by any ARP packet or Neighbor Advertisement, and who asks
// the same at the same time. The link's own Ethernet address is none of them. None
// of either means that it is free.
// For IPv6 the question is not without effect: a host that is about to take the
// same address gives it up when it hears of another who asks (RFC 4862 5.4.3).
// A question [Question.AsHost] tells hosts where the node's own address is, and of
// Addr nothing. A host that probes for the address does not hear it.
//
// Ask always waits for the whole time, Count*Interval since the first frame was
// sent, and longer when many ask at once: all questions of a prober together
// send at most 2000 frames in a second, what is due first before what is due
// later. So n questions that are asked together take n*Count/2000 seconds at least.
//
// An error means that nothing is known but what is returned beside it: ctx
// ended (its error is wrapped), ErrLinkUnusable, ErrFramesLost, ErrStopped, an
// unusable question, or a socket or device that failed. Before Run, Ask waits.
// It may be called from any number of goroutines.
func (p *Prober) Ask(ctx context.Context, q Question) (Found, error) {
	q = q.withDefaults()
	if err := q.validate(); err != nil {
		return Found{}, fmt.Errorf("ask for %s: %w", q.Addr, err)
	}
	a := &asking{
		Question: q,
		left:     q.Count,
		holders:  make(map[string]struct{}),
		probers:  make(map[string]struct{}),
		done:     make(chan struct{}),
	}
	if group, ok := neighbor.Group(q.Addr); ok {
		a.group, a.nonce = group, ndp.NewNonce()
	}
	key := portKeyOf(q.Link, q.Addr)
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return Found{}, fmt.Errorf("ask for %s: %w", q.Addr, ErrStopped)
	}
	p.counterLocked(key).asks.Add(1)
	if p.asks[key] == nil {
		p.asks[key] = newAskBook()
	}
	p.asks[key].add(a, time.Now())
	p.mu.Unlock()
	p.wake.Set()

	select {
	case <-a.done:
	case <-ctx.Done():
		p.mu.Lock()
		if p.asks[key].remove(a) {
			a.err = ctx.Err()
		}
		p.mu.Unlock()
		// Its group is left.
		p.wake.Set()
	}
	// Nobody else knows of the question any more.
	if a.err != nil {
		return a.found(), fmt.Errorf("ask for %s on %s: %w", q.Addr, q.Link, a.err)
	}
	return a.found(), nil
}

// Found is who was found to have an address, or to want it: their Ethernet
// addresses, sorted and each once. Of each kind it has the first 64 at most.
type Found struct {
	// Holders say that they have it.
	Holders []net.HardwareAddr
	// Probers asked whether it is free, and do not say that they have it.
	Probers []net.HardwareAddr
	// Unsourced is set when it was to be asked AsHost, and a frame was sent from
	// 0.0.0.0 or ::, since the link has no address to ask from. A host behind a
	// bridge that suppresses ARP and NDP has not heard it.
	Unsourced bool
}

// asking is one call of Ask.
type asking struct {
	Question
	// group is where others ask for the same IPv6 address, nonce what tells our
	// frames from theirs.
	group netip.Addr
	nonce *ndp.Nonce
	// left is how many frames are still to be sent; failed how many could not be.
	left, failed int
	// due is when to send the next frame or, when none is left, to end.
	due time.Time
	// lossy is true when frames were lost since it began.
	lossy bool
	// unsourced is true when a frame was sent without the sender that was asked for.
	unsourced bool
	holders   map[string]struct{}
	probers   map[string]struct{}
	position  int // in its queue; -1 in none
	err       error
	done      chan struct{}
}

// found returns who was found.
func (a *asking) found() Found {
	out := Found{Unsourced: a.unsourced}
	for _, mac := range slices.Sorted(maps.Keys(a.holders)) {
		out.Holders = append(out.Holders, net.HardwareAddr(mac))
	}
	for _, mac := range slices.Sorted(maps.Keys(a.probers)) {
		if _, has := a.holders[mac]; !has {
			out.Probers = append(out.Probers, net.HardwareAddr(mac))
		}
	}
	return out
}

// askBook keeps the questions of one protocol on one link. It is pure but for
// telling those who asked of the end: the caller has the clock, the socket and
// the lock.
type askBook struct {
	byAddr map[netip.Addr][]*asking
	// sends and ends are the questions with frames left, and those that wait for
	// their last answers. They are apart so that no end waits for the pace.
	sends, ends askQueue
	// groups counts the questions for each group; left are groups that may have
	// none any more.
	groups map[netip.Addr]int
	left   []netip.Addr
}

func newAskBook() *askBook {
	return &askBook{byAddr: make(map[netip.Addr][]*asking), groups: make(map[netip.Addr]int)}
}

func (b *askBook) add(a *asking, now time.Time) {
	a.due = now
	b.byAddr[a.Addr] = append(b.byAddr[a.Addr], a)
	heap.Push(&b.sends, a)
	if a.group.IsValid() {
		b.groups[a.group]++
	}
}

// remove takes a question out, and returns false when it has ended already.
func (b *askBook) remove(a *asking) bool {
	all := b.byAddr[a.Addr]
	at := slices.Index(all, a)
	if at < 0 {
		return false
	}
	if b.byAddr[a.Addr] = slices.Delete(all, at, at+1); len(b.byAddr[a.Addr]) == 0 {
		delete(b.byAddr, a.Addr)
	}
	heap.Remove(b.queueOf(a), a.position)
	if a.group.IsValid() {
		if b.groups[a.group]--; b.groups[a.group] == 0 {
			delete(b.groups, a.group)
			b.left = append(b.left, a.group)
		}
	}
	return true
}

// end ends a question for the one who asked it.
func (b *askBook) end(a *asking, err error) {
	if b.remove(a) {
		a.err = err
		close(a.done)
	}
}

// endAll ends all questions with an error.
func (b *askBook) endAll(err error) {
	for _, addr := range addresses(b.byAddr) {
		for _, a := range slices.Clone(b.byAddr[addr]) {
			b.end(a, err)
		}
	}
}

func (b *askBook) queueOf(a *asking) *askQueue {
	if a.left == 0 {
		return &b.ends
	}
	return &b.sends
}

// saw notes what a frame says. A solicitation with our own nonce is ours, come
// back by whatever way.
func (b *askBook) saw(s sighting) {
	if b == nil {
		return
	}
	for _, a := range b.byAddr[s.addr] {
		if s.nonce == nil || a.nonce == nil || !s.nonce.Equal(a.nonce) {
			who := a.holders
			if s.what == sawProber {
				who = a.probers
			}
			if len(who) < maxFound {
				who[string(s.mac)] = struct{}{}
			}
		}
	}
}

// lose notes that frames were lost.
func (b *askBook) lose() {
	for _, all := range b.byAddr {
		for _, a := range all {
			a.lossy = true
		}
	}
}

// finish ends the questions whose time is over. The caller has read the queue
// empty after it looked at the clock for now.
func (b *askBook) finish(now time.Time) {
	for len(b.ends) > 0 && !b.ends[0].due.After(now) {
		a := b.ends[0]
		if a.lossy && len(a.holders)+len(a.probers) == 0 {
			b.end(a, ErrFramesLost)
			continue
		}
		b.end(a, nil)
	}
}

// take returns the question whose next frame is due first.
func (b *askBook) take(now time.Time) (*asking, bool) {
	if len(b.sends) == 0 || b.sends[0].due.After(now) {
		return nil, false
	}
	return b.sends[0], true
}

// asked notes that the frame of a question was sent, from an address of the link or
// not, or why it could not be. It is tried again then, after an interval, as many
// times as it is to be asked.
func (b *askBook) asked(a *asking, now time.Time, sourced bool, sendErr error) {
	if !slices.Contains(b.byAddr[a.Addr], a) {
		return // nobody waits for it any more
	}
	if sendErr != nil {
		if a.failed++; a.failed >= a.Count {
			b.end(a, sendErr)
			return
		}
	}
	heap.Remove(&b.sends, a.position)
	if sendErr == nil {
		a.left--
		a.unsourced = a.unsourced || a.AsHost && !sourced
	}
	a.due = now.Add(a.Interval)
	heap.Push(b.queueOf(a), a)
}

// next returns when something is due, false when nothing will be.
func (b *askBook) next() (time.Time, bool) {
	var next time.Time
	for _, q := range []askQueue{b.sends, b.ends} {
		if len(q) > 0 && (next.IsZero() || q[0].due.Before(next)) {
			next = q[0].due
		}
	}
	return next, !next.IsZero()
}

// leave returns the groups that have lost their last question since the last call.
func (b *askBook) leave() []netip.Addr {
	left := slices.DeleteFunc(b.left, func(group netip.Addr) bool { return b.groups[group] > 0 })
	b.left = nil
	return left
}

// askQueue is a heap by due time, then by address so that the order is stated.
type askQueue []*asking

func (q askQueue) Len() int { return len(q) }

func (q askQueue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].Addr.Less(q[j].Addr)
}

func (q askQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = i, j
}

// Push implements heap.Interface.
func (q *askQueue) Push(x any) {
	a := x.(*asking)
	a.position = len(*q)
	*q = append(*q, a)
}

// Pop implements heap.Interface.
func (q *askQueue) Pop() any {
	old := *q
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return a
}

// addresses returns the sorted keys of a set of addresses.
func addresses[V any](set map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}
