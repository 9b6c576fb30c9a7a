package netnstest_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func TestHostsReachEachOther(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	client := lan.Attach(netnstest.NewHost(t, "client"), "eth0", "192.0.2.9/24", "2001:db8::9/64")

	client.Run(t, "arping", "-c1", "-w5", "-I", "eth0", "192.0.2.1")
	client.Run(t, "ndisc6", "-1", "2001:db8::1", "eth0")
	if out, err := client.Try("arping", "-c1", "-w1", "-I", "eth0", "192.0.2.77"); err == nil {
		t.Errorf("an address that nobody has was answered: %s", out)
	}
}

func TestCodeUnderTestSeesOnlyItsOwnLinks(t *testing.T) {
	netnstest.Require(t)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback == 0 && link.Flags&net.FlagUp != 0 {
			t.Errorf("found a link of the machine: %s", link.Name)
		}
	}
}

func TestACutCableTakesTheCarrier(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	host := lan.Attach(netnstest.NewHost(t, "host"), "eth0")
	// The kernel tells of carriers a little later.
	carrier := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(5 * time.Second)
		for strings.Contains(host.Run(t, "ip", "link", "show", "eth0"), "NO-CARRIER") == want {
			if time.Now().After(deadline) {
				t.Fatalf("the carrier is not %t", want)
			}
		}
	}
	carrier(true)
	lan.Cut(0)
	carrier(false)
	lan.Mend(0)
	carrier(true)
}

func TestHostsAreGoneAfterTheTest(t *testing.T) {
	netnstest.Require(t)
	t.Run("first use", func(t *testing.T) { netnstest.NewHost(t, "again") })
	t.Run("second use of the name", func(t *testing.T) { netnstest.NewHost(t, "again") })
	if out := netnstest.Local().Run(t, "ip", "netns", "list"); strings.TrimSpace(out) != "" {
		t.Errorf("left behind: %s", out)
	}
}
