package peering

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/e2e/lab"
)

// A Session is what a router says of one of its sessions.
type Session struct {
	// State is "Established" when it is up.
	State string `json:"bgpState"`
	// RemoteAS is the AS number of the node.
	RemoteAS uint32 `json:"remoteAs"`
	// HoldTime is the negotiated one, in milliseconds.
	HoldTime int64 `json:"bgpTimerHoldTimeMsecs"`
	// Dropped is how often it has ended since the router's bgpd started.
	Dropped int `json:"connectionsDropped"`
	// Families has an entry for each that was negotiated.
	Families map[string]struct {
		Accepted int `json:"acceptedPrefixCounter"`
	} `json:"addressFamilyInfo"`
}

// Established is the state of a session that is up.
const Established = "Established"

// Sessions asks a router for all its sessions, by the address of the node.
func Sessions(ctx context.Context, l *lab.Lab, router string) (map[netip.Addr]Session, error) {
	out, err := l.Router(router).Vtysh(ctx, "show bgp neighbors json")
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("sessions of %s: %w", router, err)
	}
	sessions := map[netip.Addr]Session{}
	for name, text := range all {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			continue // "vrfId" and such
		}
		var s Session
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fmt.Errorf("session of %s with %s: %w", router, addr, err)
		}
		sessions[addr] = s
	}
	return sessions, nil
}

// Up returns nil if a router's sessions with all these addresses are up, else an error that names one that is
// not.
func Up(ctx context.Context, l *lab.Lab, router string, nodes ...netip.Addr) error {
	sessions, err := Sessions(ctx, l, router)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if s := sessions[node]; s.State != Established {
			return fmt.Errorf("%s: the session with %s is %q", router, node, s.State)
		}
	}
	return nil
}

// NodeAddresses lists the addresses of nodes of the family of like.
func NodeAddresses(like netip.Addr, nodes ...string) []netip.Addr {
	var out []netip.Addr
	for _, node := range nodes {
		a := nodeAddresses(node)
		if like.Is4() {
			out = append(out, a.V4)
		} else {
			out = append(out, a.V6)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Hops names the next hops of addresses in a router's kernel table, sorted; one that is no node by its
// address.
func Hops(
	ctx context.Context, l *lab.Lab, router string, addresses ...netip.Addr,
) (map[netip.Addr][]string, error) {
	out := map[netip.Addr][]string{}
	for _, like := range []netip.Addr{lab.RouterAddresses.V4, lab.RouterAddresses.V6} {
		routes, err := l.Host(router).Routes(ctx, like)
		if err != nil {
			return nil, err
		}
		for _, addr := range addresses {
			for _, hop := range routes[netip.PrefixFrom(addr, addr.BitLen())] {
				out[addr] = append(out[addr], NodeOf(l, hop))
			}
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out, nil
}

// NodeOf names the node with an address on the LAN; one that no node has by the address itself.
func NodeOf(l *lab.Lab, addr netip.Addr) string {
	for _, name := range l.NodeNames() {
		if a := nodeAddresses(name); a.V4 == addr || a.V6 == addr || a.LinkLocal() == addr {
			return name
		}
	}
	return addr.String()
}

// Reached returns nil if each of these addresses has exactly these nodes as next hops in a router's kernel
// table.
func Reached(ctx context.Context, l *lab.Lab, router string, addresses []netip.Addr, nodes ...string) error {
	want := slices.Sorted(slices.Values(nodes))
	hops, err := Hops(ctx, l, router, addresses...)
	if err != nil {
		return err
	}
	for _, addr := range addresses {
		if !slices.Equal(hops[addr], want) {
			return fmt.Errorf("%s: %s goes to %v, not to %v", router, addr, hops[addr], want)
		}
	}
	return nil
}
