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

// inside is the address at which gobgp listens for the relay.
const inside = "127.0.0.1"

// openWait is how long gobgp may take to begin a session.
const openWait = 5 * time.Second

// engine is the gobgp server of one peer.
//
// Starting a server writes variables of gobgp that all servers of the process read when
// they look at routes. The values are always the same, but the memory model of Go wants
// an order: globals is held for writing while a server starts, and for reading while one
// looks at routes.
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
	hasPeer   bool
	refreshes int // how often all routes were sent again
}

func startEngine(ctx context.Context, peer bgp.Peer, globals *sync.RWMutex) (*engine, error) {
	globals.Lock()
	defer globals.Unlock()
	// What gobgp logs is about the inside connection; the relay reports on the session itself.
	quietly := server.LoggerOption(slog.New(slog.DiscardHandler), nil)
	e := &engine{
		server:  server.NewBgpServer(quietly),
		peer:    peer,
		globals: globals,
		key:     rand.Text(),
	}
	go e.server.Serve()
	var err error
	for range 5 { // somebody else may take the port in between
		if err = e.findPort(ctx); err != nil {
			break
		}
		err = e.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
			Asn:             peer.LocalASN,
			RouterId:        peer.RouterID.String(),
			ListenAddresses: []string{inside},
			ListenPort:      int32(e.port),
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

// findPort finds a port for gobgp, and whether the kernel knows TCP MD5 keys.
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

// open has gobgp begin a session, and returns the connection to it. The first message on it
// is gobgp's OPEN.
//
// Other processes of the node reach the loopback address too. The kernel drops what they
// send, as it lacks the key.
func (e *engine) open(ctx context.Context) (net.Conn, error) {
	e.deletePeer() // of a session of before
	if err := e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: e.neighbor()}); err != nil {
		return nil, fmt.Errorf("tell gobgp of the peer: %w", err)
	}
	e.hasPeer = true
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
			return &prefixedConn{c, io.MultiReader(bytes.NewReader(first), c)}, nil
		}
		_ = c.Close()
		select {
		case <-ctx.Done():
			return nil, errors.New("gobgp does not begin a session")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// prefixedConn is a connection of which the first bytes were read before.
type prefixedConn struct {
	net.Conn
	rest io.Reader
}

func (p *prefixedConn) Read(b []byte) (int, error) { return p.rest.Read(b) }

// neighbor returns the peer in gobgp's form. gobgp cannot be asked for a hold time of 0:
// the relay writes that.
func (e *engine) neighbor() *api.Peer {
	p := e.peer
	n := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: inside,
			PeerAsn:         p.PeerASN,
			LocalAsn:        p.LocalASN,
			AuthPassword:    e.key,
		},
		Transport: &api.Transport{PassiveMode: true, LocalAddress: inside},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           1,
			HoldTime:               uint64(p.Hold / time.Second),
			KeepaliveInterval:      uint64(p.Keepalive / time.Second),
			IdleHoldTimeAfterReset: 1,
		}},
	}
	if p.GracefulRestart > 0 {
		n.GracefulRestart = &api.GracefulRestart{
			Enabled:             true,
			RestartTime:         uint32(p.GracefulRestart / time.Second),
			NotificationEnabled: true,
			LonglivedEnabled:    p.LongLived > 0,
			DeferralTime:        1,
		}
	}
	for _, f := range p.Families.List() {
		name := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
		if f == bgp.IPv6 {
			name.Afi = api.Family_AFI_IP6
		}
		n.AfiSafis = append(n.AfiSafis, &api.AfiSafi{
			Config: &api.AfiSafiConfig{Family: name, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{
				Config: &api.MpGracefulRestartConfig{Enabled: p.GracefulRestart > 0},
			},
			LongLivedGracefulRestart: &api.LongLivedGracefulRestart{
				Config: &api.LongLivedGracefulRestartConfig{
					Enabled:     p.LongLived > 0,
					RestartTime: uint32(p.LongLived / time.Second),
				},
			},
		})
	}
	return n
}

// deletePeer has gobgp forget the session, but not the routes.
func (e *engine) deletePeer() {
	if e.hasPeer {
		// The only error is that there is none.
		_ = e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: inside})
		e.hasPeer = false
	}
}

// change is what makes gobgp announce other routes than before.
type change struct {
	routes   []bgp.Route // all of them
	via      nextHops
	announce []bgp.Route
	withdraw []netip.Prefix
}

// size returns how many routes change.
func (c change) size() int { return len(c.announce) + len(c.withdraw) }

// changeTo returns the change after which exactly these routes, sorted by prefix, are
// announced, as far as they have a next hop. When next hops have changed, it announces all
// of them again.
func (e *engine) changeTo(routes []bgp.Route, via nextHops) change {
	if !via.v4.IsValid() || !via.v6.IsValid() {
		without := func(r bgp.Route) bool { return !via.of(r.Prefix).IsValid() }
		routes = slices.DeleteFunc(slices.Clone(routes), without)
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

// establish calls do, which makes gobgp take the session for established, and waits until
// it does: from then on, gobgp sends what is announced. over reports that it never will.
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
	err := e.server.ResetPeer(context.Background(), &api.ResetPeerRequest{
		Address:   inside,
		Soft:      true,
		Direction: api.ResetPeerRequest_DIRECTION_OUT,
	})
	if err != nil {
		return fmt.Errorf("send all routes again: %w", err)
	}
	return nil
}

// counts returns how many routes there are of each family.
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

// stop ends gobgp. The router does not notice: the relay has closed its connection before.
func (e *engine) stop() {
	request := &api.StopBgpRequest{AllowGracefulRestart: true}
	_ = e.server.StopBgp(context.Background(), request) // it has stopped, whatever it returns
	e.server.Stop()                                     // its BFD goroutine
}
