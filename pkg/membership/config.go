package membership

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// DefaultPort is the port of Berth's speakers, UDP and TCP. MetalLB's use 7946,
// so both can run on one node.
const DefaultPort = 7947

// minRejoin is the shortest default of Config.RejoinInterval.
const minRejoin = 2 * time.Second

// Config configures a [Membership].
type Config struct {
	// Name is this member's name, unique in the cluster: the node's. Required.
	Name string
	// BindAddr is the address to listen on. It may be unspecified (0.0.0.0 or ::)
	// when AdvertiseAddr is given. Required.
	BindAddr netip.Addr
	// AdvertiseAddr is the address that others reach this member at. Default:
	// BindAddr. All members of a cluster must use one address family: with mixed
	// ones they do not find each other.
	AdvertiseAddr netip.Addr
	// Port is the UDP and TCP port of this member. Default: DefaultPort.
	Port uint16
	// Keys encrypt and decrypt: 16, 24 or 32 bytes for AES-128, AES-192 or
	// AES-256. The first encrypts, each may decrypt. At least one is required.
	Keys [][]byte
	// ClusterLabel separates clusters that share a network: members with another
	// label are strangers. At most 255 bytes; it is not secret.
	ClusterLabel string
	// Timing sets how fast and how carefully failures are detected.
	Timing Timing
	// RejoinInterval is how often peers that are not alive are asked to join. A
	// shorter one heals partitions sooner and costs one TCP connection for each
	// missing peer. Default: five probe intervals, but at least 2 s.
	RejoinInterval time.Duration
	// Logger gets members that came and went, and the lines of memberlist.
	// Default: nothing is logged.
	Logger *slog.Logger
	// Pass is called at the beginning and the end of each pass of the loop that evaluates
	// members and joins them, so that a pass that does not end is noticed. Default: nobody
	// does.
	Pass Pass
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if !c.AdvertiseAddr.IsValid() {
		c.AdvertiseAddr = c.BindAddr
	}
	c.BindAddr, c.AdvertiseAddr = c.BindAddr.Unmap(), c.AdvertiseAddr.Unmap()
	if c.Pass == nil {
		c.Pass = noPass{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Port, DefaultPort)
	t, d := &c.Timing, DefaultTiming()
	setDefault(&t.ProbeInterval, d.ProbeInterval)
	setDefault(&t.ProbeTimeout, d.ProbeTimeout)
	setDefault(&t.SuspicionMult, d.SuspicionMult)
	setDefault(&t.SuspicionMaxTimeoutMult, d.SuspicionMaxTimeoutMult)
	setDefault(&t.GossipInterval, d.GossipInterval)
	setDefault(&t.GossipNodes, d.GossipNodes)
	setDefault(&t.PushPullInterval, d.PushPullInterval)
	setDefault(&t.StreamTimeout, d.StreamTimeout)
	setDefault(&c.RejoinInterval, max(minRejoin, 5*t.ProbeInterval))
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
	refuse(len(c.Name) > kv.MaxName, "name has %d bytes, at most %d are possible", len(c.Name), kv.MaxName)
	refuse(!c.BindAddr.IsValid(), "bind address is missing")
	if c.BindAddr.IsValid() {
		refuse(c.AdvertiseAddr.IsUnspecified(),
			"advertise address is missing, and the bind address %s is none", c.BindAddr)
		refuse(!c.BindAddr.IsUnspecified() && c.BindAddr.Is4() != c.AdvertiseAddr.Is4(),
			"bind address %s and advertise address %s are of different families", c.BindAddr, c.AdvertiseAddr)
	}
	refuse(len(c.ClusterLabel) > memberlist.LabelMaxSize,
		"cluster label has %d bytes, at most %d are possible", len(c.ClusterLabel), memberlist.LabelMaxSize)
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
	refuse(t.ProbeTimeout >= t.ProbeInterval,
		"probe timeout %s is not shorter than the probe interval %s", t.ProbeTimeout, t.ProbeInterval)
	refuse(t.SuspicionMult < 1, "suspicion multiplier %d is less than 1", t.SuspicionMult)
	refuse(t.SuspicionMaxTimeoutMult < 1,
		"suspicion maximum multiplier %d is less than 1", t.SuspicionMaxTimeoutMult)
	refuse(t.GossipNodes < 1, "gossip nodes %d is less than 1", t.GossipNodes)
	return errors.Join(errs...)
}

// memberlistConfig returns the configuration of memberlist.
func (m *Membership) memberlistConfig() *memberlist.Config {
	c, t := m.config, m.config.Timing
	out := memberlist.DefaultLANConfig()
	out.Name = c.Name
	out.BindAddr, out.BindPort = c.BindAddr.String(), int(c.Port)
	out.AdvertiseAddr, out.AdvertisePort = c.AdvertiseAddr.String(), int(c.Port)
	out.Label = c.ClusterLabel
	out.Keyring = m.keys.ring
	out.Transport = m.transport
	out.Delegate, out.Events = m.view, m.view
	out.Logger = m.lines.logger()
	out.TCPTimeout = t.StreamTimeout
	out.ProbeInterval, out.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	out.SuspicionMult, out.SuspicionMaxTimeoutMult = t.SuspicionMult, t.SuspicionMaxTimeoutMult
	out.GossipInterval, out.GossipNodes = t.GossipInterval, t.GossipNodes
	out.PushPullInterval = t.PushPullInterval
	// Entries are packed tightly, and what is left is small; a compressor of
	// 64 KiB for each ping costs more than it saves.
	out.EnableCompression = false
	// Entries of many members may come at once; one place is for one datagram.
	out.HandoffQueueDepth = 4096
	// The rejoin loop brings the dead back; gossip need not try for longer.
	out.GossipToTheDeadTime = c.RejoinInterval
	// A node that was set up again may come back with another address under its old name
	// once it is known to be dead.
	out.DeadNodeReclaimTime = time.Second
	return out
}

// Pass is called when a pass of a loop begins, and when it has ended and the loop waits.
// Its methods return at once.
type Pass interface {
	Begin()
	End()
}

// noPass is a Pass that does nothing.
type noPass struct{}

func (noPass) Begin() {}
func (noPass) End()   {}
