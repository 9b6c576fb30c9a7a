package announcer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
)

// stoppable is a child process that announces.
type stoppable struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func startStoppable(t testing.TB) *stoppable {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), stoppableEnv+"=1")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &stoppable{t: t, cmd: cmd, in: in, lines: make(chan string, 100)}
	go func() {
		defer close(s.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			s.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		s.signal(syscall.SIGCONT)
		_ = in.Close()
		for range s.lines { // until it has ended
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child: %v", err)
		}
	})
	return s
}

func (s *stoppable) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}

// expect waits for a line that contains the text, and returns it.
func (s *stoppable) expect(text string) string {
	s.t.Helper()
	after := time.After(layer2test.Patience)
	for {
		select {
		case line, more := <-s.lines:
			if !more {
				s.t.Fatalf("the child ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-after:
			s.t.Fatalf("the child does not say %q", text)
		}
	}
}

func TestAStoppedProcessAnswersNothingOfThePast(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	_, client := stage(t)
	child := startStoppable(t)
	child.expect("announced 2 suspended false")
	if out, err := arping(client, vip4); err != nil {
		t.Fatalf("not answered: %s", out)
	}
	child.signal(syscall.SIGSTOP)
	asked := make(chan error, 2)
	go func() { _, err := client.Try("arping", "-c1", "-w2", "-I", "eth0", vip4.String()); asked <- err }()
	go func() {
		_, err := client.Try("ndisc6", "-1", "-r1", "-w2000", vip6.String(), "eth0")
		asked <- err
	}()
	// Both have asked by then; the first requests wait in the sockets.
	time.Sleep(1200 * time.Millisecond)
	child.signal(syscall.SIGCONT)
	child.expect("suspended true")
	for range 2 {
		if err := <-asked; err == nil {
			t.Error("a request that waited during the stop was answered")
		}
	}
	fmt.Fprintln(child.in, "resume")
	var unanswered, answered int
	line := child.expect("unanswered")
	_, err := fmt.Sscanf(line, "unanswered %d answered %d", &unanswered, &answered)
	if err != nil || unanswered < 2 || answered != 1 {
		t.Errorf("the child counts: %s", line)
	}
	child.expect("suspended false")
	if out, err := arping(client, vip4); err != nil {
		t.Errorf("not answered after it was resumed: %s", out)
	}
	if out, err := ndisc(client, vip6); err != nil {
		t.Errorf("not answered after it was resumed: %s", out)
	}
}

func TestAStandInIsNotSeen(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	const ownersMAC = "02:00:00:00:00:77"
	_, client := stage(t)
	owner, err := net.ParseMAC(ownersMAC)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, Config{})
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", ownersMAC, "dev",
			"eth0", "nud", "stale")
		n.Set(addr, Request{Links: []string{"eth0"}, As: map[string]net.HardwareAddr{"eth0": owner}})
	}
	n.waitLive(t)
	if out, err := arping(client, vip4); err != nil || !strings.Contains(out, ownersMAC) {
		t.Errorf("arping: %v\n%s", err, out)
	}
	if out, err := ndisc(client, vip6); err != nil || !strings.Contains(out, ownersMAC) {
		t.Errorf("ndisc6: %v\n%s", err, out)
	}
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "flush", "dev", "eth0")
		stop := client.Start(t, "ping", "-c1", "-W1", addr.String()) // nobody has it, but it is resolved
		until(t, "the client's entry has the owner", func() bool {
			return strings.Contains(neighbour(t, client, addr), ownersMAC)
		})
		stop()
	}
	if got := total(n.Stats()).Gratuitous; got > 0 {
		t.Errorf("%d frames unasked", got)
	}
}

func TestForeignClaimsAreHeardAndDefendedAgainst(t *testing.T) {
	netnstest.Require(t, "arping")
	l, client := stage(t)
	n := startNode(t, Config{BurstCount: 1, RefreshInterval: -1})
	n.announce(t, "eth0", vip4, vip6)
	ours := macOf(t, "eth0")
	const claimant = "02:00:00:00:00:55"
	// A third host, to see whom it believes.
	witness := l.Attach(netnstest.NewHost(t, "witness"), "eth0", "192.0.2.8/24", "2001:db8::8/64")
	client.Run(t, "ip", "address", "add", vip4.String()+"/24", "dev", "eth0")
	client.Run(t, "ip", "address", "add", vip6.String()+"/64", "dev", "eth0")
	for _, addr := range []netip.Addr{vip4, vip6} {
		witness.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", claimant, "dev",
			"eth0", "nud", "stale")
	}
	// The client's kernel tells everybody where its addresses are when its Ethernet
	// address changes.
	client.Run(t, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/ndisc_notify; "+
		"echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify")
	client.Run(t, "ip", "link", "set", "eth0", "address", claimant)
	for _, addr := range []netip.Addr{vip4, vip6} {
		until(t, "the claim of "+addr.String()+" is heard", func() bool {
			return slices.ContainsFunc(n.Conflicts(), func(c Conflict) bool {
				return c.Addr == addr && c.MAC.String() == claimant && c.Link == "eth0" && !c.Member
			})
		})
		until(t, "the witness believes us about "+addr.String(), func() bool {
			return strings.Contains(neighbour(t, witness, addr), ours)
		})
	}
	if got := total(n.Stats()); got.Defences != 2 || got.Verdicts[ForeignClaim] < 2 {
		t.Errorf("%+v", got)
	}
	n.SetMembers([]net.HardwareAddr{n.Conflicts()[0].MAC})
	client.Run(t, "arping", "-U", "-c1", "-I", "eth0", "-s", vip4.String(), vip4.String())
	until(t, "the member is heard", func() bool { return total(n.Stats()).Verdicts[MemberClaim] > 0 })
	if got := n.Conflicts(); !got[0].Member || !got[1].Member {
		t.Errorf("conflicts %+v", got)
	}
}

func TestTwoLinksOnOneSegmentAreNoConflict(t *testing.T) {
	netnstest.Require(t)
	l, _ := stage(t)
	l.Attach(netnstest.Local(), "eth1")
	n := startNode(t, Config{BurstCount: 2, BurstInterval: 50 * ms})
	for _, addr := range []netip.Addr{vip4, vip6} {
		n.Set(addr, on("eth0", "eth1"))
	}
	n.waitLive(t)
	until(t, "each link has heard the other", func() bool {
		got := n.Stats()
		return !slices.ContainsFunc(got.Links, func(l LinkStats) bool { return l.Verdicts[OwnFrame] == 0 })
	})
	if got := n.Conflicts(); len(got) > 0 || total(n.Stats()).Defences > 0 {
		t.Errorf("conflicts %+v", got)
	}
}

// cable is a veth pair of this namespace: the node on node0, and the test itself
// on ask0, to send frames that no program sends.
func cable(t testing.TB, etherType ethernet.EtherType) (ask *packet.Conn, mac net.HardwareAddr) {
	t.Helper()
	local := netnstest.Local()
	local.Run(t, "ip", "link", "add", "node0", "type", "veth", "peer", "name", "ask0")
	t.Cleanup(func() { local.Run(t, "ip", "link", "del", "node0") })
	local.Run(t, "ip", "link", "set", "node0", "up")
	local.Run(t, "ip", "link", "set", "ask0", "up")
	ifi, err := net.InterfaceByName("ask0")
	if err != nil {
		t.Fatal(err)
	}
	ask, err = packet.Listen(ifi, packet.Raw, int(etherType), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ask.Close() })
	return ask, ifi.HardwareAddr
}

func TestOptionsBeforeASolicitation(t *testing.T) {
	netnstest.Require(t)
	ask, _ := cable(t, ethernet.EtherTypeIPv6)
	n := startNode(t, Config{BurstCount: 1})
	n.announce(t, "node0", vip6)
	frame := solicit(t, solicitation{})
	for _, b := range [][]byte{
		frame,
		extend(frame, 60, 0, 1, 4, 0, 0, 0, 0),
		extend(frame, 0, 0, 5, 2, 0, 0, 1, 0),
		extend(frame, 44, 0, 0, 0, 0, 0, 0, 1), // a fragment does not pass the filter
		extend(frame, 60, 0, 0xc1, 4, 0, 0, 0, 0),
	} {
		if _, err := ask.WriteTo(b, &packet.Addr{HardwareAddr: b[:6]}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "three are answered and one is malformed", func() bool {
		got := total(n.Stats())
		return got.Replies == 3 && got.Verdicts[Malformed] == 1
	})
}

func TestALinkThatIsRenamed(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	_, client := stage(t)
	n := startNode(t, Config{BurstCount: 1, RefreshInterval: -1})
	n.announce(t, "eth0", vip4, vip6)
	ip := func(args ...string) { netnstest.Local().Run(t, "ip", append([]string{"link", "set"}, args...)...) }
	rename := func(from, to string) {
		ip(from, "down")
		ip(from, "name", to)
		ip(to, "up")
	}
	rename("eth0", "lan0")
	until(t, "the old name is missing", func() bool {
		return !slices.ContainsFunc(n.State(), func(a Announcement) bool {
			return a.Problem != ProblemLinkMissing
		})
	})
	ignored(t, client, vip4, "announced on another link")
	n.announce(t, "lan0", vip4, vip6)
	until(t, "answered on the new name", func() bool {
		_, err4 := arping(client, vip4)
		_, err6 := ndisc(client, vip6)
		return err4 == nil && err6 == nil
	})
	rename("lan0", "eth0")
	until(t, "the new name is missing", func() bool { return n.State()[0].Problem == ProblemLinkMissing })
	n.announce(t, "eth0", vip4, vip6)
	if out, err := arping(client, vip4); err != nil {
		t.Errorf("not answered: %s", out)
	}
}

// TestGroupsAreReportedToSwitches has a bridge that delivers multicast only to
// where it was reported, as switches with MLD snooping do.
func TestGroupsAreReportedToSwitches(t *testing.T) {
	netnstest.Require(t, "ndisc6", "bridge")
	l, client := stage(t)
	l.Switch().Run(t, "ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "1",
		"mcast_querier", "1",
		"mcast_query_interval", "100", "mcast_startup_query_interval", "50",
		"mcast_query_response_interval", "50")
	n := startNode(t, Config{BurstCount: 1})
	n.announce(t, "eth0", vip6)
	reported := func() bool {
		return strings.Contains(
			l.Switch().Run(t, "bridge", "mdb", "show", "dev", "br0"),
			"port0 grp "+vip6SNM.String(),
		)
	}
	until(t, "the group is reported", reported)
	if out, err := ndisc(client, vip6); err != nil {
		t.Errorf("not answered: %s", out)
	}
	l.Cut(0)
	until(t, "the loss is known", func() bool { return n.State()[0].Problem == ProblemLinkDown })
	until(t, "the bridge forgets the group", func() bool { return !reported() })
	l.Mend(0)
	n.waitLive(t)
	until(t, "the group is reported again", reported)
	n.Set(vip6, Request{})
	until(t, "the group is left", func() bool {
		return !strings.Contains(
			netnstest.Local().Run(t, "ip", "-6", "maddress", "show", "dev", "eth0"),
			vip6SNM.String(),
		)
	})
}

func TestFourThousandIPv6AddressesWithLittleOptionMemory(t *testing.T) {
	netnstest.Require(t, "ndisc6")
	const count = 4000
	_, client := stage(t)
	if _, err := netnstest.Local().Try("sh", "-c", "echo 20480 > /proc/sys/net/core/optmem_max"); err != nil {
		t.Skip("net.core.optmem_max is not per namespace before Linux 6.9")
	}
	t.Cleanup(func() { netnstest.Local().Run(t, "sh", "-c", "echo 131072 > /proc/sys/net/core/optmem_max") })
	n := startNode(t, Config{BurstCount: 1})
	addr := netip.MustParseAddr("2001:db8:1::")
	for range count {
		n.Set(addr, on("eth0"))
		addr = addr.Next().Next()
	}
	n.waitLive(t)
	if got := total(n.Stats()).Failures; got > 0 {
		t.Errorf("%d failures", got)
	}
	for _, addr := range []string{"2001:db8:1::", "2001:db8:1::1f3e"} {
		if out, err := ndisc(client, netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s is not answered: %s", addr, out)
		}
	}
	addr = netip.MustParseAddr("2001:db8:1::")
	for range count {
		n.Set(addr, Request{})
		addr = addr.Next().Next()
	}
	until(t, "all groups are left", func() bool {
		return strings.Count(
			netnstest.Local().Run(t, "ip", "-6", "maddress", "show", "dev", "eth0"),
			"ff02::1:ff00:",
		) < 10
	})
}
