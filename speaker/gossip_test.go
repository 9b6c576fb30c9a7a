package main

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestWhatASpeakerSaysIsRead: what one version says, the same one reads.
func TestWhatASpeakerSaysIsRead(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	want := word{
		stage: announcement.StageRestarting,
		links: []links.Link{fellowLink("node2"), link("vlan7", "198.51.100.7/24", "2001:db8::7/64")},
		reports: map[string]probeReport{
			"node3": {kernel: announcement.KernelAnswers, answers: []string{"svc0"}, silent: []string{"svc1", "svc2"}},
			"node4": {kernel: announcement.KernelSilent},
			"node5": {silent: []string{"svc0"}},
		},
		claims: map[netip.Addr]announcement.Claim{v4: {Generation: 1}, v6: {Generation: 1<<63 - 1, Minority: true}},
	}
	want.links[1].Index, want.links[1].Excluded = 0, true
	want.links[1].Shadowed = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	want.ignoresExclude, want.ignoresCordon = true, true
	said := linkValues(want.links)
	said[saysStage] = []byte(want.stage)
	said[saysIgnoresExclude], said[saysIgnoresCordon] = flagValue(true), flagValue(true)
	for name, report := range want.reports {
		said[saysProbe+name] = probeValue(report)
	}
	for addr, claim := range want.claims {
		first, at := blockOf(addr)
		var b block
		b[at] = claim
		said[blockKey(first)] = b.value()
	}
	if got := readWord(membership.Member{Name: "node2", Said: said}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if probeValue(probeReport{}) != nil || flagValue(false) != nil {
		t.Error("what is no longer so is not taken back")
	}
}

// TestNonsenseOfAFellowIsLeftOut: a fellow of another version may say what this
// one does not understand; the rest counts.
func TestNonsenseOfAFellowIsLeftOut(t *testing.T) {
	for _, test := range []struct {
		story, key, value string
	}{
		{"a key of another version", "weather", "fine"},
		{"a link without a hardware address", "link/eth1", ""},
		{"one with something else in its place", "link/eth1", "192.0.2.7/24"},
		{"more of a link of which nothing is said", "link/eth1/1", "192.0.2.7/24"},
		{"a link of another version, which goes on somewhere else", "link/eth0/x", "192.0.2.7/24"},
		{"what another version says of a link", "link/eth0", "02:00:00:00:00:02 mtu=9000 192.0.2.2/24 192.0.2.7 vlan!7"},
		{"a word on another node that says nothing", "probe/node3", "?"},
	} {
		t.Run(test.story, func(t *testing.T) {
			m := member("node2", membership.Alive, start, "claim/192.0.2.10=3w")
			want := readWord(m)
			if len(want.links) != 1 || len(want.claims) != 1 {
				t.Fatalf("got %+v", want)
			}
			m.Said[test.key] = []byte(test.value)
			if got := readWord(m); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// FuzzReadWord: whatever a fellow says, it has no claim without a generation
// and no link without a name for it.
func FuzzReadWord(f *testing.F) {
	f.Add("claims/192.0.2.0", []byte("7w:a,2:b"))
	f.Add("claims/2001:db8::%eth0", []byte("1:0"))
	f.Add("link/eth0", []byte("02:00:00:00:00:01 192.0.2.1/24"))
	f.Add("probe/node2", []byte("answers"))
	f.Add("stage", []byte("ready"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		w := readWord(membership.Member{Name: "node2", Said: map[string][]byte{key: value}})
		for addr, claim := range w.claims {
			if !addr.IsValid() || claim.Generation == 0 {
				t.Errorf("%q=%q: %s is claimed as %+v", key, value, addr, claim)
			}
		}
		for _, l := range w.links {
			if len(l.HardwareAddr) == 0 {
				t.Errorf("%q=%q: a link without hardware address", key, value)
			}
		}
		if len(w.claims) > blockSize || len(w.links)+len(w.reports) > 1 {
			t.Errorf("%q=%q says more than one thing: %+v", key, value, w)
		}
	})
}
