package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// editPool changes a pool at the API server, as a user does.
func (w *world) editPool(name string, edit func(*v1beta1.IPAddressPoolSpec)) {
	w.t.Helper()
	p := w.pool(name)
	edit(&p.Spec)
	p.Generation++
	if err := w.api.Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

// TestPoolEditedWhileNobodyLeads: whether the controller sees an edit, or only
// finds it done, Services end with the same addresses, and so do the words about
// them.
func TestPoolEditedWhileNobodyLeads(t *testing.T) {
	shrink := func(s *v1beta1.IPAddressPoolSpec) { s.Addresses = []v1beta1.AddressRange{"192.0.2.100/30"} }
	for _, test := range []struct {
		story   string
		service *corev1.Service
		before  func(w *world) // once the Service has its addresses
		edit    func(w *world)
		want    []string
		outside []string // of pool lan
	}{
		{"the range is another", service("web", 0), nil, func(w *world) { w.editPool("lan", shrink) },
			[]string{"192.0.2.10"}, []string{"192.0.2.10"}},
		{"the address is excluded", service("web", 0), nil, func(w *world) {
			w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
				s.Exclude = []v1beta1.ExcludedRange{"192.0.2.10"}
			})
		}, []string{"192.0.2.10"}, []string{"192.0.2.10"}},
		{"a node takes the address", service("web", 0), nil, func(w *world) {
			w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"},
				Status: corev1.NodeStatus{
					Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.10"}},
				}})
		}, []string{"192.0.2.10"}, []string{}},
		{"such addresses are moved", service("web", 0), nil, func(w *world) {
			w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
				shrink(s)
				s.OnShrink = v1beta1.OnShrinkMove
			})
		}, []string{"192.0.2.100"}, nil},
		{"of two families, both pools have shrunk", service("web", 0, dualStack), nil, func(w *world) {
			w.editPool("lan", shrink)
			w.editPool("six", func(s *v1beta1.IPAddressPoolSpec) {
				s.Addresses = []v1beta1.AddressRange{"2001:db8::100/126"}
			})
		}, []string{"192.0.2.10", "2001:db8::10"}, []string{"192.0.2.10"}},
		{"of two families, one is moved", service("web", 0, dualStack), nil, func(w *world) {
			w.editPool("lan", shrink)
			w.editPool("six", func(s *v1beta1.IPAddressPoolSpec) {
				s.Addresses, s.OnShrink = []v1beta1.AddressRange{"2001:db8::100/126"}, v1beta1.OnShrinkMove
			})
		}, []string{"192.0.2.10", "2001:db8::100"}, []string{"192.0.2.10"}},
		{"the Service asks for what cannot be read", service("web", 0), func(w *world) {
			w.change("web", func(s *corev1.Service) {
				s.Annotations = map[string]string{
					v1beta1.AnnotationLoadBalancerIPs: "192.0.2.10 from pool six.",
				}
			})
			w.look("web")
		}, func(w *world) { w.editPool("lan", shrink) }, []string{"192.0.2.10"}, []string{"192.0.2.10"}},
		{"the pool can no longer be read, and is to move such addresses",
			service("web", 0), nil, func(w *world) {
				w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
					s.Addresses = []v1beta1.AddressRange{"192.0.2.100/30", "192.0.2.300/32"}
					s.OnShrink = v1beta1.OnShrinkMove
				})
			}, []string{"192.0.2.10"}, nil},
	} {
		outcome := map[bool][]string{}
		for _, away := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, nobody leads: %v", test.story, away), func(t *testing.T) {
				w := newWorld(
					t,
					lan("192.0.2.10-192.0.2.20"),
					pool("six", 1, "2001:db8::10/124"),
					test.service.DeepCopy(),
				)
				w.look("web")
				if test.before != nil {
					test.before(w)
				}
				w.judge(config.KindIPAddressPool, "lan")
				test.edit(w)
				if away {
					w.restart()
				} else {
					w.configure()
				}
				w.look("web", "web")
				w.judge(config.KindIPAddressPool, "lan")
				s := w.get("web")
				var got []string
				for _, addr := range assignment.StatusAddresses(s) {
					got = append(got, addr.String())
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("the Service has %q, want %q", got, test.want)
				}
				c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
				outcome[away] = []string{fmt.Sprint(got), c.Reason, c.Message}
				out := w.pool("lan").Status.OutOfRange
				if test.outside != nil && !slices.Equal(out, test.outside) {
					t.Errorf("out of range are %q, want %q", out, test.outside)
				}

				// It goes on so: with the next leader, and when all is as before.
				w.restart()
				w.look("web")
				w.has("web", v1beta1.Reason(c.Reason), test.want...)
			})
		}
		if !slices.Equal(outcome[false], outcome[true]) {
			t.Errorf("%s: when the controller sees it %q, when it does not %q",
				test.story, outcome[false], outcome[true])
		}
	}
}

// As an earlier version left them: link-local addresses are refused now.
func TestLinkLocalAddressesStay(t *testing.T) {
	w := newWorld(t, lan("169.254.7.0/24"), service("web", 0, having("169.254.7.9"), func(s *corev1.Service) {
		s.Status.Conditions = []metav1.Condition{{
			Type:    v1beta1.ConditionAddressAssigned,
			Status:  metav1.ConditionTrue,
			Reason:  string(v1beta1.ReasonAssigned),
			Message: "169.254.7.9 from pool lan.",
		}}
	}), service("new", 1))
	w.look("web", "new")
	w.has("web", v1beta1.ReasonAssigned, "169.254.7.9")
	w.has("new", v1beta1.ReasonNoEligiblePool)
	w.did([]string{"new"}, []string{"new Warning NoEligiblePool"})
}

// TestWithoutTheConditionTheStatusOfThePoolCounts: somebody has rewritten the
// condition, so that it names no pool.
func TestWithoutTheConditionTheStatusOfThePoolCounts(t *testing.T) {
	w := newWorld(t, lan("192.0.2.10-192.0.2.20"), service("web", 0))
	w.look("web")
	w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
		s.Addresses = []v1beta1.AddressRange{"192.0.2.100/30"}
	})
	w.configure()
	w.judge(config.KindIPAddressPool, "lan")
	s := w.get("web")
	s.Status.Conditions[0].Message = "Everything is fine."
	if err := w.api.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.10")
}

// TestThousandsOfAddressesOutOfRange: however many Services keep addresses, and
// however they lie, those who read the pool's status know all of them, and an
// address that another load balancer gave is not taken for one of them.
func TestThousandsOfAddressesOutOfRange(t *testing.T) {
	const many = 5000
	for _, test := range []struct {
		story   string
		step    int    // between two held addresses
		entries int    // of status.outOfRange
		foreign string // an address that another load balancer gives then
	}{
		{"side by side", 1, 1, "10.0.64.1"},
		{"every second", 2, v1beta1.MaxOutOfRange, "10.0.15.161"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, lan("10.0.0.0/16"))
			var held []netip.Addr
			addr := netip.MustParseAddr("10.0.0.0")
			for i := range many {
				s := service(fmt.Sprint("s", i), 0, having(addr.String()), func(s *corev1.Service) {
					s.Status.Conditions = []metav1.Condition{{
						Type:    v1beta1.ConditionAddressAssigned,
						Reason:  string(v1beta1.ReasonAssigned),
						Message: addr.String() + " from pool lan.",
					}}
				})
				if conflicts := w.state.Adopt(s, time.Now()); len(conflicts) > 0 {
					t.Fatal(conflicts)
				}
				held = append(held, addr)
				for range test.step {
					addr = addr.Next()
				}
			}
			w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
				s.Addresses = []v1beta1.AddressRange{"10.0.0.0/32"}
			})
			w.configure()
			w.judge(config.KindIPAddressPool, "lan")
			p := w.pool("lan")
			if got := p.Status.OutOfRangeCount; got != many-1 {
				t.Errorf("%d addresses are counted, want %d", got, many-1)
			}
			if got := len(p.Status.OutOfRange); got != test.entries {
				t.Errorf("status.outOfRange has %d entries, want %d", got, test.entries)
			}
			// A speaker that has just started knows nothing but the objects.
			seen, problems := config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{*p}},
				config.Config{}, time.Now())
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			for _, addr := range held {
				if of := seen.PoolOf(addr); of == nil || of.Name != "lan" {
					t.Fatalf("%s is held of the pool, and a speaker does not know it", addr)
				}
			}

			// Another load balancer gives an address in between.
			w.create(service("theirs", 1, having(test.foreign)))
			w.forget()
			w.look("theirs")
			w.has("theirs", v1beta1.ReasonForeignAddress, test.foreign)
			if !slices.Equal(w.pools, []string{"lan"}) {
				t.Errorf("the pools to count again are %q", w.pools)
			}
			w.judge(config.KindIPAddressPool, "lan")
			seen, _ = config.Parse(config.Objects{Pools: []v1beta1.IPAddressPool{*w.pool("lan")}},
				config.Config{}, time.Now())
			if seen.PoolOf(netip.MustParseAddr(test.foreign)) != nil {
				t.Errorf("%s counts as of the pool", test.foreign)
			}
			if of := seen.PoolOf(held[many-1]); of == nil {
				t.Errorf("%s does not count any more", held[many-1])
			}
		})
	}
}
