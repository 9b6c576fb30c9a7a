package announcer

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// asker asks over and over for one address over a veth pair.
type asker struct {
	conn    *packet.Conn
	request []byte
	to      *packet.Addr
}

// askers has, by the name of a benchmark, who asks for what: for an address that
// the kernel has, and for one that the announcer answers for.
type askers []struct {
	name   string
	target netip.Addr
}

func responders() askers {
	return askers{
		{"arp/kernel", netip.MustParseAddr("192.0.2.7")},
		{"arp/announcer", vip4},
		{"ndp/kernel", netip.MustParseAddr("2001:db8::7")},
		{"ndp/announcer", vip6},
	}
}

// responding sets both responders up on the same veth.
func responding(b *testing.B) {
	b.Helper()
	netnstest.Require(b)
	local := netnstest.Local()
	local.Run(b, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
	local.Run(b, "ip", "link", "add", "node0", "type", "veth", "peer", "name", "ask0")
	b.Cleanup(func() { local.Run(b, "ip", "link", "del", "node0") })
	local.Run(b, "ip", "link", "set", "node0", "up")
	local.Run(b, "ip", "link", "set", "ask0", "up")
	local.Run(b, "ip", "address", "add", "192.0.2.7/24", "dev", "node0")
	local.Run(b, "ip", "address", "add", "2001:db8::7/64", "dev", "node0")
	n := startNode(b, Config{BurstCount: 1, RefreshInterval: -1})
	n.announce(b, "node0", vip4, vip6)
}

// newAsker opens a socket that sees only the replies.
func newAsker(b *testing.B, target netip.Addr) asker {
	b.Helper()
	ifi, err := net.InterfaceByName("ask0")
	if err != nil {
		b.Fatal(err)
	}
	a := asker{}
	proto, filter := ethernet.EtherTypeARP, only(20, 2, uint32(arp.OperationReply))
	if target.Is4() {
		a.request = layer2test.ARP{
			Op:        arp.OperationRequest,
			SenderMAC: ifi.HardwareAddr,
			SenderIP:  client4,
			TargetMAC: layer2test.ZeroMAC,
			TargetIP:  target,
			To:        ethernet.Broadcast,
		}.Frame(b)
	} else {
		// An advertisement, for the asker sees no other frame with that byte.
		proto, filter = ethernet.EtherTypeIPv6, only(offICMPv6, 1, 136)
		a.request = solicit(b, solicitation{
			Target:   target,
			NoOption: true,
			More:     []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}},
		})
		copy(a.request[6:], ifi.HardwareAddr)
	}
	a.to = &packet.Addr{HardwareAddr: a.request[:neighbor.MACLen]}
	raw, err := bpf.Assemble(filter)
	if err != nil {
		b.Fatal(err)
	}
	a.conn, err = packet.Listen(ifi, packet.Raw, int(proto), &packet.Config{Filter: raw})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.conn.Close() })
	return a
}

// only passes the frames that have a value at an offset.
func only(offset uint32, size int, value uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: size},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: 1},
		bpf.RetConstant{Val: neighbor.ReadLen},
		bpf.RetConstant{Val: 0},
	}
}

// BenchmarkLatency is the time from a request to its reply over a veth pair:
// answered by the kernel, which has the address, and by the announcer. The asker
// waits a little between requests, as real clients do.
func BenchmarkLatency(b *testing.B) {
	responding(b)
	for _, r := range responders() {
		for _, pause := range []time.Duration{0, 3 * time.Millisecond} {
			suffix := "/back-to-back"
			if pause > 0 {
				suffix = "/every-" + pause.String()
			}
			b.Run(r.name+suffix, func(b *testing.B) { askRepeatedly(b, newAsker(b, r.target), pause) })
		}
	}
}

func askRepeatedly(b *testing.B, a asker, pause time.Duration) {
	var took []time.Duration
	buf := make([]byte, 128)
	for b.Loop() {
		begin := time.Now()
		if _, err := a.conn.WriteTo(a.request, a.to); err != nil {
			b.Fatal(err)
		}
		if err := a.conn.SetReadDeadline(begin.Add(time.Second)); err != nil {
			b.Fatal(err)
		}
		if _, _, err := a.conn.ReadFrom(buf); err != nil {
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

// BenchmarkFlood is how many replies come in a second to a flood of requests, and
// what part of the requests is answered.
func BenchmarkFlood(b *testing.B) {
	responding(b)
	for _, r := range responders() {
		b.Run(r.name, func(b *testing.B) { flood(b, newAsker(b, r.target)) })
	}
}

func flood(b *testing.B, a asker) {
	replies := make(chan int)
	if err := a.conn.SetReadDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	go func() {
		n, buf := 0, make([]byte, 128)
		for {
			_, _, err := a.conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				replies <- n
				return
			}
			if err == nil {
				n++
			}
		}
	}()
	begin, asked := time.Now(), 0
	for b.Loop() {
		if _, err := a.conn.WriteTo(a.request, a.to); err == nil {
			asked++
		}
	}
	took := time.Since(begin)
	// What still waits is not of this second, or only a little of it.
	if err := a.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		b.Fatal(err)
	}
	n := <-replies
	b.ReportMetric(float64(n)/took.Seconds(), "replies/s")
	b.ReportMetric(100*float64(n)/float64(asked), "%-answered")
}
