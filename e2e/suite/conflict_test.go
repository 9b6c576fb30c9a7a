package suite

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestForeignHostHasAddress: a host on the LAN that is no node has the address of a new Service. It is not
// announced, and everybody who looks is told who has it. When the host gives it up, it is announced.
func TestForeignHostHasAddress(t *testing.T) {
	stranger := strings.TrimSpace(string(must(t)(cluster.Host(lab.HostRouter).Exec(t.Context(), "cat",
		"/sys/class/net/eth0/address"))))
	var taken []string
	var given []netip.Prefix
	for _, f := range families() {
		taken, given = append(taken, f.at(216)), append(given, f.prefix(216))
	}
	if err := cluster.Host(lab.HostRouter).AddAddresses(t.Context(), "eth0", given...); err != nil {
		t.Fatal(err)
	}
	gives := sync.OnceValue(func() error {
		ctx := context.WithoutCancel(t.Context())
		return cluster.Host(lab.HostRouter).RemoveAddresses(ctx, "eth0", given...)
	})
	t.Cleanup(func() {
		if err := gives(); err != nil {
			t.Error(err)
		}
	})
	apply(t, web("strange", "node1"))
	kubectl(t, "rollout", "status", "deployment/strange", "--timeout=60s")
	apply(t, pool("strange", spans(216, 216)))
	apply(t, echo("strange", "strange", ""))
	addressesOf(t, "strange")
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
			out := show(t, "get events -A", `{range .items[*]}{.message}{"\n"}{end}`)
			for line := range strings.Lines(out) {
				if strings.Contains(line, addr) && strings.Contains(line, stranger) {
					return true, ""
				}
			}
			return false, out
		})
	}
	announced := strings.Fields(get(t, "get speakers", `.items[*].status.layer2.announcements[*].address`))
	for _, addr := range taken {
		if slices.Contains(announced, addr) {
			t.Errorf("%s is announced although another host has it", addr)
		}
		if got := answers(t, addr); len(got) != 1 || !strings.HasPrefix(got[0], "stranger") {
			t.Errorf("%v answer for %s", got, addr)
		}
	}
	if err := gives(); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	for _, addr := range taken {
		ownedBy(t, addr, cluster.NodeNames()...)
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
	var addresses []netip.Addr
	answeredBy := func(want string) {
		t.Helper()
		for _, addr := range addresses {
			what := addr.String() + " is answered by " + want
			eventually(t, 15*time.Second, what, func() (bool, string) {
				macs := answerers(t, lab.HostClient, "eth0", addr, 1)
				return strings.Join(macs, " ") == want, fmt.Sprint(macs)
			})
		}
	}
	second := addLink("node2")
	apply(t, pool("links", spans(217, 217)))
	kubectl(t, "patch", "l2advertisement", "links", "--type=merge", "-p",
		`{"spec":{"interfacePatterns":["lan[0-9]+"]}}`)
	apply(t, service("links", "links", everyFamily()))
	addresses = addressesOf(t, "links")
	answeredBy(second)

	// The only link goes: nobody can announce. It comes on another node: that one does.
	must(t)(cluster.Node("node2").Exec(t.Context(), "ip", "link", "del", "lan9"))
	answeredBy("")
	answeredBy(addLink("node3"))
}
