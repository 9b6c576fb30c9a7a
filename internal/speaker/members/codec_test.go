package members

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestWhatASpeakerPublishesIsRead: what one version publishes, the same one reads.
func TestWhatASpeakerPublishesIsRead(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	want := presence.NodeState{
		Stage: announcement.StageRestarting,
		Links: []links.Link{speakertest.LinkOf("node2"), link("vlan7", "198.51.100.7/24", "2001:db8::7/64")},
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
			v4: {Generation: 1},
			v6: {Generation: 1<<63 - 1, Minority: true},
		},
	}
	want.Links[1].Index, want.Links[1].Excluded = 0, true
	want.Links[1].Shadowed = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	want.IgnoresExclude, want.IgnoresCordon = true, true
	said := encodeLinks(want.Links)
	said[keyStage] = []byte(want.Stage)
	said[keyIgnoresExclude], said[keyIgnoresCordon] = encodeFlag(true), encodeFlag(true)
	for name, report := range want.Reports {
		said[keyProbe+name] = encodeProbe(report)
	}
	for addr, claim := range want.Claims {
		first, at := blockOf(addr)
		var b block
		b[at] = claim
		said[blockKey(first)] = b.value()
	}
	if got := decodeState(said); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if encodeProbe(presence.ProbeReport{}) != nil || encodeFlag(false) != nil {
		t.Error("what is no longer so is not taken back")
	}
}

// TestNonsenseIsLeftOut: a member of another version may publish what this
// one does not understand; the rest counts.
func TestNonsenseIsLeftOut(t *testing.T) {
	for _, test := range []struct {
		story, key, value string
	}{
		{"a key of another version", "weather", "fine"},
		{"a link without a hardware address", "link/eth1", ""},
		{"one with something else in its place", "link/eth1", "192.0.2.7/24"},
		{"more of a link of which nothing is said", "link/eth1/1", "192.0.2.7/24"},
		{"a link of another version, which goes on somewhere else", "link/eth0/x", "192.0.2.7/24"},
		{"what another version says of a link",
			"link/eth0", "02:00:00:00:00:02 mtu=9000 192.0.2.2/24 192.0.2.7 vlan!7"},
		{"a word on another node that says nothing", "probe/node3", "?"},
	} {
		t.Run(test.story, func(t *testing.T) {
			m := member("node2", membership.Alive, start, "claim/192.0.2.10=3w")
			want := decodeState(m.Values)
			if len(want.Links) != 1 || len(want.Claims) != 1 {
				t.Fatalf("got %+v", want)
			}
			m.Values[test.key] = []byte(test.value)
			if got := decodeState(m.Values); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// FuzzDecodeState: whatever a member publishes, it has no claim without a generation
// and no link without a name for it.
func FuzzDecodeState(f *testing.F) {
	f.Add("claims/192.0.2.0", []byte("7w:a,2:b"))
	f.Add("claims/2001:db8::%eth0", []byte("1:0"))
	f.Add("link/eth0", []byte("02:00:00:00:00:01 192.0.2.1/24"))
	f.Add("probe/node2", []byte("answers"))
	f.Add("stage", []byte("ready"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		w := decodeState(map[string][]byte{key: value})
		for addr, claim := range w.Claims {
			if !addr.IsValid() || claim.Generation == 0 {
				t.Errorf("%q=%q: %s is claimed as %+v", key, value, addr, claim)
			}
		}
		for _, l := range w.Links {
			if len(l.HardwareAddr) == 0 {
				t.Errorf("%q=%q: a link without hardware address", key, value)
			}
		}
		if len(w.Claims) > blockSize || len(w.Links)+len(w.Reports) > 1 {
			t.Errorf("%q=%q says more than one thing: %+v", key, value, w)
		}
	})
}
