package neighbor

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
)

// TestManyGroups is asked for by BERTH_MEASURE: it finds what the kernel
// takes for thousands of group memberships on one link.
func TestManyGroups(t *testing.T) {
	if os.Getenv("BERTH_MEASURE") == "" {
		t.Skip("a measurement; set BERTH_MEASURE=1")
	}
	netnstest.Require(t)
	l, _ := layer2test.Stage(t)
	for _, count := range []int{1000, 2000, 4000, 8000} {
		m := newMemberships(layer2test.Interface(t, "eth0").Index)
		begin := time.Now()
		addr := netip.MustParseAddr("ff02::1:ff00:0")
		for range count {
			if err := m.join(addr); err != nil {
				t.Fatal(err)
			}
			addr = addr.Next()
		}
		joined, sockets := time.Since(begin), len(m.sockets)
		snooping := "goes on"
		time.Sleep(2 * time.Second) // reports are sent
		if strings.Contains(l.Switch().Run(t, "ip", "-d", "link", "show", "br0"), "mcast_snooping 0") {
			snooping = "has ended"
		}
		begin = time.Now()
		if err := m.close(); err != nil {
			t.Error(err)
		}
		fmt.Printf("%d groups: joined in %s on %d sockets, left in %s; the bridge's snooping %s\n",
			count, joined.Round(time.Millisecond), sockets,
			time.Since(begin).Round(time.Millisecond), snooping)
	}
}
