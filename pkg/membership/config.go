package membership

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is the port of Berth's speakers, UDP and TCP. MetalLB's use 7946,
// so both can run on one node.
const DefaultPort = 7947

// MaxMeta is the largest size of a member's meta data in bytes.
const MaxMeta = memberlist.MetaMaxSize

// Config configures a [Membership].
type Config struct {
	// Name is this member's name, unique in the cluster: the node's. Required.
	Name string
	// BindAddr is the address to listen on. It may be unspecified (0.0.0.0 or ::)
	// when AdvertiseAddr is given. Required.
	BindAddr netip.Addr
	// AdvertiseAddr is the address that others reach this member at. Default:
	// BindAddr. All members of a cluster must use one address family: with mixed
	// ones they join and then fail every probe.
	AdvertiseAddr netip.Addr
	// Port is the UDP and TCP port of this member. Default: DefaultPort.
	Port uint16
	// Keys encrypt and decrypt: 16, 24 or 32 bytes for AES-128, AES-192 or
	// AES-256. The first encrypts, each may decrypt. At least one is required.
	Keys [][]byte
	// ClusterLabel separates clusters that share a network: members with another
	// label are strangers. At most 255 bytes; it is not secret.
	ClusterLabel string
	// Timing says how fast and how careful failures are detected.
	Timing Timing
	// RejoinInterval is how often peers that are not alive are asked to join. A
	// shorter one heals partitions sooner and costs one TCP connection for each
	// missing peer. Default 5 s.
	RejoinInterval time.Duration
	// Logger gets members that came and went, and what memberlist has to say.
	// Default: nothing is logged.
	Logger *slog.Logger
}

// Timing is the trade between detecting a dead member soon and taking a busy one
// for dead. A member that dies without a word is declared dead after about
//
//	ProbeInterval + SuspicionMult * max(1, log10(members)) * ProbeInterval
//
// when enough others confirm, and after SuspicionMaxTimeoutMult times the second
// part when they do not. With the defaults and ten members that is 1 s, at most
// 1.75 s. A member that leaves in order is known to have left at once.
//
// The zero value of each field means its default.
type Timing struct {
	// ProbeInterval is how often each member probes one other. Half of it detects
	// twice as fast and costs twice the packets. Default 250 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long a probe waits for its answer before third members
	// are asked; longer than nearly every round trip, scheduling delays included,
	// and shorter than ProbeInterval. A longer one forgives busier members and
	// leaves less time for the third ones. Default 125 ms.
	ProbeTimeout time.Duration
	// SuspicionMult is how many probe intervals, times max(1, log10(members)), a
	// member is suspected before it is declared dead, in which it can refute. More
	// is calmer and slower in proportion. Default 3.
	SuspicionMult int
	// SuspicionMaxTimeoutMult stretches the suspicion while no other member
	// confirms it, as happens when it is this one that has a problem; at least 1.
	// More is calmer when half of the network is cut off. Default 2.
	SuspicionMaxTimeoutMult int
	// GossipInterval is how often news are passed on that found no probe to ride
	// on. A shorter one spreads news sooner and costs packets while there are
	// news. Default 50 ms.
	GossipInterval time.Duration
	// GossipNodes is how many members the news are passed on to each time. More
	// spreads faster. Default 3.
	GossipNodes int
	// PushPullInterval is how often the whole state is exchanged with one member
	// over TCP, to repair what gossip lost. Shorter repairs sooner and costs a
	// connection and some 100 bytes for each member. Default 15 s.
	PushPullInterval time.Duration
	// StreamTimeout bounds one TCP exchange, so also how long a join waits for an
	// address where nobody answers, and how long Run may take to end. Default 2 s.
	StreamTimeout time.Duration
}

// DefaultTiming returns the defaults of each field.
func DefaultTiming() Timing {
	return Timing{
		ProbeInterval:           250 * time.Millisecond,
		ProbeTimeout:            125 * time.Millisecond,
		SuspicionMult:           3,
		SuspicionMaxTimeoutMult: 2,
		GossipInterval:          50 * time.Millisecond,
		GossipNodes:             3,
		PushPullInterval:        15 * time.Second,
		StreamTimeout:           2 * time.Second,
	}
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if !c.AdvertiseAddr.IsValid() {
		c.AdvertiseAddr = c.BindAddr
	}
	c.BindAddr, c.AdvertiseAddr = c.BindAddr.Unmap(), c.AdvertiseAddr.Unmap()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Port, DefaultPort)
	setDefault(&c.RejoinInterval, 5*time.Second)
	t, d := &c.Timing, DefaultTiming()
	setDefault(&t.ProbeInterval, d.ProbeInterval)
	setDefault(&t.ProbeTimeout, d.ProbeTimeout)
	setDefault(&t.SuspicionMult, d.SuspicionMult)
	setDefault(&t.SuspicionMaxTimeoutMult, d.SuspicionMaxTimeoutMult)
	setDefault(&t.GossipInterval, d.GossipInterval)
	setDefault(&t.GossipNodes, d.GossipNodes)
	setDefault(&t.PushPullInterval, d.PushPullInterval)
	setDefault(&t.StreamTimeout, d.StreamTimeout)
	return c
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

// validate reports everything that is wrong with a config that has its defaults.
func (c Config) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.Name == "", "name is empty")
	refuse(!c.BindAddr.IsValid(), "bind address is missing")
	if c.BindAddr.IsValid() {
		refuse(c.AdvertiseAddr.IsUnspecified(), "advertise address is missing, and the bind address %s is none", c.BindAddr)
		refuse(!c.BindAddr.IsUnspecified() && c.BindAddr.Is4() != c.AdvertiseAddr.Is4(),
			"bind address %s and advertise address %s are of different families", c.BindAddr, c.AdvertiseAddr)
	}
	refuse(len(c.ClusterLabel) > memberlist.LabelMaxSize, "cluster label has %d bytes, at most %d are possible", len(c.ClusterLabel), memberlist.LabelMaxSize)
	refuse(c.RejoinInterval < 0, "rejoin interval %s is negative", c.RejoinInterval)
	t := c.Timing
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"probe interval", t.ProbeInterval},
		{"probe timeout", t.ProbeTimeout},
		{"gossip interval", t.GossipInterval},
		{"push-pull interval", t.PushPullInterval},
		{"stream timeout", t.StreamTimeout},
	} {
		refuse(d.value < 0, "%s %s is negative", d.name, d.value)
	}
	refuse(t.ProbeTimeout >= t.ProbeInterval, "probe timeout %s is not shorter than the probe interval %s", t.ProbeTimeout, t.ProbeInterval)
	refuse(t.SuspicionMult < 1, "suspicion multiplier %d is less than 1", t.SuspicionMult)
	refuse(t.SuspicionMaxTimeoutMult < 1, "suspicion maximum multiplier %d is less than 1", t.SuspicionMaxTimeoutMult)
	refuse(t.GossipNodes < 1, "gossip nodes %d is less than 1", t.GossipNodes)
	return errors.Join(errs...)
}

// memberlistConfig is what memberlist gets to hear.
func (m *Membership) memberlistConfig() *memberlist.Config {
	c, t := m.config, m.config.Timing
	out := memberlist.DefaultLANConfig()
	out.Name = c.Name
	out.BindAddr, out.BindPort = c.BindAddr.String(), int(c.Port)
	out.AdvertiseAddr, out.AdvertisePort = c.AdvertiseAddr.String(), int(c.Port)
	out.Label = c.ClusterLabel
	out.Keyring = m.keys.ring
	out.Delegate, out.Events = m.view, m.view
	out.Logger = m.lines.logger()
	out.TCPTimeout = t.StreamTimeout
	out.ProbeInterval, out.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	out.SuspicionMult, out.SuspicionMaxTimeoutMult = t.SuspicionMult, t.SuspicionMaxTimeoutMult
	out.GossipInterval, out.GossipNodes = t.GossipInterval, t.GossipNodes
	out.PushPullInterval = t.PushPullInterval
	// The rejoin loop brings the dead back; gossip need not try for longer.
	out.GossipToTheDeadTime = c.RejoinInterval
	// A node that was set up anew may come back with another address under its
	// old name once it is known to be dead.
	out.DeadNodeReclaimTime = time.Second
	return out
}
