package announcer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// Config configures an [Announcer]. The zero value of each field means its
// default.
type Config struct {
	// Logger gets transitions: an address announced or withdrawn on a link, a
	// socket that failed, another host that claims an address, a stall. Default:
	// nothing is logged.
	Logger *slog.Logger
	// Pass is called for each pass of the loop that sends and opens sockets, so that
	// somebody notices when one does not end. Default: nobody is called.
	Pass Pass
	// BurstCount is how many times an address is announced unasked when it comes
	// to a link, so that one lost frame does not leave a neighbour with the old
	// place; at least 1. Each is three frames for IPv4, two for IPv6. Default 5.
	BurstCount int
	// BurstInterval is the time between two announcements of a burst; the first
	// is sent at once. With BurstCount it bounds how long neighbours may be cut
	// off (by a port that a switch has not opened yet, for example) and still
	// learn. Default 500 ms.
	BurstInterval time.Duration
	// RefreshInterval is the time between two announcements after the burst; see
	// [Policy]. Default 90 s; negative is never.
	RefreshInterval time.Duration
	// BurstRate bounds how many announcements are sent in a second over all links,
	// so that taking over thousands of addresses is no broadcast storm. First
	// announcements go before repetitions, and these before refreshes. Default
	// 10000: 2000 addresses are all announced once within 0.2 s.
	BurstRate int
	// RepeatRate bounds how many of them are repetitions and refreshes: nobody
	// waits for those, and every host of the LAN has to look at each. Default 1000.
	RepeatRate int
	// Stall is how long this process may be stalled before it stops to trust
	// what it knows; see [Announcer.Suspended]. It must be more than the beat of
	// 50 ms and the pauses of a busy machine. Default 300 ms; negative is never.
	Stall time.Duration
}

// Pass is called when a pass of a loop begins, and when it has ended and the loop
// waits. Its methods return at once.
type Pass interface {
	Begin()
	End()
}

// noPass does nothing.
type noPass struct{}

func (noPass) Begin() {}
func (noPass) End()   {}

func (c Config) withDefaults() Config {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Pass == nil {
		c.Pass = noPass{}
	}
	c.BurstCount = cmp.Or(c.BurstCount, 5)
	c.BurstInterval = cmp.Or(c.BurstInterval, 500*time.Millisecond)
	c.RefreshInterval = cmp.Or(c.RefreshInterval, 90*time.Second)
	c.BurstRate = cmp.Or(c.BurstRate, 10000)
	c.RepeatRate = cmp.Or(c.RepeatRate, 1000)
	c.Stall = cmp.Or(c.Stall, 300*time.Millisecond)
	return c
}

// policy is what holds for addresses that say nothing else.
func (c Config) policy() Policy {
	return Policy{Count: c.BurstCount, Interval: c.BurstInterval, Refresh: c.RefreshInterval}
}

func (c Config) validate() error {
	var errs []error
	if c.BurstCount < 0 {
		errs = append(errs, fmt.Errorf("burst count %d is negative", c.BurstCount))
	}
	if c.BurstInterval < 0 {
		errs = append(errs, fmt.Errorf("burst interval %s is negative", c.BurstInterval))
	}
	if c.BurstRate < 0 {
		errs = append(errs, fmt.Errorf("burst rate %d is negative", c.BurstRate))
	}
	if c.RepeatRate < 0 {
		errs = append(errs, fmt.Errorf("repeat rate %d is negative", c.RepeatRate))
	}
	if c.Stall > 0 && c.Stall <= beatInterval {
		errs = append(errs, fmt.Errorf("stall %s is not more than the beat of %s", c.Stall, beatInterval))
	}
	return errors.Join(errs...)
}

// Announcer announces addresses on the links of this node: whole desired states
// go in by [Announcer.Set] and [Announcer.SetLinks], and it applies the
// differences.
//
// One goroutine, that of Run, owns the sockets, the filters and the bursts. Each
// socket has one more goroutine, which answers requests by itself: it looks the
// target up in the desired state, so an address that was withdrawn is not
// answered any more when Set returns, except for a reply that was already on its
// way to the socket. One more goroutine beats, to notice that all of them stood
// still.
type Announcer struct {
	config Config
	log    *slog.Logger
	open   func(neighbor.Spec) (socket, error)
	router func(ifindex int) neighbor.Binding
	guard  *guard
	// wake has Run look again at what the lock guards.
	wake    notify.Signal
	changed notify.Signal

	// mu is held for look-ups and changes of the maps only, never across a
	// system call.
	mu      sync.RWMutex
	started bool
	// desired has what is wanted of each address.
	desired map[netip.Addr]wish
	serial  uint64
	// stale are the addresses whose wish changed since the last pass of Run; passing is set
	// during a pass, and passed is closed when it ends, and replaced.
	stale   map[netip.Addr]struct{}
	passing bool
	passed  chan struct{}
	// links is the last snapshot, by name, and macs are their Ethernet
	// addresses. They are replaced, never changed, and so is members.
	links       map[string]links.Link
	linksSerial uint64
	macs        macSet
	members     macSet
	contests    *contests
	// defences are claims to answer with an announcement, for Run to send.
	defences []burstKey
	// The rest is written by Run, for others to read.
	live     map[burstKey]livePlacement
	problems map[portKey]Problem
	counters map[portKey]*linkCounters
}

// livePlacement is a placement that is being answered for.
type livePlacement struct {
	placement
	since time.Time
	// announced is when the first frame was sent for its serial.
	announced time.Time
}

// New returns an announcer that announces nothing and runs nothing. It
// fails when a number in config is out of its range.
func New(config Config) (*Announcer, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("layer 2 announcer: %w", err)
	}
	config = config.withDefaults()
	a := &Announcer{
		config:   config,
		log:      config.Logger,
		open:     openSocket,
		router:   neighbor.Router,
		wake:     notify.NewSignal(),
		changed:  notify.NewSignal(),
		desired:  make(map[netip.Addr]wish),
		stale:    make(map[netip.Addr]struct{}),
		passed:   make(chan struct{}),
		links:    make(map[string]links.Link),
		contests: newContests(),
		live:     make(map[burstKey]livePlacement),
		problems: make(map[portKey]Problem),
		counters: make(map[portKey]*linkCounters),
	}
	a.guard = newGuard(config.Stall, sinceBoot, a.stalled)
	return a, nil
}

// SetLinks sets the links of this node, usually as a
// watch.Watcher saw them. Addresses on a link that is gone or down are not
// announced there; on one that is new, came up or got another index or Ethernet
// address, they are announced anew, with a burst.
//
// SetLinks may be called from any goroutine and never waits for a socket.
func (a *Announcer) SetLinks(all []links.Link) {
	byName := make(map[string]links.Link, len(all))
	macs := make(macSet, len(all))
	for _, l := range all {
		byName[l.Name] = l.Clone()
		macs.add(l.HardwareAddr)
	}
	a.mu.Lock()
	a.links, a.macs = byName, macs
	a.linksSerial++
	a.mu.Unlock()
	a.wake.Set()
}

// Applied waits until all that was set is in force, as far as links and sockets allow it:
// a request that arrives from then on is answered, be it late. It reports whether that was
// so within the limit. Changes that others set meanwhile are waited for, too.
func (a *Announcer) Applied(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		a.mu.RLock()
		applied, passed := len(a.stale) == 0 && !a.passing, a.passed
		a.mu.RUnlock()
		if applied {
			return true
		}
		select {
		case <-passed:
		case <-timer.C:
			return false
		}
	}
}

// Changed returns a channel of one: a value means that Conflicts or Suspended may
// return something else than when the last value was taken, or that State has an
// address that was announced for the first time. There is one channel for all
// callers.
func (a *Announcer) Changed() <-chan struct{} { return a.changed.C() }

// Suspended reports whether the announcer answers nothing and announces nothing,
// because this process was stalled: it was stopped, starved of processor time, or
// the machine slept, for longer than [Config].Stall. Others may have taken over
// its addresses meanwhile, so a request that waited in a socket must not be
// answered from what was true before. The caller makes sure of what is true now, and
// then calls Resume.
func (a *Announcer) Suspended() bool { return a.guard.isSuspended() }

// Resume ends a suspension that Suspended has reported. If the process was stalled
// once more since Suspended was last asked, it stays suspended and Changed wakes
// again: what the caller made sure of may not be true any more.
func (a *Announcer) Resume() {
	if a.guard.resume() {
		a.log.Info("resumed")
		a.wake.Set()
	}
	a.changed.Set()
}

// stalled is called by the guard, from any goroutine, when it suspends.
func (a *Announcer) stalled(took time.Duration) {
	a.log.Warn("process was stalled; answering nothing until ownership is confirmed",
		"duration", took.String())
	a.changed.Set()
}

// Run announces until ctx ends and then returns nil, when every goroutine it
// started has ended and every socket is closed. Nothing on the network makes it
// end. It can run once; a second call returns an error.
func (a *Announcer) Run(ctx context.Context) error {
	a.mu.Lock()
	started := a.started
	a.started = true
	a.mu.Unlock()
	if started {
		return errors.New("layer 2 announcer: already ran")
	}
	a.guard.start()
	var beats sync.WaitGroup
	beats.Go(func() { a.guard.run(ctx) })
	newLoop(a).run(ctx)
	beats.Wait()
	return nil
}

// isOurs reports whether mac belongs to a link of this node.
func (a *Announcer) isOurs(mac net.HardwareAddr) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.macs.has(mac)
}

// isMember reports whether mac was named by SetMembers.
func (a *Announcer) isMember(mac net.HardwareAddr) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.members.has(mac)
}

// counter returns the counters of a port key, made on first use.
func (a *Announcer) counter(key portKey) *linkCounters {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counters[key]
	if c == nil {
		c = new(linkCounters)
		a.counters[key] = c
	}
	return c
}

// macSet is a set of Ethernet addresses.
type macSet map[[neighbor.MACLen]byte]struct{}

// add ignores what is not an Ethernet address.
func (s macSet) add(mac net.HardwareAddr) {
	if len(mac) == neighbor.MACLen {
		s[[neighbor.MACLen]byte(mac)] = struct{}{}
	}
}

func (s macSet) has(mac net.HardwareAddr) bool {
	if len(mac) != neighbor.MACLen {
		return false
	}
	_, ok := s[[neighbor.MACLen]byte(mac)]
	return ok
}
