package lab

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestDNSOfPods: a kubelet tells its pods of a DNS if the lab was told of one, and else of none.
func TestDNSOfPods(t *testing.T) {
	for _, test := range []struct{ dns, want string }{
		{"", "\nresolvConf: \"\"\nvolumePluginDir: "},
		{"fd77::2", "\nresolvConf: \"\"\n" +
			"clusterDNS: [\"fd77::2\"]\nclusterDomain: cluster.local\nvolumePluginDir: "},
	} {
		var asked Options
		if test.dns != "" {
			asked.DNS = netip.MustParseAddr(test.dns)
		}
		options, err := asked.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := &Lab{options: options, dir: t.TempDir()}
		if err := l.Node("node1").makeFiles(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(l.path("nodes", "node1", "etc", "kubelet.yaml"))
		if err != nil || !strings.Contains(string(text), test.want) {
			t.Errorf("DNS at %q: %v\n%s", test.dns, err, text)
		}
	}
}
