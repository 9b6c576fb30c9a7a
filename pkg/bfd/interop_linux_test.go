package bfd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// The addresses of the tests: ours end with 1, the peer's with 9.
const (
	our4, peer4 = "192.0.2.1", "192.0.2.9"
	our6, peer6 = "2001:db8::1", "2001:db8::9"
	ourLL       = "fe80::1"
	peerLL      = "fe80::9"
)

func key(peer string) Key { return Key{Peer: netip.MustParseAddr(peer)} }

// neighbours is a segment with this node and a peer on it.
func neighbours(t testing.TB, name string) (*netnstest.LAN, *netnstest.Host) {
	t.Helper()
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", our4+"/24", our6+"/64", ourLL+"/64")
	host := lan.Attach(netnstest.NewHost(t, name), "eth0", peer4+"/24", peer6+"/64", peerLL+"/64")
	return lan, host
}

// allFamilies are the sessions of most tests: IPv4, IPv6 and link-local.
func allFamilies(config SessionConfig) map[Key]SessionConfig {
	return map[Key]SessionConfig{
		key(peer4): config,
		{Peer: netip.MustParseAddr(peer6), Local: netip.MustParseAddr(our6)}: config,
		{Peer: netip.MustParseAddr(peerLL), Link: "eth0"}:                    config,
	}
}

var peers = []struct{ peer, our string }{{peer4, our4}, {peer6, our6}, {peerLL, ourLL}}

// calm is a configuration that forgives a machine on which tests are run beside
// much else: nothing but orders takes sessions down.
func calm() SessionConfig {
	config := fast()
	config.DetectMultiplier = 30
	return config
}

const birdNeighbours = `
	neighbor 192.0.2.1 dev "eth0" local 192.0.2.9;
	neighbor 2001:db8::1 dev "eth0" local 2001:db8::9;
	neighbor fe80::1 dev "eth0" local fe80::9;`

func birdTimers(milliseconds, multiplier int) string {
	return fmt.Sprintf(`interface "eth0" { min rx interval %d ms; min tx interval %d ms; multiplier %d; };`,
		milliseconds, milliseconds, multiplier)
}

func TestBIRD(t *testing.T) {
	_, host := neighbours(t, "bird")
	b := startBird(t, host, birdTimers(100, 30)+birdNeighbours)
	s := startReal(t, allFamilies(calm()))
	for _, p := range peers {
		waitState(t, s, p.peer, Up)
		b.wait(p.our, "Up")
	}
	since := make(map[string]string)
	for _, p := range peers {
		until(t, "intervals are agreed on", func() bool {
			x := status(t, s, p.peer)
			return x.TransmitInterval == 100*ms && x.DetectionTime == 3*time.Second && !x.Polling &&
				b.session(p.our)[5] == "3.000"
		})
		since[p.our] = b.session(p.our)[3]
	}

	t.Log("BIRD changes its timers")
	b.reconfigure(birdTimers(400, 50) + birdNeighbours)
	for _, p := range peers {
		until(t, "our side follows", func() bool {
			x := status(t, s, p.peer)
			return x.TransmitInterval == 400*ms && x.DetectionTime == 20*time.Second &&
				b.session(p.our)[4] == "0.400"
		})
	}

	t.Log("we change ours")
	if err := s.Set(allFamilies(SessionConfig{
		ReceiveInterval:  700 * ms,
		TransmitInterval: 600 * ms,
		DetectMultiplier: 40,
	})); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		until(t, "BIRD follows", func() bool {
			line := b.session(p.our)
			return line[4] == "0.700" && line[5] == "24.000" && !status(t, s, p.peer).Polling
		})
	}
	for _, p := range peers {
		if x := status(t, s, p.peer); x.Downs != 0 || b.session(p.our)[3] != since[p.our] {
			t.Errorf("a change of timers took %s down: %+v, BIRD %s", p.peer, x, b.session(p.our))
		}
		if x := status(t, s, p.peer); x.Counters.Dropped() != 0 {
			t.Errorf("dropped %v", x.Counters.Received)
		}
	}

	t.Log("we end the sessions in order")
	if err := s.Set(nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		b.wait(p.our, "Down")
	}
	if err := s.Set(allFamilies(calm())); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		waitState(t, s, p.peer, Up)
	}
}

func TestBIRDPassive(t *testing.T) {
	passive := fast()
	passive.Passive = true
	for _, test := range []struct {
		story string
		ours  SessionConfig
		bird  string
	}{
		{"we are passive", passive, birdTimers(100, 3)},
		{"BIRD is passive", fast(),
			`interface "eth0" { min rx interval 100ms; min tx interval 100ms; multiplier 3; passive yes; };`},
	} {
		t.Run(test.story, func(t *testing.T) {
			_, host := neighbours(t, "bird")
			b := startBird(t, host, test.bird+birdNeighbours)
			s := startReal(t, allFamilies(test.ours))
			for _, p := range peers {
				waitState(t, s, p.peer, Up)
				b.wait(p.our, "Up")
			}
		})
	}
}

// path is this node, a router, and a peer two links away.
func path(t testing.TB, name string) *netnstest.Host {
	t.Helper()
	netnstest.Require(t)
	near, far := netnstest.NewNamedLAN(t, "near"), netnstest.NewNamedLAN(t, "far")
	local := near.Attach(netnstest.Local(), "eth0", our4+"/24", our6+"/64")
	router := netnstest.NewHost(t, "router")
	near.Attach(router, "eth0", "192.0.2.254/24", "2001:db8::fe/64")
	far.Attach(router, "eth1", "198.51.100.254/24", "2001:db8:1::fe/64")
	router.Run(t, "sh", "-c",
		"echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	peer := far.Attach(netnstest.NewHost(t, name), "eth0", "198.51.100.9/24", "2001:db8:1::9/64")
	peer.Run(t, "ip", "route", "add", "default", "via", "198.51.100.254")
	peer.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::fe")
	local.Run(t, "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.254")
	local.Run(t, "ip", "route", "add", "2001:db8:1::/64", "via", "2001:db8::fe")
	return peer
}

func TestBIRDMultihop(t *testing.T) {
	host := path(t, "bird")
	b := startBird(t, host, `
		multihop { min rx interval 100ms; min tx interval 100ms; multiplier 3; };
		neighbor 192.0.2.1 local 198.51.100.9 multihop yes;
		neighbor 2001:db8::1 local 2001:db8:1::9 multihop yes;`)
	// BIRD sends with TTL 64.
	config := fast()
	config.MinimumTTL = 63
	far4, far6 := key("198.51.100.9"), key("2001:db8:1::9")
	far4.Multihop, far6.Multihop = true, true
	far6.Local = netip.MustParseAddr(our6)
	s := startReal(t, map[Key]SessionConfig{far4: config, far6: config})
	for _, p := range []struct{ peer, our string }{{"198.51.100.9", our4}, {"2001:db8:1::9", our6}} {
		waitState(t, s, p.peer, Up)
		b.wait(p.our, "Up")
	}

	config.MinimumTTL = 64
	if err := s.Set(map[Key]SessionConfig{far4: config, far6: config}); err != nil {
		t.Fatal(err)
	}
	for _, peer := range []string{"198.51.100.9", "2001:db8:1::9"} {
		until(t, "packets with a lower TTL do not count", func() bool {
			x := status(t, s, peer)
			return x.State == Down && x.Counters.Received[WrongTTL] > 0
		})
	}
}

const frrTimers = `
  transmit-interval 100
  receive-interval 100
  detect-multiplier 30
`

const frrPeers = `
 peer 192.0.2.1 local-address 192.0.2.9 interface eth0` + frrTimers + `
 peer 2001:db8::1 local-address 2001:db8::9 interface eth0` + frrTimers + `
 peer fe80::1 local-address fe80::9 interface eth0` + frrTimers

func frrPeerLine(p struct{ peer, our string }) string {
	return fmt.Sprintf("peer %s local-address %s interface eth0", p.our, p.peer)
}

func TestFRR(t *testing.T) {
	requireFRR(t)
	_, host := neighbours(t, "frr")
	f := startFRR(t, host, frrPeers)
	s := startReal(t, allFamilies(calm()))
	for _, p := range peers {
		waitState(t, s, p.peer, Up)
		f.wait(p.our, "up")
		until(t, "intervals are agreed on", func() bool {
			x, y := status(t, s, p.peer), f.peer(p.our)
			return x.TransmitInterval == 100*ms && x.DetectionTime == 3*time.Second && !x.Polling &&
				y.RemoteTransmit == 100
		})
	}

	t.Log("FRR changes its timers")
	for _, p := range peers {
		f.configure(frrPeerLine(p), "transmit-interval 250", "receive-interval 350", "detect-multiplier 50")
		until(t, "our side follows", func() bool {
			x := status(t, s, p.peer)
			return x.TransmitInterval == 350*ms && x.DetectionTime == 12500*ms
		})
	}

	t.Log("we change ours")
	if err := s.Set(allFamilies(SessionConfig{
		ReceiveInterval:  700 * ms,
		TransmitInterval: 600 * ms,
		DetectMultiplier: 40,
	})); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		until(t, "FRR follows", func() bool {
			y := f.peer(p.our)
			return y.RemoteReceive == 700 && y.RemoteTransmit == 600 && y.RemoteMultiplier == 40 &&
				!status(t, s, p.peer).Polling
		})
		if x := status(t, s, p.peer); x.Downs != 0 || x.Counters.Dropped() != 0 {
			t.Errorf("a change of timers: %+v", x)
		}
	}

	t.Log("FRR shuts the sessions down")
	for _, p := range peers {
		f.configure(frrPeerLine(p), "shutdown")
		waitState(t, s, p.peer, Down)
		if x := status(t, s, p.peer); x.Failed() || !x.PeerAdminDown ||
			x.LastDown.Cause != CausePeerAdminDown {
			t.Errorf("AdminDown of %s: %+v", p.peer, x)
		}
		f.configure(frrPeerLine(p), "no shutdown")
		waitState(t, s, p.peer, Up)
	}

	t.Log("we end the sessions in order")
	if err := s.Set(nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		f.wait(p.our, "down")
		if y := f.peer(p.our); y.RemoteDiagnostic != "administratively down" {
			t.Errorf("FRR was told %q", y.RemoteDiagnostic)
		}
	}
}

func TestFRRPassive(t *testing.T) {
	requireFRR(t)
	passive := fast()
	passive.Passive = true
	for _, test := range []struct {
		story string
		ours  SessionConfig
		frr   string
	}{
		{"we are passive", passive, frrPeers},
		{"FRR is passive", fast(), strings.ReplaceAll(frrPeers, frrTimers, frrTimers+"  passive-mode\n")},
	} {
		t.Run(test.story, func(t *testing.T) {
			_, host := neighbours(t, "frr")
			f := startFRR(t, host, test.frr)
			s := startReal(t, allFamilies(test.ours))
			for _, p := range peers {
				waitState(t, s, p.peer, Up)
				f.wait(p.our, "up")
			}
		})
	}
}

func TestFRRMultihop(t *testing.T) {
	requireFRR(t)
	host := path(t, "frr")
	f := startFRR(t, host, `
 peer 192.0.2.1 multihop local-address 198.51.100.9`+frrTimers+`
 peer 2001:db8::1 multihop local-address 2001:db8:1::9`+frrTimers)
	far4, far6 := key("198.51.100.9"), key("2001:db8:1::9")
	far4.Multihop, far6.Multihop = true, true
	s := startReal(t, map[Key]SessionConfig{far4: fast(), far6: fast()})
	waitState(t, s, "198.51.100.9", Up)
	waitState(t, s, "2001:db8:1::9", Up)
	f.wait(our4, "up")
	f.wait(our6, "up")
}

// TestAPeerThatIsTooFarAway: over one hop a router on the way is one too many.
func TestAPeerThatIsTooFarAway(t *testing.T) {
	requireFRR(t)
	host := path(t, "frr")
	startFRR(t, host, " peer 192.0.2.1 local-address 198.51.100.9 interface eth0"+frrTimers)
	s := startReal(t, map[Key]SessionConfig{key("198.51.100.9"): fast()})
	until(t, "packets with TTL 254 are dropped", func() bool {
		return status(t, s, "198.51.100.9").Counters.Received[WrongTTL] >= 2
	})
	if x := status(t, s, "198.51.100.9"); x.State != Down || x.Counters.Received[Accepted] != 0 {
		t.Errorf("%+v", x)
	}
}

// TestFRREcho: FRR sends IPv4 echo packets past us, for our kernel to forward,
// and IPv6 ones to us. It takes sessions down when they do not come back.
func TestFRREcho(t *testing.T) {
	requireFRR(t)
	for _, test := range []struct {
		story      string
		forwarding bool
		modes      []bool // EchoMode, in the order of peers
		offered    []bool
	}{
		{"where the kernel forwards", true, []bool{true, true, true}, []bool{true, true, true}},
		{"where it does not, and without EchoMode", false, []bool{true, true, false},
			[]bool{false, false, false}},
		{"to a link-local address nothing has to be forwarded", false, []bool{false, false, true},
			[]bool{false, false, true}},
	} {
		t.Run(test.story, func(t *testing.T) {
			lan, host := neighbours(t, "frr")
			setForwarding(t, test.forwarding)
			c := startCapture(t, lan.Switch(), "port1", "udp port 3785")
			f := startFRR(t, host, strings.ReplaceAll(frrPeers, frrTimers,
				frrTimers+"  echo-mode\n  echo transmit-interval 50\n  echo receive-interval 50\n"))
			sessions := allFamilies(calm())
			for k, config := range sessions {
				for i, p := range peers {
					if k.Peer == netip.MustParseAddr(p.peer) {
						config.EchoMode = test.modes[i]
						sessions[k] = config
					}
				}
			}
			s := startReal(t, sessions)
			for i, p := range peers {
				waitState(t, s, p.peer, Up)
				f.wait(p.our, "up")
				want := 0
				if test.offered[i] {
					want = 50
				}
				until(t, "FRR knows what we offer", func() bool { return f.peer(p.our).RemoteEcho == want })
			}
			time.Sleep(time.Second)
			total := len(c.times("udp"))
			for i, p := range peers {
				x := status(t, s, p.peer)
				if x.Downs != 0 || f.peer(p.our).Status != "up" || x.EchoOffered != test.offered[i] {
					t.Errorf("%+v\n%+v", x, f.peer(p.our))
				}
				if back := x.Counters.Echoes > 0; back != (test.offered[i] && x.Key.Peer.Is6()) {
					t.Errorf("%s: sent back %d echo packets", p.peer, x.Counters.Echoes)
				}
			}
			if some := slices.Contains(test.offered, true); some != (total > 0) {
				t.Errorf("%d echo packets on the wire", total)
			}
		})
	}
}

// setForwarding sets what this node forwards, for the test.
func setForwarding(t testing.TB, on bool) {
	t.Helper()
	set := func(value int) {
		netnstest.Local().Run(t, "sh", "-c", fmt.Sprintf(
			"echo %d > /proc/sys/net/ipv4/ip_forward; echo %d > /proc/sys/net/ipv6/conf/all/forwarding",
			value, value))
	}
	if on {
		set(1)
		t.Cleanup(func() { set(0) })
	}
}

// TestALinkThatIsMadeAnew: it has another index, which sockets do not notice.
func TestALinkThatIsMadeAnew(t *testing.T) {
	netnstest.Require(t)
	local, host := netnstest.Local(), netnstest.NewHost(t, "bird")
	plug := func() {
		local.Run(t, "ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns",
			host.String())
		local.Run(t, "ip", "link", "set", "cable", "up")
		host.Run(t, "ip", "link", "set", "eth0", "up")
		local.Run(t, "ip", "address", "add", our4+"/24", "dev", "cable")
		host.Run(t, "ip", "address", "add", peer4+"/24", "dev", "eth0")
	}
	b := startBird(t, host, birdTimers(100, 3)+birdNeighbours)
	s := startReal(t, map[Key]SessionConfig{{Peer: netip.MustParseAddr(peer4), Link: "cable"}: fast()})
	until(t, "a link that is missing is a problem",
		func() bool { return status(t, s, peer4).Problem == ProblemSocket })
	for range 2 {
		plug()
		waitState(t, s, peer4, Up)
		b.wait(our4, "Up")
		local.Run(t, "ip", "link", "del", "cable")
		waitState(t, s, peer4, Down)
	}
}

// TestTheyDetectOurSilence prints how long the peers take to see that this node
// is gone: from our last packet on the wire to the first in which they say Down.
func TestTheyDetectOurSilence(t *testing.T) {
	for _, test := range []struct {
		name  string
		start func(t *testing.T, host *netnstest.Host) (wait func())
	}{
		{"BIRD", func(t *testing.T, host *netnstest.Host) func() {
			b := startBird(t, host, birdTimers(100, 3)+birdNeighbours)
			return func() { b.wait(our4, "Up") }
		}},
		{"FRR", func(t *testing.T, host *netnstest.Host) func() {
			f := startFRR(t, host, strings.ReplaceAll(frrPeers, "detect-multiplier 30",
				"detect-multiplier 3"))
			return func() { f.wait(our4, "up") }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			lan, host := neighbours(t, strings.ToLower(test.name))
			wait := test.start(t, host)
			s := startReal(t, map[Key]SessionConfig{key(peer4): fast()})
			wait()
			until(t, "intervals are agreed on", func() bool {
				x := status(t, s, peer4)
				return x.State == Up && x.RemoteDetectionTime == 300*ms && !x.Polling &&
					x.RemoteDesiredMinTx == 100*ms
			})
			c := startCapture(t, lan.Switch(), "port1", "udp port 3784")
			time.Sleep(500 * time.Millisecond)
			lan.Cut(0)
			cut := time.Now()
			waitState(t, s, peer4, Down)
			if x := status(t, s, peer4); !x.Failed() || x.LastDown.Cause != CauseSilence {
				t.Errorf("we see %+v", x)
			}
			ours := status(t, s, peer4).LastDown.At.Sub(cut)
			time.Sleep(500 * time.Millisecond)
			sent := c.times("src host " + our4)
			// The state is in the first two bits of the second byte: 1 is Down.
			down := c.times("src host " + peer4 + " and udp[9] & 0xc0 = 0x40")
			if len(sent) == 0 || len(down) == 0 {
				t.Fatal("the capture lacks packets")
			}
			// TTL 255, CS6 and a source port in the range of RFC 5881 4.
			right := c.times("src host " + our4 +
				" and ip[8] = 255 and ip[1] = 0xc0 and src portrange 49152-65535")
			if len(right) != len(sent) {
				t.Errorf("%d of %d packets are as they should be", len(right), len(sent))
			}
			t.Logf("%s says Down %s after our last packet; we went Down %s after the cut", test.name,
				down[0]-sent[len(sent)-1], ours)
			lan.Mend(0)
			waitState(t, s, peer4, Up)
		})
	}
}
