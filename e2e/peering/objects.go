package peering

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// A Peer is a BGPPeer object of Berth. Fields that are not set are left out of it.
type Peer struct {
	Name string
	// Address of the router.
	Address netip.Addr
	// MyASN and PeerASN; 0 stands for NodeASN and RouterASN.
	MyASN, PeerASN uint32
	// HoldTime, such as "3s".
	HoldTime string
	// Restart is enableGracefulRestart.
	Restart bool
	// BFDProfile names a BFDProfile.
	BFDProfile string
	// More is added to the spec, one field on each line.
	More string
}

// Manifest writes the object.
func (p Peer) Manifest() string {
	var c strings.Builder
	fmt.Fprintf(&c, "apiVersion: berth.io/v1beta1\nkind: BGPPeer\nmetadata: {name: %s}\nspec:\n", p.Name)
	fmt.Fprintf(&c, "  myASN: %d\n  peerASN: %d\n  peerAddress: %q\n  connectTime: 1s\n",
		cmp.Or(p.MyASN, NodeASN), cmp.Or(p.PeerASN, RouterASN), p.Address)
	if p.HoldTime != "" {
		fmt.Fprintf(&c, "  holdTime: %s\n", p.HoldTime)
	}
	if p.Restart {
		c.WriteString("  enableGracefulRestart: true\n")
	}
	if p.BFDProfile != "" {
		fmt.Fprintf(&c, "  bfdProfile: %s\n", p.BFDProfile)
	}
	for line := range strings.Lines(p.More) {
		c.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	c.WriteString("---\n")
	return c.String()
}

// BFDProfile writes a BFDProfile as fast as a Router's.
func BFDProfile(name string) string {
	ms := BFDInterval.Milliseconds()
	return fmt.Sprintf("apiVersion: berth.io/v1beta1\nkind: BFDProfile\nmetadata: {name: %s}\n"+
		"spec: {receiveInterval: %dms, transmitInterval: %dms, detectMultiplier: 3}\n---\n", name, ms, ms)
}

// Announced writes an IPAddressPool with these entries and a BGPAdvertisement of the same name for it. What
// more says is added to the pool's spec, in flow style.
func Announced(name, entries, more string) string {
	return fmt.Sprintf(`apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: %[1]s}
spec: {addresses: [%[2]s]%[3]s}
---
apiVersion: berth.io/v1beta1
kind: BGPAdvertisement
metadata: {name: %[1]s}
spec: {ipAddressPools: [%[1]s]}
---
`, name, entries, more)
}
