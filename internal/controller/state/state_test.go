package state

import (
	"net/netip"
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/config"
)

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		story                  string
		synced, leads, adopted bool
		ready                  bool
	}{
		{"it has just started", false, false, false, false},
		{"it stands by", true, false, false, true},
		{"it leads and adopts", true, true, false, false},
		{"it leads", true, true, true, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := New()
			for latch, set := range map[notify.Latch]bool{s.Synced: test.synced, s.Leads: test.leads,
				s.Adopted: test.adopted} {
				if set {
					latch.Set()
				}
			}
			if missing := s.Missing(); (missing == "") != test.ready {
				t.Errorf("it waits for %q", missing)
			}
		})
	}
}

// TestAServiceChangesItsTypeAndGoesOnNaming: it leaves one source and comes to the
// other, whichever tells of it first.
func TestAServiceChangesItsTypeAndGoesOnNaming(t *testing.T) {
	now, edge := controllertest.Birth, controllertest.Key("edge")
	addr := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for _, sooner := range []string{SourceLoadBalancers, SourceOthers} {
		s := New()
		s.SetConfig(config.Objects{Pools: []v1beta1.IPAddressPool{*controllertest.Pool("lan", 0,
			"192.0.2.1/32")}}, now)
		s.SetExternalIPs(edge, SourceLoadBalancers, addr, now)
		if sooner == SourceOthers {
			s.SetExternalIPs(edge, SourceOthers, addr, now)
			s.SetExternalIPs(edge, SourceLoadBalancers, nil, now)
		} else {
			s.SetExternalIPs(edge, SourceLoadBalancers, nil, now)
			s.SetExternalIPs(edge, SourceOthers, addr, now)
		}
		if _, withheld := s.addresses.Withheld(addr[0]); !withheld {
			t.Errorf("told first by %q: it is given out", sooner)
		}
	}
}
