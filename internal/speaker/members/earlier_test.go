package members

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// earlier is what speakers of earlier versions publish about themselves. The entries stay as those versions
// wrote them; one that publishes something else adds a row.
var earlier = []struct {
	since   string // the first version that publishes this
	entries map[string]string
	want    presence.NodeState
}{
	{
		since: "v0.1.0",
		entries: map[string]string{
			"stage":     "restarting",
			"link/eth0": "02:00:00:00:00:02 192.0.2.2/24",
			"link/vlan7": "02:00:00:00:00:07 balance-alb only-named " +
				"~198.51.100.0/24 198.51.100.7/24",
			"link/vlan7/1":          "2001:db8::7/64",
			"probe/node3":           "answers +svc0 -svc1 -svc2",
			"probe/node4":           "silent",
			"probe/node5":           "? -svc0",
			"claims/192.0.2.0":      "7wq:a,2l:b",
			"claims/2001:db8::10":   "9223372036854775807:0f",
			"full":                  "claims",
			"ignores-exclude-label": "yes",
			"ignores-cordon":        "yes",
		},
		want: presence.NodeState{
			Stage: announcement.StageRestarting,
			Links: []links.Link{
				{
					Name:         "eth0",
					HardwareAddr: []byte{2, 0, 0, 0, 0, 2},
					Prefixes:     []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")},
					Up:           true,
					Broadcast:    true,
				},
				{
					Name:         "vlan7",
					HardwareAddr: []byte{2, 0, 0, 0, 0, 7},
					Prefixes: []netip.Prefix{
						netip.MustParsePrefix("198.51.100.7/24"), netip.MustParsePrefix("2001:db8::7/64"),
					},
					Shadowed:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
					Excluded:  true,
					Up:        true,
					Broadcast: true,
					Balances:  true,
				},
			},
			Reports: map[string]presence.ProbeReport{
				"node3": {
					Kernel:  announcement.KernelAnswers,
					Answers: []string{"svc0"},
					Silent:  []string{"svc1", "svc2"},
				},
				"node4": {Kernel: announcement.KernelSilent},
				"node5": {Silent: []string{"svc0"}},
			},
			Claims: map[netip.Addr]announcement.Claim{
				netip.MustParseAddr("192.0.2.10"): {
					Generation: 7,
					Minority:   true,
					Quiet:      true,
				},
				netip.MustParseAddr("192.0.2.11"): {
					Generation: 2,
					Lingers:    true,
				},
				netip.MustParseAddr("2001:db8::10"): {Generation: 1<<63 - 1},
				netip.MustParseAddr("2001:db8::1f"): {Generation: 1<<63 - 1},
			},
			Full:           true,
			IgnoresExclude: true,
			IgnoresCordon:  true,
		},
	},
}

// TestEntriesOfEarlierVersionsAreRead: a speaker of this version understands them.
func TestEntriesOfEarlierVersionsAreRead(t *testing.T) {
	for _, test := range earlier {
		published := map[string][]byte{}
		for key, value := range test.entries {
			published[key] = []byte(value)
		}
		if got := decodeState(published); !reflect.DeepEqual(got, test.want) {
			t.Errorf("since %s:\ngot  %+v\nwant %+v", test.since, got, test.want)
		}
	}
}
