package layer2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Config configures an [Announcer]. The zero value of each field means its
// default.
type Config struct {
	// Logger gets transitions: an address announced or withdrawn on a link, a
	// socket that failed. Default: nothing is logged.
	Logger *slog.Logger
	// BurstCount is how many times an address is announced unasked when it comes
	// to a link, so that one lost frame does not leave a neighbour with the old
	// place; at least 1. Each is two frames for IPv4, one for IPv6. Default 5.
	BurstCount int
	// BurstInterval is the time between two announcements of a burst; the first
	// is sent at once. With BurstCount it bounds how long neighbours may be cut
	// off (by a port that a switch has not opened yet, for example) and still
	// learn. Default 500 ms.
	BurstInterval time.Duration
	// BurstRate bounds how many announcements are sent in a second over all links,
	// so that taking over thousands of addresses is no broadcast storm. First
	// announcements go before repetitions. Default 10000: 2000 addresses are all
	// announced once within 0.2 s.
	BurstRate int
}

func (c Config) withDefaults() Config {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.BurstCount = cmp.Or(c.BurstCount, 5)
	c.BurstInterval = cmp.Or(c.BurstInterval, 500*time.Millisecond)
	c.BurstRate = cmp.Or(c.BurstRate, 10000)
	return c
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
// way to the socket.
type Announcer struct {
	config Config
	log    *slog.Logger
	open   func(socketSpec) (frameSocket, error)
	// wake tells Run to look again at what the lock guards.
	wake chan struct{}

	// mu is held for look-ups and changes of the maps only, never across a
	// system call.
	mu      sync.RWMutex
	started bool
	// desired has for each address the links it is to be announced on, by name.
	desired map[netip.Addr][]claim
	serial  uint64
	// links is the last snapshot, by name. It is replaced, never changed.
	links       map[string]Link
	linksSerial uint64
	// The rest is written by Run, for others to read.
	live     map[burstKey]liveClaim
	problems map[portKey]Problem
	counters map[portKey]*linkCounters
}

// claim is one link of one address. Its serial is new each time when the address
// comes to the link.
type claim struct {
	link   string
	serial uint64
}

// liveClaim is a claim that is being answered.
type liveClaim struct {
	serial uint64
	since  time.Time
}

// NewAnnouncer returns an announcer that announces nothing and runs nothing. It
// fails when a number in config is negative.
func NewAnnouncer(config Config) (*Announcer, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("layer 2 announcer: %w", err)
	}
	config = config.withDefaults()
	return &Announcer{
		config:   config,
		log:      config.Logger,
		open:     openSocket,
		wake:     make(chan struct{}, 1),
		desired:  make(map[netip.Addr][]claim),
		links:    make(map[string]Link),
		live:     make(map[burstKey]liveClaim),
		problems: make(map[portKey]Problem),
		counters: make(map[portKey]*linkCounters),
	}, nil
}

// Set says on which links addr is to be announced: on all of those named and on
// no other. No links withdraws it. Setting what is already set does nothing, a
// link that is new for the address gets a burst, and links that this node does
// not have, or not yet, are remembered. An address that no host can have
// (multicast, unspecified, loopback or invalid) is ignored with a log entry.
//
// Set may be called from any goroutine, before, during and after Run, and never
// waits for a socket. When it returns, withdrawn addresses are not answered.
func (a *Announcer) Set(addr netip.Addr, links []string) {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.IsLoopback() {
		a.log.Warn("cannot announce", "address", addr, "reason", "not a unicast address")
		return
	}
	names := slices.Clone(links)
	slices.Sort(names)
	names = slices.Compact(names)

	a.mu.Lock()
	changed := a.setLocked(addr, names)
	a.mu.Unlock()
	if changed {
		signal(a.wake)
	}
}

// setLocked changes the desired links of addr and reports whether it had to.
func (a *Announcer) setLocked(addr netip.Addr, names []string) bool {
	old := a.desired[addr]
	if slices.EqualFunc(old, names, func(c claim, name string) bool { return c.link == name }) {
		return false
	}
	if len(names) == 0 {
		delete(a.desired, addr)
		return true
	}
	claims := make([]claim, len(names))
	for i, name := range names {
		if at := slices.IndexFunc(old, func(c claim) bool { return c.link == name }); at >= 0 {
			claims[i] = old[at]
			continue
		}
		a.serial++
		claims[i] = claim{name, a.serial}
	}
	a.desired[addr] = claims
	return true
}

// SetLinks tells the announcer the links of this node, usually as a
// [LinkWatcher] saw them. Addresses on a link that is gone or down are not
// announced there; on one that is new, came up or got another index or Ethernet
// address, they are announced anew, with a burst.
//
// SetLinks may be called from any goroutine and never waits for a socket.
func (a *Announcer) SetLinks(links []Link) {
	byName := make(map[string]Link, len(links))
	for _, l := range links {
		byName[l.Name] = l.clone()
	}
	a.mu.Lock()
	a.links = byName
	a.linksSerial++
	a.mu.Unlock()
	signal(a.wake)
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
	newLoop(a).run(ctx)
	return nil
}

// announces reports whether addr is to be announced on the link.
func (a *Announcer) announces(addr netip.Addr, link string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.ContainsFunc(a.desired[addr], func(c claim) bool { return c.link == link })
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
