package bgp

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLeavingRoutes(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	patient := Peer{
		Name:             "patient",
		LocalASN:         64512,
		PeerASN:          64512,
		Families:         IPv4,
		GracefulShutdown: 30 * time.Second,
	}
	short := Peer{
		Name:             "short",
		LocalASN:         64512,
		PeerASN:          64513,
		Families:         IPv4,
		GracefulShutdown: 10 * time.Second,
	}
	never := Peer{Name: "never", LocalASN: 64512, PeerASN: 64513, Families: IPv4}
	plain := ad("plain", 0, func(a *Advertisement) { a.LocalPref = 200 })
	wide := ad("wide", 0, func(a *Advertisement) { a.Length4 = 24 })
	leaving := func(address string, since int, a *Advertisement) Address {
		return Address{Address: ip(address), Advertisements: []*Advertisement{a}, LeavingSince: at(since)}
	}
	staying := func(address string, a *Advertisement) Address {
		return Address{Address: ip(address), Advertisements: []*Advertisement{a}}
	}
	for _, test := range []struct {
		story     string
		now       int
		peers     []Peer
		addresses []Address
		want      []string
		again     int // 0 for never
	}{
		{"who stays says nothing of it", 0, []Peer{patient}, []Address{staying("192.0.2.1", plain)},
			[]string{"patient 192.0.2.1/32 pref=200"}, 0},
		{"who leaves says so at first", 0, []Peer{patient}, []Address{leaving("192.0.2.1", 0, plain)},
			[]string{"patient 192.0.2.1/32 65535:0"}, 30},
		{"each peer for its own time", 15, []Peer{never, patient, short},
			[]Address{leaving("192.0.2.1", 0, plain)},
			[]string{"patient 192.0.2.1/32 65535:0"}, 30},
		{"the nearest end counts", 5, []Peer{never, patient, short},
			[]Address{leaving("192.0.2.1", 0, plain), staying("192.0.2.2", plain)},
			[]string{"never 192.0.2.2/32", "patient 192.0.2.1/32 65535:0", "patient 192.0.2.2/32 pref=200",
				"short 192.0.2.1/32 65535:0", "short 192.0.2.2/32"}, 10},
		{"then it is gone", 30, []Peer{patient}, []Address{leaving("192.0.2.1", 0, plain)}, nil, 0},
		{"an aggregate stays with one of its addresses", 0, []Peer{patient},
			[]Address{leaving("192.0.2.1", 0, wide), staying("192.0.2.2", wide)},
			[]string{"patient 192.0.2.0/24"}, 0},
		{"and goes with the last", 35, []Peer{patient},
			[]Address{leaving("192.0.2.1", 0, wide), leaving("192.0.2.2", 20, wide)},
			[]string{"patient 192.0.2.0/24 65535:0"}, 50},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := Plan(at(test.now), test.peers, test.addresses)
			if diff := cmp.Diff(test.want, written(got.Desired)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			want := time.Time{}
			if test.again > 0 {
				want = at(test.again)
			}
			if !got.Again.Equal(want) {
				t.Errorf("again at %s, want %s", got.Again, want)
			}
		})
	}
}

// TestLeavingIsOneChange: what was merged for a peer before is not changed by
// leaving, so that routes with the same advertisements stay as they are.
func TestLeavingIsOneChange(t *testing.T) {
	peer := Peer{Name: "p", Families: IPv4, GracefulShutdown: time.Minute}
	a := ad("a", 0, func(a *Advertisement) { a.Communities = communities("65000:1") })
	var addresses []Address
	for i := range 10 {
		addresses = append(addresses, Address{Address: ip(fmt.Sprintf("192.0.2.%d", i)),
			Advertisements: []*Advertisement{a}})
	}
	now := time.Unix(1000, 0)
	before := Plan(now, []Peer{peer}, addresses).Desired
	addresses[4].LeavingSince = now
	changes := Diff(before, Plan(now, []Peer{peer}, addresses).Desired)
	if len(changes) != 1 || len(changes[0].Announce) != 1 ||
		changes[0].Announce[0].Prefix.Addr() != ip("192.0.2.4") || len(changes[0].Withdraw) > 0 {
		t.Errorf("changes are %+v", changes)
	}
}
