package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/berth-lb/berth/pkg/bgp"
)

// connect opens the connection to the router, or waits for the router's. Until leave is
// called, no other session has its pair of addresses.
func (s *session) connect(ctx context.Context, p bgp.Peer) (c net.Conn, leave func(), err error) {
	at := pair{}
	leave = func() { s.shared.pairs.leave(at, s.name) }
	remote, err := s.router(ctx, p)
	if err != nil {
		return nil, leave, err
	}
	local := p.Source
	if !local.IsValid() {
		if local, err = localFor(p, remote); err != nil && p.Passive {
			return nil, leave, err
		}
	}
	at = pair{local.WithZone(""), remote.WithZone(""), p.Interface, p.VRF, p.Port}
	if p.Passive {
		at.port = 0
	}
	if err := s.shared.pairs.take(at, s.name); err != nil {
		return nil, leave, err
	}
	if p.Passive {
		c, err = s.shared.listeners.accept(ctx, p, local, remote)
	} else {
		c, err = s.dial(ctx, p, remote)
	}
	return c, leave, err
}

// router returns the router's address, and waits for BFD first if the peer is strict.
func (s *session) router(ctx context.Context, p bgp.Peer) (netip.Addr, error) {
	s.show(func(v *bgp.Session) {
		switch {
		case p.Strict && s.liveness != bgp.LivenessUp: // show holds mu
			v.State = bgp.SessionAwaitingBFD
		case p.Passive:
			v.State = bgp.SessionListening
		default:
			v.State = bgp.SessionConnecting
		}
	})
	remote := p.Address
	if p.Interface != "" {
		var err error
		if remote, err = neighbour(ctx, p.Interface); err != nil {
			return remote, err
		}
		s.show(func(v *bgp.Session) { v.Router = remote.WithZone("") })
	}
	if p.Strict {
		if err := s.awaitBFD(ctx, p.Passive); err != nil {
			return remote, err
		}
	}
	return remote, nil
}

// dial connects to the router.
func (s *session) dial(ctx context.Context, p bgp.Peer, remote netip.Addr) (net.Conn, error) {
	to := netip.AddrPortFrom(remote, p.Port)
	d := net.Dialer{Timeout: s.shared.connecting, KeepAlive: -1, Control: options(p, remote)}
	d.SetMultipathTCP(false) // which knows neither MD5 nor a minimal TTL
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, shortError(err, p))
	}
	return c, nil
}

// shortError returns what an operator needs of the error of a failed attempt to connect.
func shortError(err error, p bgp.Peer) error {
	var call *os.SyscallError
	var timeout net.Error
	switch {
	case errors.As(err, &call) && !call.Timeout():
		return call.Err
	case !errors.As(err, &timeout) || !timeout.Timeout():
		return err
	case p.Password.Set():
		return errors.New("no answer: is the router there, and has it the same password?")
	}
	return errors.New("no answer: is the router there, and does nothing drop this node's packets? " +
		"A router that wants a password (TCP MD5) or ttlSecurity drops them all from a peer without")
}
