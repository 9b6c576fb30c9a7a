package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Bounds of a [SessionConfig].
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = time.Minute
)

// Key identifies a session by the path that it monitors. Two sessions with the same
// peer differ in Local, Link or Multihop.
type Key struct {
	// Peer is the other end, a unicast address without zone.
	Peer netip.Addr
	// Local is our address on the path: packets are sent from it, and only those
	// to it count. Invalid, it is whatever the kernel chooses, and any.
	Local netip.Addr
	// Link is the network interface of the path: packets go out of it whatever the
	// routes say, and only those that come in by it count. Empty, the routes
	// decide. Link-local peers need one.
	Link string
	// Multihop is for peers that are not on a subnet of this node (RFC 5883).
	Multihop bool
}

// Validate returns what is wrong with the key.
func (k Key) Validate() error {
	var errs []error
	if !isUnicast(k.Peer) {
		errs = append(errs, fmt.Errorf("peer %s is not a unicast address without zone", k.Peer))
	}
	if k.Local.IsValid() {
		if !isUnicast(k.Local) {
			errs = append(errs, fmt.Errorf("local address %s is not a unicast address without zone", k.Local))
		}
		if k.Local.Is4() != k.Peer.Is4() {
			errs = append(errs, fmt.Errorf(
				"local address %s and peer %s are of different families", k.Local, k.Peer))
		}
		if k.Local == k.Peer {
			errs = append(errs, fmt.Errorf("local address and peer are both %s", k.Peer))
		}
	}
	if k.Peer.IsLinkLocalUnicast() && k.Link == "" && k.Peer.Is6() {
		errs = append(errs, fmt.Errorf("link-local peer %s needs a link", k.Peer))
	}
	if k.Peer.IsLinkLocalUnicast() && k.Multihop {
		errs = append(errs, fmt.Errorf("link-local peer %s cannot be several hops away", k.Peer))
	}
	return errors.Join(errs...)
}

func isUnicast(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsMulticast() && !a.IsUnspecified()
}

// compare orders keys: by peer, local address, link, and one hop first.
func (k Key) compare(o Key) int {
	return cmp.Or(k.Peer.Compare(o.Peer), k.Local.Compare(o.Local), cmp.Compare(k.Link, o.Link),
		compareBool(k.Multihop, o.Multihop))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// SessionConfig is the configuration of a session. The zero value of each number
// means its default. Changes apply to a running session without taking it down.
type SessionConfig struct {
	// ReceiveInterval is the least interval at which we are willing to receive;
	// the peer sends no faster. With the peer's multiplier and the interval it
	// wishes it gives our detection time. [MinInterval] to [MaxInterval],
	// default 300 ms.
	ReceiveInterval time.Duration
	// TransmitInterval is the least interval at which we want to send. The peer
	// may ask for a longer one. Until the session is up it is one second
	// (RFC 5880 6.8.3). [MinInterval] to [MaxInterval], default 300 ms.
	TransmitInterval time.Duration
	// DetectMultiplier is how many of our packets in a row may be lost before the
	// peer takes the path for failed. 1 to 255, default 3. With 1, any lost packet
	// is a failure.
	DetectMultiplier uint8
	// EchoMode offers the peer to send its echo packets back, one in each EchoInterval at
	// most. It is for one hop only. See docs/bfd.md for what it needs.
	EchoMode bool
	// EchoInterval is the least interval of the peer's echo packets, used with
	// EchoMode. [MinInterval] to [MaxInterval], default 50 ms.
	EchoInterval time.Duration
	// Passive sessions send nothing until the peer does (RFC 5880 6.1). If both
	// ends are passive, the session never comes up.
	Passive bool
	// MinimumTTL is the least TTL or hop limit with which packets of a multihop
	// session are accepted: 255 minus the number of routers on the path. Over one
	// hop it is always 255. 1 to 254, default 254: at most one router.
	MinimumTTL uint8
}

// WithDefaults returns the configuration with every number filled in.
func (c SessionConfig) WithDefaults() SessionConfig {
	c.ReceiveInterval = cmp.Or(c.ReceiveInterval, 300*time.Millisecond)
	c.TransmitInterval = cmp.Or(c.TransmitInterval, 300*time.Millisecond)
	c.DetectMultiplier = cmp.Or(c.DetectMultiplier, 3)
	c.EchoInterval = cmp.Or(c.EchoInterval, 50*time.Millisecond)
	c.MinimumTTL = cmp.Or(c.MinimumTTL, 254)
	return c
}

// Validate returns what is wrong with the configuration of the session named key.
func (c SessionConfig) Validate(key Key) error {
	c = c.WithDefaults()
	errs := []error{key.Validate()}
	for _, i := range []struct {
		name  string
		value time.Duration
	}{
		{"receive", c.ReceiveInterval},
		{"transmit", c.TransmitInterval},
		{"echo", c.EchoInterval},
	} {
		if i.value < MinInterval || i.value > MaxInterval {
			errs = append(errs, fmt.Errorf(
				"%s interval %s is not between %s and %s", i.name, i.value, MinInterval, MaxInterval))
		}
	}
	if c.MinimumTTL == maxTTL {
		errs = append(errs, fmt.Errorf("minimum TTL %d is not between 1 and 254", c.MinimumTTL))
	}
	if c.EchoMode && key.Multihop {
		errs = append(errs, errors.New("echo packets cannot come back over several hops"))
	}
	return errors.Join(errs...)
}
