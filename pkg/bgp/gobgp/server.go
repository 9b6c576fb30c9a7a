package gobgp

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/berth-lb/berth/pkg/bgp"
)

// inside is where gobgp listens for the relay.
const inside = "127.0.0.1"

// openWait is how long gobgp may take to begin a session.
const openWait = 5 * time.Second

// engine is the gobgp server of one peer.
//
// Starting a server writes variables of gobgp that all servers of the process
// read when they look at routes. They are always written the same, but Go's
// rules want it in order: globals is held for writing by who starts a server,
// and for reading while a server looks at routes.
type engine struct {
	server  *server.BgpServer
	peer    bgp.Peer
	globals *sync.RWMutex
	// port is where gobgp listens, and key what the kernel wants to see of
	// those who connect; "" where the kernel knows no keys.
	port uint16
	key  string
	// announced are the routes that gobgp has, sorted by prefix, and via their
	// next hops.
	announced []bgp.Route
	via       nextHops
	armed     bool
	refreshes int // how often all routes were sent again
}

func startEngine(ctx context.Context, peer bgp.Peer, globals *sync.RWMutex) (*engine, error) {
	globals.Lock()
	defer globals.Unlock()
	// What gobgp logs is about the inside connection; the relay tells of the
	// session itself.
	e := &engine{server: server.NewBgpServer(server.LoggerOption(slog.New(slog.DiscardHandler), nil)), peer: peer,
		globals: globals, key: rand.Text()}
	go e.server.Serve()
	var err error
	for range 5 { // somebody else may take the port in between
		if err = e.findPort(ctx); err != nil {
			break
		}
		err = e.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
			Asn: peer.LocalASN, RouterId: peer.RouterID.String(), ListenAddresses: []string{inside}, ListenPort: int32(e.port),
			// Not address families, but places in gobgp's table of them. Without
			// it, memory for all 30 is set aside.
			Families: []uint32{0, 1},
		}})
		if err == nil {
			return e, nil
		}
	}
	e.stop()
	return nil, fmt.Errorf("start gobgp: %w", err)
}

// findPort finds a port for gobgp, and whether the kernel knows keys.
func (e *engine) findPort(ctx context.Context) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // which knows no keys
	l, err := config.Listen(ctx, "tcp4", inside+":0")
	if err != nil {
		return fmt.Errorf("listen for gobgp: %w", err)
	}
	defer func() { _ = l.Close() }()
	e.port = uint16(l.Addr().(*net.TCPAddr).Port)
	set := func(fd int) error { return setKey(fd, netip.MustParseAddr(inside), e.key) }
	if errors.Is(control(l.(*net.TCPListener), set), syscall.ENOPROTOOPT) {
		e.key = ""
	}
	return nil
}

// open has gobgp begin a session, and returns the connection to it. Its OPEN is
// the first that can be read.
//
// Other processes of the node reach the loopback address too. Without the key
// the kernel drops what they send.
func (e *engine) open(ctx context.Context) (net.Conn, error) {
	e.disarm() // of a session of before
	if err := e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: e.neighbor()}); err != nil {
		return nil, fmt.Errorf("tell gobgp of the peer: %w", err)
	}
	e.armed = true
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd uintptr) { err = setKey(int(fd), netip.MustParseAddr(inside), e.key) }
		return errors.Join(c.Control(set), err)
	}}
	d.SetMultipathTCP(false)
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	buffer := make([]byte, maxLength)
	for {
		c, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(netip.MustParseAddr(inside), e.port).String())
		if err != nil {
			return nil, fmt.Errorf("connect to gobgp: %w", err)
		}
		// It closes what comes before it is ready, a moment after AddPeer.
		_ = c.SetReadDeadline(time.Now().Add(openWait))
		if _, first, _, err := readMessage(c, buffer, false, false); err == nil {
			_ = c.SetReadDeadline(time.Time{})
			return &primed{c, io.MultiReader(bytes.NewReader(first), c)}, nil
		}
		_ = c.Close()
		select {
		case <-ctx.Done():
			return nil, errors.New("gobgp does not begin a session")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// primed is a connection of which something was read before.
type primed struct {
	net.Conn
	rest io.Reader
}

func (p *primed) Read(b []byte) (int, error) { return p.rest.Read(b) }

// neighbor is the peer in gobgp's words. A hold time of 0 cannot be asked for:
// the relay writes it.
func (e *engine) neighbor() *api.Peer {
	p := e.peer
	n := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: inside, PeerAsn: p.PeerASN, LocalAsn: p.LocalASN, AuthPassword: e.key},
		Transport: &api.Transport{PassiveMode: true, LocalAddress: inside},
		Timers: &api.Timers{Config: &api.TimersConfig{ConnectRetry: 1, HoldTime: uint64(p.Hold / time.Second),
			KeepaliveInterval: uint64(p.Keepalive / time.Second), IdleHoldTimeAfterReset: 1}},
	}
	if p.GracefulRestart > 0 {
		n.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(p.GracefulRestart / time.Second),
			NotificationEnabled: true, LonglivedEnabled: p.LongLived > 0, DeferralTime: 1}
	}
	for _, f := range p.Families.List() {
		name := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
		if f == bgp.IPv6 {
			name.Afi = api.Family_AFI_IP6
		}
		n.AfiSafis = append(n.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: name, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart > 0}},
			LongLivedGracefulRestart: &api.LongLivedGracefulRestart{Config: &api.LongLivedGracefulRestartConfig{
				Enabled: p.LongLived > 0, RestartTime: uint32(p.LongLived / time.Second)}},
		})
	}
	return n
}

// disarm has gobgp forget the session, but not the routes.
func (e *engine) disarm() {
	if e.armed {
		// The only error is that there is none.
		_ = e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: inside})
		e.armed = false
	}
}

// change is what has gobgp announce other routes than before.
type change struct {
	routes   []bgp.Route // all of them
	via      nextHops
	announce []bgp.Route
	withdraw []netip.Prefix
}

// size is how many routes change.
func (c change) size() int { return len(c.announce) + len(c.withdraw) }

// changeTo is what has exactly these routes announced, sorted by prefix, as far
// as they have a next hop. When next hops have changed, all go anew.
func (e *engine) changeTo(routes []bgp.Route, via nextHops) change {
	if !via.v4.IsValid() || !via.v6.IsValid() {
		routes = slices.DeleteFunc(slices.Clone(routes), func(r bgp.Route) bool { return !via.of(r.Prefix).IsValid() })
	}
	c := change{routes: routes, via: via}
	c.announce, c.withdraw = bgp.DiffRoutes(e.announced, routes)
	if via != e.via {
		c.announce = routes
	}
	return c
}

// announce has gobgp announce what changes.
func (e *engine) announce(c change) error {
	e.globals.RLock()
	defer e.globals.RUnlock()
	gone := make([]*apiutil.Path, 0, len(c.withdraw))
	for _, prefix := range c.withdraw {
		p, err := pathOf(prefix)
		if err != nil {
			return err
		}
		p.Withdrawal = true
		gone = append(gone, p)
	}
	for some := range slices.Chunk(gone, batch) {
		if err := e.server.DeletePath(apiutil.DeletePathRequest{Paths: some}); err != nil {
			return fmt.Errorf("withdraw routes: %w", err)
		}
	}
	added, err := paths(e.peer, c.announce, c.via)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(added, batch) {
		if _, err := e.server.AddPath(apiutil.AddPathRequest{Paths: some}); err != nil {
			return fmt.Errorf("announce routes: %w", err)
		}
	}
	e.announced, e.via = c.routes, c.via
	return nil
}

// establish does what makes gobgp take the session for established, and waits
// until it does: from then on, it sends what is announced. over tells that it
// never will.
func (e *engine) establish(do func() error, over func() bool) error {
	e.globals.RLock()
	defer e.globals.RUnlock()
	if err := do(); err != nil {
		return err
	}
	for deadline := time.Now().Add(openWait); ; time.Sleep(time.Millisecond) {
		is := false
		err := e.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
			is = p.State.SessionState == api.PeerState_SESSION_STATE_ESTABLISHED
		})
		switch {
		case err != nil:
			return fmt.Errorf("ask gobgp for the session: %w", err)
		case is:
			return nil
		case over():
			return errEnded
		case time.Now().After(deadline):
			return errors.New("gobgp does not establish the session")
		}
	}
}

// refresh sends all routes again, of both families: gobgp's API names none.
func (e *engine) refresh() error {
	e.refreshes++
	e.globals.RLock()
	defer e.globals.RUnlock()
	err := e.server.ResetPeer(context.Background(), &api.ResetPeerRequest{Address: inside, Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT})
	if err != nil {
		return fmt.Errorf("send all routes again: %w", err)
	}
	return nil
}

// counts are how many routes there are of each family.
func counts(routes []bgp.Route) (v4, v6 int) {
	for _, r := range routes {
		if r.Prefix.Addr().Is4() {
			v4++
		} else {
			v6++
		}
	}
	return v4, v6
}

// stop ends gobgp. Nobody hears of it: the relay has closed before.
func (e *engine) stop() {
	_ = e.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: true}) // stopped is stopped
	e.server.Stop()                                                                             // its BFD goroutine
}
