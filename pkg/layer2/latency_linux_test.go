package layer2

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/berth-lb/berth/internal/netnstest"
)

// BenchmarkLatency is the time from an ARP request to its reply over a veth
// pair: answered by the kernel, which has the address, and by the announcer.
// The asker waits a little between requests, as real clients do.
func BenchmarkLatency(b *testing.B) {
	netnstest.Require(b)
	local := netnstest.Local()
	local.Run(b, "ip", "link", "add", "node0", "type", "veth", "peer", "name", "ask0")
	b.Cleanup(func() { local.Run(b, "ip", "link", "del", "node0") })
	local.Run(b, "ip", "link", "set", "node0", "up")
	local.Run(b, "ip", "link", "set", "ask0", "up")
	local.Run(b, "ip", "address", "add", "192.0.2.7/24", "dev", "node0")
	n := startNode(b, Config{BurstCount: 1})
	n.announce(b, "node0", vip4)
	for _, pause := range []time.Duration{0, 3 * time.Millisecond} {
		suffix := "/back-to-back"
		if pause > 0 {
			suffix = "/every-" + pause.String()
		}
		b.Run("kernel"+suffix, func(b *testing.B) { askRepeatedly(b, netip.MustParseAddr("192.0.2.7"), pause) })
		b.Run("announcer"+suffix, func(b *testing.B) { askRepeatedly(b, vip4, pause) })
	}
}

func askRepeatedly(b *testing.B, target netip.Addr, pause time.Duration) {
	ifi, err := net.InterfaceByName("ask0")
	if err != nil {
		b.Fatal(err)
	}
	replies, err := bpf.Assemble(slices.Concat(
		loadAndRequire(offARP+6, 2, uint32(arp.OperationReply)),
		[]bpf.Instruction{bpf.RetConstant{Val: snapLen}}))
	if err != nil {
		b.Fatal(err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), &packet.Config{Filter: replies})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	request, err := arpFrame(arp.OperationRequest, arpSide{ifi.HardwareAddr, client4},
		arpSide{make(net.HardwareAddr, macLen), target}, ethernet.Broadcast)
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	buf := make([]byte, 128)
	for b.Loop() {
		begin := time.Now()
		if _, err := conn.WriteTo(request, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
			b.Fatal(err)
		}
		if err := conn.SetReadDeadline(begin.Add(time.Second)); err != nil {
			b.Fatal(err)
		}
		if _, _, err := conn.ReadFrom(buf); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		time.Sleep(pause)
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1e3 }
	b.ReportMetric(at(0.5), "p50-µs")
	b.ReportMetric(at(0.99), "p99-µs")
}
