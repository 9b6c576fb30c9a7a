package speakers

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
)

func TestCachedSpeakersAreSmall(t *testing.T) {
	s := controllertest.SpeakerThat("n", "x NotConfigured no label", "y", "z")
	s.Status.AbsentCount, s.Status.Layer2 = 3, announcing().Layer2
	s.Status.BGP.Addresses = []string{"192.0.2.0/28"}
	s.Status.BGP.AddressCount = new(int32(16))
	s.Status.BGP.BootID = "boot"
	s.Status.BGP.Count = 3
	s.Status.BGP.Sessions[0].State = v1beta1.BGPConnecting
	both := []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4, v1beta1.BGPFamilyIPv6}
	s.Status.BGP.Sessions[1].Families, s.Status.BGP.Sessions[1].AdvertisedIPv4 = both, 7
	s.Status.BGP.Sessions[2].Families, s.Status.BGP.Sessions[2].AdvertisedIPv4 = both, 7
	s.Status.BGP.Sessions[2].Withheld = "IPv6 routes: the node has no IPv6 address to be their next hop"
	want := v1beta1.SpeakerStatus{BGP: v1beta1.SpeakerBGP{
		Count:        3,
		AddressCount: new(int32(16)),
		Addresses:    []string{"192.0.2.0/28"},
		Sessions: []v1beta1.BGPSession{
			{Peer: "x", Reason: "NotConfigured", Problem: "no label"},
			{Peer: "y", State: v1beta1.BGPEstablished, Families: both},
			{Peer: "z", State: v1beta1.BGPEstablished, Families: both[:1]},
		},
	}}
	out, err := Trim(s)
	got, ok := out.(*v1beta1.Speaker)
	if err != nil || !ok {
		t.Fatalf("got %+v, %v", out, err)
	}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if out, err := Trim("a tombstone"); out != "a tombstone" || err != nil {
		t.Errorf("what is no object becomes %v, %v", out, err)
	}
}

// TestACachedSpeakerKeepsTheAddressesOfItsLinks: so the controller learns of them,
// and of no more.
func TestACachedSpeakerKeepsTheAddressesOfItsLinks(t *testing.T) {
	s := controllertest.SpeakerWith("n", "192.0.2.1/24")
	s.Status.Links[0].MACAddress = "02:00:00:00:00:01"
	s.Status.AbsentCount = 3
	out, err := Trim(s)
	if err != nil {
		t.Fatal(err)
	}
	got := out.(*v1beta1.Speaker).Status
	if len(got.Links) != 1 || got.Links[0].Name != "eth1" ||
		!slices.Equal(got.Links[0].Prefixes, []string{"192.0.2.1/24"}) ||
		got.Links[0].MACAddress != "" || got.AbsentCount != 0 {
		t.Errorf("it keeps %+v", got)
	}
}
