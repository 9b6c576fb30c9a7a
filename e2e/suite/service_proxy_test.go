package suite

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestSourceRanges: kube-proxy drops what comes from a client that no range of its family has; a family
// without a range is open to everybody. Berth announces the addresses all the same.
func TestSourceRanges(t *testing.T) {
	apply(t, web("ranges", "node1"))
	kubectl(t, "rollout", "status", "deployment/ranges", "--timeout=60s")
	apply(t, pool("ranges", spans(180, 180)))
	apply(t, service("ranges", "ranges", fmt.Sprintf("%s\n  loadBalancerSourceRanges: [%q]",
		everyFamily(), first().host(lab.StrangerAddresses))))
	addresses := addressesOf(t, "ranges")
	restricted, open := addresses[0].String(), addresses[1:]
	admitted(t, lab.HostStranger, restricted)
	shutOut(t, lab.HostClient, restricted)
	for _, addr := range open {
		admitted(t, lab.HostClient, addr.String())
	}
	ownedBy(t, restricted)

	ranges := []string{first().host(lab.ClientAddresses).String()}
	for _, addr := range open {
		ranges = append(ranges, familyOf(addr).host(lab.StrangerAddresses).String())
	}
	kubectl(t, "patch", "service", "ranges", "-p",
		fmt.Sprintf(`{"spec":{"loadBalancerSourceRanges":%s}}`, toJSON(ranges)))
	admitted(t, lab.HostClient, restricted)
	shutOut(t, lab.HostStranger, restricted)
	for _, addr := range open {
		admitted(t, lab.HostStranger, addr.String())
		shutOut(t, lab.HostClient, addr.String())
	}
}

// admitted waits until a host gets the page at an address.
func admitted(t *testing.T, host, addr string) {
	t.Helper()
	forwarded(t)
	eventually(t, 15*time.Second, host+" gets a page at "+addr, func() (bool, string) {
		_, err := page(t.Context(), host, addr, time.Second)
		return err == nil, fmt.Sprint(err)
	})
}

// shutOut waits until a host gets no page at an address three times in a row.
func shutOut(t *testing.T, host, addr string) {
	t.Helper()
	forwarded(t)
	refused := 0
	eventually(t, 15*time.Second, host+" gets no page at "+addr, func() (bool, string) {
		line, err := page(t.Context(), host, addr, 300*time.Millisecond)
		if err == nil {
			refused = 0
			return false, line
		}
		refused++
		return refused == 3, err.Error()
	})
}

// TestMixedProtocols: one port of a Service takes TCP and UDP, and both come from outside to one address.
func TestMixedProtocols(t *testing.T) {
	apply(t, web("mixed", "node1"))
	kubectl(t, "rollout", "status", "deployment/mixed", "--timeout=60s")
	apply(t, pool("mixed", spans(184, 184)))
	apply(t, echo("mixed", "mixed", ""))
	kubectl(t, "patch", "service", "mixed", "--type=json",
		"-p", `[{"op":"replace","path":"/spec/ports/1/port","value":80}]`)
	for _, addr := range addressesOf(t, "mixed") {
		served(t, addr.String())
		eventually(t, 15*time.Second, "a datagram to "+addr.String()+" is answered", func() (bool, string) {
			line, err := datagram(t.Context(), lab.HostClient, netip.AddrPortFrom(addr, 80).String())
			return err == nil && field(line, "node") == "node1", fmt.Sprint(line, err)
		})
	}
}

// datagram sends one from a host of the lab and returns what comes back.
func datagram(ctx context.Context, host, to string) (string, error) {
	conn, err := cluster.Host(host).Dial(ctx, "udp", to)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		return "", err
	}
	buffer := make([]byte, 1500)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

// TestSessionAffinity: as long as an address stays at its owner, kube-proxy there sends a client to the same
// pod again; without affinity it goes to any.
func TestSessionAffinity(t *testing.T) {
	apply(t, web("sticky", cluster.NodeNames()...))
	kubectl(t, "rollout", "status", "deployment/sticky", "--timeout=60s")
	apply(t, pool("sticky", spans(181, 181)))
	apply(t, service("sticky", "sticky", "sessionAffinity: ClientIP"))
	addr := hasAddress(t, "sticky")
	pods := func() map[string]int {
		pods := map[string]int{}
		for range 20 {
			line, _ := served(t, addr)
			pods[field(line, "pod")]++
		}
		return pods
	}
	if got := pods(); len(got) != 1 {
		t.Errorf("with session affinity the client was served by %v", got)
	}
	kubectl(t, "patch", "service", "sticky", "-p", `{"spec":{"sessionAffinity":"None"}}`)
	eventually(t, 15*time.Second, "several pods serve the client", func() (bool, string) {
		got := pods()
		return len(got) > 1, fmt.Sprint(got)
	})
}
