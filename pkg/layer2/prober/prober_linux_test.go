package prober

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"go.uber.org/goleak"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/links/watch"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// probing is a prober as the speaker runs it, fed by a link watcher.
type probing struct {
	*Prober
	watcher *watch.Watcher
}

// startProber starts a prober in the test's own namespace and ends it with the
// test, leaving nothing behind.
func startProber(t testing.TB, config Config) probing {
	t.Helper()
	before := goleak.IgnoreCurrent()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	config.Logger = log
	prober, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	p := probing{prober, watch.New(log)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("prober: %v", err)
		}
	})
	running.Go(func() {
		if err := p.watcher.Run(ctx); err != nil {
			t.Errorf("link watcher: %v", err)
		}
	})
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-p.watcher.Changed():
				p.SetLinks(p.watcher.Links())
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		goleak.VerifyNone(t, before)
	})
	return p
}

// waitLink waits until the prober knows that eth0 is up.
func (p probing) waitLink(t testing.TB) {
	t.Helper()
	until(t, "the link is up", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.links["eth0"].Up
	})
}

func (p probing) waitState(t testing.TB, node string, want Reachability) {
	t.Helper()
	until(t, fmt.Sprintf("%s is %s", node, want), func() bool { return p.Reach()[node].State == want })
}

func TestAKernelAnswersProbes(t *testing.T) {
	netnstest.Require(t)
	_, client := stage(t)
	mac := hardwareAddr(t, client)
	linkLocal := netip.MustParseAddr(strings.Split(strings.Fields(
		client.Run(t, "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"))[3], "/")[0])
	p := startProber(t, Config{Interval: 20 * time.Millisecond})
	p.SetTargets([]Target{
		{Node: "arp, unicast", Link: "eth0", Addr: clientOwn4, MAC: mac},
		{Node: "arp, broadcast", Link: "eth0", Addr: clientOwn4},
		{Node: "ndp, unicast", Link: "eth0", Addr: clientOwn6, MAC: mac},
		{Node: "ndp, group", Link: "eth0", Addr: clientOwn6},
		{Node: "ndp, link-local", Link: "eth0", Addr: linkLocal, MAC: mac},
		{Node: "arp, nobody", Link: "eth0", Addr: foreign4},
		{Node: "ndp, nobody", Link: "eth0", Addr: foreign6},
	})
	for _, node := range []string{
		"arp, unicast", "arp, broadcast", "ndp, unicast", "ndp, group", "ndp, link-local",
	} {
		p.waitState(t, node, Answers)
	}
	for _, node := range []string{"arp, nobody", "ndp, nobody"} {
		if r := p.Reach()[node]; r.State != Unknown {
			t.Errorf("%s: %+v", node, r)
		}
	}
}

// TestEachWayOfAsking asks in one way at a time, since an answer to one way is
// an answer to all.
func TestEachWayOfAsking(t *testing.T) {
	netnstest.Require(t)
	_, client := stage(t)
	mac := hardwareAddr(t, client)
	p := startProber(t, Config{Interval: 20 * time.Millisecond})
	ask := func(story string, target Target) {
		t.Helper()
		target.Node, target.Link = story, "eth0"
		p.SetTargets([]Target{target})
		p.waitState(t, story, Answers)
	}
	ask("arp by unicast", Target{Addr: clientOwn4, MAC: mac})
	ask("arp by broadcast", Target{Addr: clientOwn4})
	ask("ndp by unicast", Target{Addr: clientOwn6, MAC: mac})
	ask("ndp in the group", Target{Addr: clientOwn6})
	client.Run(t, "ip", "address", "add", "198.51.100.9/24", "dev", "eth0")
	client.Run(t, "ip", "address", "add", "2001:db8:5::9/64", "dev", "eth0")
	ask("arp without an address in the subnet", Target{Addr: netip.MustParseAddr("198.51.100.9"), MAC: mac})
	ask("ndp without an address in the subnet", Target{Addr: netip.MustParseAddr("2001:db8:5::9"), MAC: mac})
	client.Run(t, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_ignore; "+
		"echo 2 > /proc/sys/net/ipv4/conf/eth0/arp_announce")
	ask("a node set up for strict ARP", Target{Addr: clientOwn4, MAC: mac})
}

func TestADeadNodeIsSilentAndAStoppedOneIsNot(t *testing.T) {
	netnstest.Require(t)
	for _, tt := range []struct {
		story string
		addr  netip.Addr
	}{{"IPv4", clientOwn4}, {"IPv6", clientOwn6}} {
		t.Run(tt.story, func(t *testing.T) {
			_, client := stage(t)
			stopped := exec.Command("ip", "netns", "exec", "client", "sleep", "1000")
			if err := stopped.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stopped.Process.Kill(); _ = stopped.Wait() })
			p := startProber(t, Config{Interval: 20 * time.Millisecond})
			p.SetTargets([]Target{{
				Node: "client",
				Link: "eth0",
				Addr: tt.addr,
				MAC:  hardwareAddr(t, client),
			}})
			p.waitState(t, "client", Answers)

			if err := stopped.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			seen := total(p.Stats()).Answers
			until(t, "it goes on answering with all its processes stopped", func() bool {
				return total(p.Stats()).Answers > seen+10
			})
			if r := p.Reach()["client"]; r.State != Answers {
				t.Errorf("stopped: %+v", r)
			}
			// Not seen by our link, as when the machine or its cable dies.
			client.Run(t, "ip", "link", "set", "eth0", "down")
			begin := time.Now()
			p.waitState(t, "client", Silent)
			t.Logf("silent %s after the last answer, noticed %s after the command",
				time.Since(p.Reach()["client"].LastAnswer).Round(time.Millisecond),
				time.Since(begin).Round(time.Millisecond))
			if r := p.Reach()["client"]; r.Missed < 3 {
				t.Errorf("silent: %+v", r)
			}
			client.Run(t, "ip", "link", "set", "eth0", "up")
			if tt.addr.Is6() {
				// The kernel drops global addresses with the link.
				client.Run(t, "ip", "address", "replace", tt.addr.String()+"/64", "dev", "eth0")
			}
			p.waitState(t, "client", Answers)
			if r := p.Reach()["client"]; r.Missed != 0 {
				t.Errorf("back: %+v", r)
			}
		})
	}
}

// starved is a socket whose goroutine gets no processor time until long after
// each deadline.
type starved struct{ socket }

func (s starved) Receive(b []byte, until time.Time) (int, error) {
	time.Sleep(time.Until(until) + 60*time.Millisecond)
	return s.socket.Receive(b, until)
}

// TestAStarvedProberMissesNothing has a real socket, whose read returns at once
// when the deadline has passed, without a look at the queue.
func TestAStarvedProberMissesNothing(t *testing.T) {
	netnstest.Require(t)
	_, client := stage(t)
	p, err := New(Config{Interval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p.open = func(spec neighbor.Spec) (socket, error) {
		s, err := openSocket(spec)
		return starved{s}, err
	}
	all, err := watch.Read()
	if err != nil {
		t.Fatal(err)
	}
	p.SetLinks(all)
	mac := hardwareAddr(t, client)
	p.SetTargets([]Target{
		{Node: "four", Link: "eth0", Addr: clientOwn4, MAC: mac},
		{Node: "six", Link: "eth0", Addr: clientOwn6, MAC: mac},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	until(t, "both have answered often", func() bool {
		links := p.Stats().Links
		return len(links) == 2 && links[0].Answers > 5 && links[1].Answers > 5
	})
	if misses := total(p.Stats()).Misses; misses != 0 {
		t.Errorf("%d misses", misses)
	}
	cancel()
	running.Wait()
}

func TestOurOwnLostCarrierIsNobodysSilence(t *testing.T) {
	netnstest.Require(t)
	l, client := stage(t)
	p := startProber(t, Config{Interval: 100 * time.Millisecond, Misses: 100})
	p.SetTargets([]Target{{Node: "client", Link: "eth0", Addr: clientOwn4, MAC: hardwareAddr(t, client)}})
	p.waitState(t, "client", Answers)
	l.Cut(0)
	until(t, "the state is left", func() bool { return p.Reach()["client"].State != Answers })
	if r := p.Reach()["client"]; r.State != Unknown {
		t.Errorf("without a carrier: %+v", r)
	}
	l.Mend(0)
	p.waitState(t, "client", Answers)
}

// ask asks for an address on eth0.
func (p probing) ask(t testing.TB, addr netip.Addr) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), layer2test.Patience)
	defer cancel()
	macs, err := everybody(p.Ask(ctx, Question{
		Addr:     addr,
		Link:     "eth0",
		Count:    2,
		Interval: 100 * time.Millisecond,
	}))
	if err != nil {
		t.Error(err)
	}
	var out []string
	for _, mac := range macs {
		out = append(out, mac.String())
	}
	return out
}

func TestAskFindsHolders(t *testing.T) {
	netnstest.Require(t)
	l, client := stage(t)
	other := l.Attach(netnstest.NewHost(t, "other"), "eth0", "192.0.2.8/24", "2001:db8::8/64")
	for _, addr := range []string{"192.0.2.50/32", "2001:db8::50/128"} {
		client.Run(t, "ip", "address", "add", addr, "dev", "eth0")
		other.Run(t, "ip", "address", "add", addr, "dev", "eth0")
	}
	clientHas, otherHas := hardwareAddr(t, client).String(), hardwareAddr(t, other).String()
	both := []string{clientHas, otherHas}
	slices.Sort(both)
	p := startProber(t, Config{})
	p.waitLink(t)
	tests := []struct {
		story string
		addr  netip.Addr
		want  []string
	}{
		{"a kernel has it", clientOwn4, []string{clientHas}},
		{"a kernel has it, IPv6", clientOwn6, []string{clientHas}},
		{"two have it", netip.MustParseAddr("192.0.2.50"), both},
		{"two have it, IPv6", netip.MustParseAddr("2001:db8::50"), both},
		{"nobody has it", foreign4, nil},
		{"nobody has it, IPv6", foreign6, nil},
		{"this node itself has it", netip.MustParseAddr("192.0.2.7"), nil},
	}
	var asked sync.WaitGroup
	for _, tt := range tests {
		asked.Go(func() {
			if got := p.ask(t, tt.addr); !slices.Equal(got, tt.want) {
				t.Errorf("%s: %v, want %v", tt.story, got, tt.want)
			}
		})
	}
	asked.Wait()
}

// TestAskFindsOneWhoAsksTheSame has a prober whose frames come from a link of its
// own: a second prober, and the kernel's own duplicate address detection.
func TestAskFindsOneWhoAsksTheSame(t *testing.T) {
	netnstest.Require(t, "arping")
	l, client := stage(t)
	l.Attach(netnstest.Local(), "eth1")
	p := startProber(t, Config{})
	p.waitLink(t)
	until(t, "the second link is up", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.links["eth1"].Up
	})
	for _, addr := range []netip.Addr{vip4, vip6} {
		var asked sync.WaitGroup
		for link, other := range map[string]string{"eth0": "eth1", "eth1": "eth0"} {
			want := macOf(t, other)
			asked.Go(func() {
				macs, err := everybody(p.Ask(t.Context(),
					Question{Addr: addr, Link: link, Count: 3, Interval: 100 * time.Millisecond}))
				if err != nil || len(macs) != 1 || macs[0].String() != want {
					t.Errorf("%s on %s: %v, %v; want %s", addr, link, macs, err, want)
				}
			})
		}
		asked.Wait()
	}
	// One frame at once, not after up to a second; it is sent while we ask.
	client.Run(t, "sh", "-c",
		"cd /proc/sys/net/ipv6/conf/eth0; echo 1 > accept_dad; echo 0 > router_solicitation_delay")
	for addr, command := range map[netip.Addr][]string{
		vip4: {"arping", "-D", "-c1", "-w1", "-I", "eth0", vip4.String()},
		vip6: {"ip", "address", "add", vip6.String() + "/64", "dev", "eth0"},
	} {
		before := total(p.Stats()).Questions
		ctx, enough := context.WithCancel(t.Context())
		var asked sync.WaitGroup
		asked.Go(func() {
			macs, err := everybody(p.Ask(ctx,
				Question{Addr: addr, Link: "eth0", Count: 1, Interval: time.Minute}))
			if !errors.Is(err, context.Canceled) || len(macs) != 1 ||
				macs[0].String() != hardwareAddr(t, client).String() {
				t.Errorf("%s asked by the client too: %v, %v", addr, macs, err)
			}
		})
		until(t, "it was asked for", func() bool { return total(p.Stats()).Questions > before })
		_, _ = client.Try(command[0], command[1:]...)
		until(t, "the client was heard", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.ContainsFunc(p.asks[portKeyOf("eth0", addr)].byAddr[addr], func(a *asking) bool {
				return len(a.holders)+len(a.probers) > 0
			})
		})
		enough()
		asked.Wait()
	}
}

// TestAskSpoilsNobodysAddress asks hosts that have the address: they keep it and
// learn nothing of who asked.
func TestAskSpoilsNobodysAddress(t *testing.T) {
	netnstest.Require(t)
	_, client := stage(t)
	p := startProber(t, Config{})
	p.waitLink(t)
	p.ask(t, clientOwn4)
	p.ask(t, clientOwn6)
	out := client.Run(t, "ip", "address", "show", "dev", "eth0")
	if strings.Contains(out, "dadfailed") || !strings.Contains(out, clientOwn4.String()) ||
		!strings.Contains(out, clientOwn6.String()) {
		t.Error(out)
	}
	if got := neighbour(t, client, netip.IPv4Unspecified()); strings.TrimSpace(got) != "" {
		t.Errorf("the client has learned %s", got)
	}
}

func TestAskForThousands(t *testing.T) {
	netnstest.Require(t)
	const count = 2000
	_, client := stage(t)
	// Every tenth is taken.
	var batch strings.Builder
	four, six := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("2001:db8:9::1")
	type asked struct {
		addr  netip.Addr
		taken bool
	}
	var all []asked
	for i := range count / 2 {
		all = append(all, asked{four, i%10 == 0}, asked{six, i%10 == 0})
		if i%10 == 0 {
			fmt.Fprintf(&batch, "address add %s/32 dev eth0\naddress add %s/128 dev eth0\n", four, six)
		}
		four, six = four.Next(), six.Next()
	}
	client.Run(t, "sh", "-c", "printf '"+batch.String()+"' | ip -batch -")
	p := startProber(t, Config{})
	p.waitLink(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	begin := time.Now()
	var running sync.WaitGroup
	for _, a := range all {
		running.Go(func() {
			macs, err := everybody(p.Ask(ctx,
				Question{Addr: a.addr, Link: "eth0", Count: 2, Interval: 100 * time.Millisecond}))
			if err != nil || (len(macs) > 0) != a.taken {
				t.Errorf("%s: %v, %v; taken: %t", a.addr, macs, err, a.taken)
			}
		})
	}
	running.Wait()
	took := time.Since(begin)
	total := total(p.Stats())
	t.Logf("%d addresses asked for twice in %s: %d frames, %d lost",
		count, took.Round(time.Millisecond), total.Questions, total.Lost)
	if total.Questions != 2*count {
		t.Errorf("%d frames, want %d", total.Questions, 2*count)
	}
	if least := time.Duration(2*count-askBurst) * time.Second / askRate; took < least {
		t.Errorf("took %s, less than %s: too many frames in a second", took, least)
	}
	until(t, "the groups are left and the sockets closed", func() bool {
		return !strings.Contains(
			netnstest.Local().Run(t, "ip", "-6", "maddress", "show", "dev", "eth0"),
			"ff02::1:ff00:1f",
		)
	})
}

// TestForeignClaimsDuringAsk sends what hosts send that we have no program for.
func TestForeignClaimsDuringAsk(t *testing.T) {
	netnstest.Require(t)
	l, _ := stage(t)
	l.Attach(netnstest.Local(), "eth1")
	ifi, err := net.InterfaceByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	p := startProber(t, Config{})
	p.waitLink(t)
	request := layer2test.ARP{
		Op:        arp.OperationRequest,
		SenderMAC: ifi.HardwareAddr,
		SenderIP:  vip4,
		TargetMAC: zeroMAC,
		TargetIP:  client4,
		To:        ethernet.Broadcast,
	}.Frame(t)
	advertised := at(advertise(t, advertisement{MAC: ifi.HardwareAddr}), 6, ifi.HardwareAddr...)
	// Ours, come back through a host that changes the Ethernet source.
	echo := make(chan *ndp.Nonce, 1)
	sock, err := openSocket(neighbor.Spec{
		Link:       links.Link{Index: ifi.Index, Name: "eth1", HardwareAddr: ifi.HardwareAddr},
		Protocol:   neighbor.NDP,
		Filter:     neighbor.NDP.HolderFilter(ifi.Index),
		ReadBuffer: 1 << 16,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sock.Close() }()
	reflected := netip.MustParseAddr("2001:db8::7:7")
	go func() {
		defer close(echo)
		b := make([]byte, 2048)
		n, err := sock.Receive(b, time.Now().Add(layer2test.Patience))
		for ; err == nil && n > 0; n, err = sock.Receive(b, time.Now().Add(layer2test.Patience)) {
			s, _ := see(b[:n], ifi.HardwareAddr)
			if s.what == sawProber && s.addr == reflected {
				copy(b[6:12], ifi.HardwareAddr)
				_ = sock.TrySend(b[:n])
				return
			}
		}
	}()
	if got := p.ask(t, reflected); got != nil {
		t.Errorf("our own solicitation was taken for that of %v", got)
	}
	<-echo
	var asked sync.WaitGroup
	for _, addr := range []netip.Addr{vip4, vip6} {
		asked.Go(func() {
			if got := p.ask(t, addr); !slices.Equal(got, []string{ifi.HardwareAddr.String()}) {
				t.Errorf("%s: %v", addr, got)
			}
		})
	}
	done := make(chan struct{})
	go func() { asked.Wait(); close(done) }()
	for {
		_ = sock.TrySend(request)
		_ = sock.TrySend(advertised)
		select {
		case <-done:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
