package speakertest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// Start is when stories begin that have their own clock.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Graces are the grace periods of most stories.
var Graces = announcement.GracePeriods{
	Restart: time.Minute,
	Silence: 10 * time.Second,
	Renewal: presence.RenewalTrust,
}

// Everything returns a pool that has [clustertest.Address], and an L2Advertisement of all
// pools.
func Everything() config.Objects {
	return config.Objects{
		Pools:            []v1beta1.IPAddressPool{*clustertest.Pool()},
		L2Advertisements: []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}},
	}
}

// MAC returns a hardware address that ends in n.
func MAC(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// Link returns a link of node1 that is up.
func Link(name string, prefixes ...string) links.Link {
	l := links.Link{Index: 1, Name: name, HardwareAddr: MAC(1), Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// LinkOf returns the link of nodeN as others know it: 192.0.2.N, without an index.
func LinkOf(node string) links.Link {
	n := node[len(node)-1] - '0'
	l := Link("eth0", fmt.Sprintf("192.0.2.%d/24", n))
	l.Index, l.HardwareAddr = 0, MAC(n)
	return l
}

// ConflictAt returns the claim of an address by a hardware address that ends in n.
func ConflictAt(addr netip.Addr, n byte, at time.Time) announcer.Conflict {
	return announcer.Conflict{Addr: addr, Link: "eth0", MAC: MAC(n), First: at, Last: at, Count: 1}
}

// claimsPrefix begins the keys of entries that claim the addresses of a block.
const claimsPrefix = "claims/"

// Member returns nodeN as a member with entries, given as "key=value"; the claims of
// "claim/ADDRESS=2w" are put together by blocks. It is ready unless an entry says
// otherwise, and has the link of [LinkOf].
func Member(name string, state membership.State, since time.Time, entries ...string) membership.Member {
	m := membership.Member{Name: name, State: state, Since: since, Values: map[string][]byte{
		"stage":     []byte(announcement.StageReady),
		"link/eth0": LinkEntry(LinkOf(name)),
	}}
	for _, text := range entries {
		key, value, _ := strings.Cut(text, "=")
		if addr, ok := strings.CutPrefix(key, "claim/"); ok {
			block, digit := BlockOf(netip.MustParseAddr(addr))
			claims := fmt.Sprintf("%s,%s:%s", m.Values[block], value, digit)
			key, value = block, strings.TrimPrefix(claims, ",")
		}
		m.Values[key] = []byte(value)
	}
	return m
}

// LinkEntry returns the value of the entry of a link.
func LinkEntry(l links.Link) []byte {
	fields := []string{l.HardwareAddr.String()}
	for _, p := range l.Prefixes {
		fields = append(fields, p.String())
	}
	return []byte(strings.Join(fields, " "))
}

// BlockOf returns the key of the entry that claims an address, and the digit that stands
// for the address in it.
func BlockOf(addr netip.Addr) (key, digit string) {
	raw := addr.AsSlice()
	last := &raw[len(raw)-1]
	digit = fmt.Sprintf("%x", *last%16)
	*last -= *last % 16
	first, _ := netip.AddrFromSlice(raw)
	return claimsPrefix + first.String(), digit
}

// ClaimIn returns the generation and the marks with which entries claim an address; ""
// when they do not.
func ClaimIn(entries map[string][]byte, addr netip.Addr) string {
	key, digit := BlockOf(addr)
	for item := range strings.SplitSeq(string(entries[key]), ",") {
		if head, digits, _ := strings.Cut(item, ":"); strings.Contains(digits, digit) {
			return head
		}
	}
	return ""
}

// Speaker returns the Speaker object of nodeN as its speaker writes it, after some changes.
func Speaker(name string, changes ...func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
	l := LinkOf(name)
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{
		MemberAddress: netip.AddrPortFrom(l.Prefixes[0].Addr(), 7947).String(),
		Stage:         v1beta1.StageReady,
		Links: []v1beta1.SpeakerLink{{
			Name:       l.Name,
			MACAddress: l.HardwareAddr.String(),
			Up:         true,
			Prefixes:   []string{l.Prefixes[0].String()},
		}},
	}}
	for _, change := range changes {
		change(&s.Status)
	}
	return s
}

// Announcing has an object list an announcement.
func Announcing(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		row := v1beta1.Layer2Announcement{Address: addr, Generation: generation}
		s.Layer2.Announcements = append(s.Layer2.Announcements, row)
		s.Layer2.Count++
	}
}

// RenewedAt has an object say when it was renewed.
func RenewedAt(at time.Time) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.RenewTime = &metav1.MicroTime{Time: at} }
}

// Replace writes Speaker objects to an API server in place of those of the same names.
func Replace(t *testing.T, api client.Client, objects ...*v1beta1.Speaker) {
	t.Helper()
	for _, o := range objects {
		if err := client.IgnoreNotFound(api.Delete(t.Context(), o.DeepCopy())); err != nil {
			t.Fatal(err)
		}
		if err := api.Create(t.Context(), o.DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}
}
