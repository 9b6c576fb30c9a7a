package suite

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestForeignHostHasAddress: a host on the LAN that is no node has the address of a new Service. It is not
// announced, and everybody who looks is told who has it. When the host gives it up, it is announced.
func TestForeignHostHasAddress(t *testing.T) {
	stranger := strings.TrimSpace(string(must(t)(cluster.Host(lab.HostRouter).Exec(t.Context(), "cat",
		"/sys/class/net/eth0/address"))))
	taken := []string{"10.77.0.216", "fd77::216"}
	for _, addr := range taken {
		single := netip.PrefixFrom(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen()).String()
		must(t)(cluster.Host(lab.HostRouter).Exec(t.Context(), "ip", "addr", "add", single,
			"dev", "eth0", "nodad"))
		t.Cleanup(func() {
			_, _ = cluster.Host(lab.HostRouter).Exec(context.WithoutCancel(t.Context()), "ip", "addr", "del",
				single, "dev", "eth0")
		})
	}
	apply(t, web("strange", "node1"))
	kubectl(t, "rollout", "status", "deployment/strange", "--timeout=60s")
	apply(t, pool("strange", "10.77.0.216/32, fd77::216/128"))
	apply(t, echo("strange", "strange", ""))
	eventually(t, 10*time.Second, "both addresses", func() (bool, string) {
		got := address(t, "strange")
		return len(strings.Fields(got)) == 2, got
	})
	const path = `.items[*].status.layer2.conflicts[*]`
	for _, addr := range taken {
		eventually(t, 15*time.Second, "a Speaker tells of the conflict for "+addr, func() (bool, string) {
			got := get(t, "get speakers", path)
			for _, line := range strings.Split(got, "} {") {
				if strings.Contains(line, `"`+addr+`"`) && strings.Contains(line, stranger) &&
					strings.Contains(line, `"ForeignHost"`) {
					return true, ""
				}
			}
			return false, got
		})
		eventually(t, 15*time.Second, "an Event tells of the conflict for "+addr, func() (bool, string) {
			out := kubectl(t, "get", "events", "-A", "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
			for line := range strings.Lines(out) {
				if strings.Contains(line, addr) && strings.Contains(line, stranger) {
					return true, ""
				}
			}
			return false, out
		})
	}
	got := get(t, "get speakers", `.items[*].status.layer2.announcements[*].address`)
	if strings.Contains(" "+got+" ", " 10.77.0.216 ") {
		t.Errorf("announced although another host has it: %s", got)
	}
	if got := answers(t, "10.77.0.216"); len(got) != 1 || !strings.HasPrefix(got[0], "stranger") {
		t.Errorf("%v answer", got)
	}
	for _, addr := range taken {
		single := netip.PrefixFrom(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen()).String()
		must(t)(cluster.Host(lab.HostRouter).Exec(t.Context(), "ip", "addr", "del", single, "dev", "eth0"))
	}
	gone := time.Now()
	ownedBy(t, "10.77.0.216", cluster.NodeNames()...)
	for _, addr := range taken {
		served(t, addr)
	}
	fmt.Printf(
		"figure: address given up by a foreign host, served after %.1f s\n",
		time.Since(gone).Seconds(),
	)
	eventually(t, 30*time.Second, "the conflict is forgotten", func() (bool, string) {
		got := get(t, "get speakers", path)
		return !strings.Contains(got, "216"), got
	})
}

// must returns the output of a command, or fails the test.
func must(t *testing.T) func([]byte, error) []byte {
	t.Helper()
	return func(out []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// TestLinkOnOneNode: an advertisement names links by a pattern, and only a node that has such a link is a
// candidate.
func TestLinkOnOneNode(t *testing.T) {
	apply(t, web("links", "node1"))
	kubectl(t, "rollout", "status", "deployment/links", "--timeout=60s")
	addLink := func(node string) (mac string) {
		t.Helper()
		// A second interface on the same LAN, with a hardware address of its own.
		must(t)(cluster.Node(node).Exec(t.Context(), "ip", "link", "add", "lan9", "link", "eth0", "type",
			"macvlan", "mode", "bridge"))
		t.Cleanup(func() {
			_, _ = cluster.Node(node).Exec(context.WithoutCancel(t.Context()), "ip", "link", "del", "lan9")
		})
		must(t)(cluster.Node(node).Exec(t.Context(), "ip", "link", "set", "lan9", "up"))
		address := must(t)(cluster.Node(node).Exec(t.Context(), "cat", "/sys/class/net/lan9/address"))
		return strings.TrimSpace(string(address))
	}
	answeredBy := func(addr, want string) {
		t.Helper()
		eventually(t, 15*time.Second, addr+" is answered by "+want, func() (bool, string) {
			out, _ := cluster.Client().Exec(t.Context(), "arping", "-c", "1", "-w", "1", "-I", "eth0", addr)
			var macs []string
			for _, m := range macPattern.FindAllStringSubmatch(string(out), -1) {
				macs = append(macs, strings.ToLower(m[1]))
			}
			return strings.Join(macs, " ") == want, fmt.Sprint(macs)
		})
	}
	second := addLink("node2")
	apply(t, pool("links", "10.77.0.217/32"))
	kubectl(t, "patch", "l2advertisement", "links", "--type=merge", "-p",
		`{"spec":{"interfacePatterns":["lan[0-9]+"]}}`)
	apply(t, service("links", "links", ""))
	addr := hasAddress(t, "links")
	answeredBy(addr, second)

	// The only link goes: nobody can announce. It comes on another node: that one does.
	must(t)(cluster.Node("node2").Exec(t.Context(), "ip", "link", "del", "lan9"))
	answeredBy(addr, "")
	answeredBy(addr, addLink("node3"))
}
