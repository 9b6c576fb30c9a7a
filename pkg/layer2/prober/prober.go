package prober

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// Config configures a [Prober]. The zero value of each field means its
// default.
type Config struct {
	// Logger gets transitions: a node that answers or falls silent, a socket that
	// failed. Default: nothing is logged.
	Logger *slog.Logger
	// Interval is the time between two probes of a target, and how long the first
	// of them may go unanswered; at least a millisecond. With Misses it says how
	// soon a silent node is noticed, and it is what probing costs: one frame each
	// way for each target. Default 100 ms.
	Interval time.Duration
	// Misses is how many probes in a row must stay unanswered before a node is
	// silent, at least 1: frames get lost on a healthy network too. Default 3.
	Misses int
}

func (c Config) withDefaults() Config {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.Interval = cmp.Or(c.Interval, 100*time.Millisecond)
	c.Misses = cmp.Or(c.Misses, 3)
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Interval != 0 && c.Interval < time.Millisecond {
		errs = append(errs, fmt.Errorf("interval %s is shorter than a millisecond", c.Interval))
	}
	if c.Misses < 0 {
		errs = append(errs, fmt.Errorf("misses %d is negative", c.Misses))
	}
	return errors.Join(errs...)
}

// Target is one way to ask whether a node's kernel lives: an address of its own
// that it answers for by itself, even when nothing but the kernel runs there.
type Target struct {
	// Node is whom the answer is about. Several targets of one node are several
	// ways to ask the same: it answers when any of them does.
	Node string
	// Link is the link of this node on which to ask.
	Link string
	// On is the link of the node that has Addr; "" when it does not matter.
	On string
	// Addr is the node's own address on that segment, of either family.
	Addr netip.Addr
	// MAC is where to send to, so that nobody else on the segment is disturbed;
	// nil asks by broadcast, or in the solicited-node group.
	MAC net.HardwareAddr
}

// Reachability is what probes say of a node.
type Reachability uint8

// The states of reachability; the zero value is Unknown.
const (
	// Unknown: no target of the node has answered since it became a target, or
	// since its link came up. Silence means nothing then: the node may not be
	// on the segment at all, or not answer whom it does not route to.
	Unknown Reachability = iota
	// Answers: the node's kernel answers probes.
	Answers
	// Silent: it has answered, and has not for as many probes in a row as
	// Config.Misses says.
	Silent
)

// String is the reachability as a word: "unknown", "answers" or "silent".
func (r Reachability) String() string {
	switch r {
	case Answers:
		return "answers"
	case Silent:
		return "silent"
	default:
		return "unknown"
	}
}

// Reach is what probes say of one node. It is that of the node's best target:
// one that answers before one that is silent before one that is unknown.
type Reach struct {
	State Reachability
	// LastAnswer is when an answer of any target was read; zero before the first.
	LastAnswer time.Time
	// Missed is how many probes were not answered in a row: of the targets in
	// this State, the least.
	Missed int
}

// Prober asks the segments of this node two kinds of questions. Whether another
// node's kernel lives: targets are probed again and again, see
// [Prober.SetTargets] and [Prober.Reach]. And whether an address is free: see
// [Prober.Ask].
//
// A kernel answers ARP and Neighbor Discovery although every process of its
// node may be stopped, and does not when the machine or its cable is dead. Where
// switches answer in place of hosts (ARP suppression), silence is not seen.
//
// A miss is judged only when the probe was really sent, the time for its answer
// is over, and then the socket's queue has been read empty without the kernel
// having dropped anything of it. So a prober that is starved of processor time
// knows too little, but nothing wrong.
//
// One goroutine, that of Run, opens and closes the sockets: for each link and
// protocol one that probes and one that asks, each as long as it is needed. Each
// socket has one goroutine of its own.
type Prober struct {
	config  Config
	log     *slog.Logger
	open    func(neighbor.Spec) (socket, error)
	pacer   *rate.Limiter
	changed notify.Signal
	// wake has Run look again at what the lock guards.
	wake notify.Signal

	// mu is held for decisions only, never across a system call.
	mu      sync.Mutex
	started bool
	ended   bool
	links   map[string]links.Link
	// stale is true when links or targets are newer than the frames in the books.
	stale bool
	books map[portKey]*book
	asks  map[portKey]*askBook
	// reported and reportedLinks are what Changed has woken for last.
	reported      map[string]Reach
	reportedLinks LinkReach
	counters      map[portKey]*counters
}

// portKey is one protocol on one link.
type portKey struct {
	link     string
	protocol neighbor.Protocol
}

func portKeyOf(link string, addr netip.Addr) portKey {
	return portKey{link, neighbor.ProtocolOf(addr)}
}

func comparePortKeys(a, b portKey) int {
	return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.protocol, b.protocol))
}

// New returns a prober that asks nothing and runs nothing. It fails when a
// number in config is out of range.
func New(config Config) (*Prober, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("layer 2 prober: %w", err)
	}
	config = config.withDefaults()
	return &Prober{
		config:   config,
		log:      config.Logger,
		open:     openSocket,
		pacer:    rate.NewLimiter(askRate, askBurst),
		changed:  notify.NewSignal(),
		wake:     notify.NewSignal(),
		links:    make(map[string]links.Link),
		books:    make(map[portKey]*book),
		asks:     make(map[portKey]*askBook),
		reported: make(map[string]Reach),
		counters: make(map[portKey]*counters),
	}, nil
}

// SetLinks sets the links of this node, usually as a watch.Watcher
// saw them. Targets on a link that is gone or down are Unknown: nothing can be
// known there. It may be called from any goroutine and never waits for a socket.
func (p *Prober) SetLinks(all []links.Link) {
	byName := make(map[string]links.Link, len(all))
	for _, l := range all {
		byName[l.Name] = l.Clone()
	}
	p.mu.Lock()
	p.links = byName
	p.stale = true
	p.mu.Unlock()
	p.wake.Set()
}

// SetTargets says what is to be probed: exactly these targets. What is known of
// a target that stays is kept, also when its MAC is another. A target whose
// address no host can have (multicast, unspecified, loopback or invalid) is
// left out with a log entry. SetTargets may be called from any goroutine and
// never waits for a socket.
func (p *Prober) SetTargets(targets []Target) {
	byKey := make(map[portKey][]Target)
	for _, t := range targets {
		t.Addr = t.Addr.Unmap().WithZone("")
		if !t.Addr.IsValid() || !neighbor.CanOwn(t.Addr) {
			p.log.Warn("cannot probe", "node", t.Node, "address", t.Addr, "message", "not a unicast address")
			continue
		}
		t.MAC = bytes.Clone(t.MAC)
		key := portKeyOf(t.Link, t.Addr)
		byKey[key] = append(byKey[key], t)
	}
	now := time.Now()
	p.mu.Lock()
	for key := range byKey {
		if p.books[key] == nil {
			p.books[key] = newBook(p.config.Interval, p.config.Misses, now)
		}
	}
	for key, b := range p.books {
		b.set(byKey[key])
		if len(b.tracks) == 0 {
			delete(p.books, key)
		}
	}
	p.stale = true
	report := p.newsLocked()
	p.mu.Unlock()
	report()
	p.wake.Set()
}

// Reach returns what is known of each node that has a target. The caller may
// keep and change the map.
func (p *Prober) Reach() map[string]Reach {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reachLocked()
}

// Changed returns a channel of one: a value means that since the last one was
// taken a node came to another State, came or went, its Missed became 1 or fell
// back to 0, or LinkReach returns something else. There is one channel for all
// callers.
func (p *Prober) Changed() <-chan struct{} { return p.changed.C() }

// Run probes and asks until ctx ends and then returns nil, when every goroutine
// it started has ended and every socket is closed. Nothing on the network makes
// it end. It can run once; a second call returns an error.
func (p *Prober) Run(ctx context.Context) error {
	p.mu.Lock()
	started := p.started
	p.started = true
	p.mu.Unlock()
	if started {
		return errors.New("layer 2 prober: already ran")
	}
	newLoop(p).run(ctx)
	return nil
}

func (p *Prober) reachLocked() map[string]Reach {
	out := make(map[string]Reach)
	for _, b := range p.books {
		b.addTo(out)
	}
	return out
}

// newsLocked finds out what is new since Changed woke the last time, and returns
// what is left to do for it without the lock.
func (p *Prober) newsLocked() (report func()) {
	for _, b := range p.books {
		b.news = false
	}
	before, after := p.reported, p.reachLocked()
	linksBefore, linksAfter := p.reportedLinks, p.linkReachLocked()
	p.reported, p.reportedLinks = after, linksAfter
	return func() {
		sameNodes := maps.EqualFunc(before, after, func(a, b Reach) bool {
			return outlookOf(a) == outlookOf(b)
		})
		if sameNodes && linksAfter.Equal(linksBefore) {
			return
		}
		for _, node := range slices.Sorted(maps.Keys(after)) {
			if after[node].State == before[node].State {
				continue
			}
			switch after[node].State {
			case Answers:
				p.log.Info("node answers probes", "node", node)
			case Silent:
				p.log.Info("node is silent", "node", node)
			default:
				p.log.Info("node can no longer be probed", "node", node)
			}
		}
		p.changed.Set()
	}
}
