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

// connect makes or awaits the router's connection.
func (s *session) connect(ctx context.Context, p bgp.Peer) (net.Conn, error) {
	s.show(func(v *bgp.Session) {
		v.State = bgp.SessionConnecting
		if p.Passive {
			v.State = bgp.SessionListening
		}
	})
	remote := p.Address
	if p.Interface != "" {
		var err error
		if remote, err = neighbour(ctx, p.Interface); err != nil {
			return nil, err
		}
		s.show(func(v *bgp.Session) { v.Router = remote.WithZone("") })
	}
	if p.Strict {
		if err := s.awaitPath(ctx); err != nil {
			return nil, err
		}
	}
	if p.Passive {
		local := p.Source
		if !local.IsValid() {
			var err error
			if local, err = localFor(p, remote); err != nil {
				return nil, err
			}
		}
		return s.listeners.accept(ctx, p, local, remote)
	}
	to := netip.AddrPortFrom(remote, p.Port)
	d := net.Dialer{Timeout: s.connecting, KeepAlive: -1, Control: options(p, remote)}
	d.SetMultipathTCP(false) // which knows neither MD5 nor a minimal TTL
	if p.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.Source, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, inShort(err, p))
	}
	return c, nil
}

// inShort is what is to be known of a failed attempt to connect.
func inShort(err error, p bgp.Peer) error {
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
	return errors.New("no answer")
}
