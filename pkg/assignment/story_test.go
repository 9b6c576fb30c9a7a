package assignment

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	v1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// spec is the spec of a pool of these addresses, changed.
func spec(change func(*v1beta1.IPAddressPoolSpec), texts ...v1beta1.AddressRange) v1beta1.IPAddressPoolSpec {
	s := addresses(texts...)
	change(&s)
	return s
}

func draining(s *v1beta1.IPAddressPoolSpec) { s.Drain = true }
func moving(s *v1beta1.IPAddressPoolSpec)   { s.OnShrink = v1beta1.OnShrinkMove }

func quota(n int32) func(*v1beta1.IPAddressPoolSpec) {
	return func(s *v1beta1.IPAddressPoolSpec) { s.QuotaPerNamespace = n }
}

func reuseDelay(d time.Duration) func(*v1beta1.IPAddressPoolSpec) {
	return func(s *v1beta1.IPAddressPoolSpec) { s.ReuseDelay = &v1.Duration{Duration: d} }
}

// of is a Service of a namespace.
func of(namespace, name string) Service {
	return Service{
		Holder:    allocator.Holder(namespace + "/" + name),
		Namespace: namespace,
		Families:  []Family{IPv4},
		Terms:     allocator.Terms{Group: namespace},
	}
}

func asking(s Service, pool string, addrs ...string) Service {
	s.RequestedPool, s.RequestedAddresses = pool, nil
	for _, a := range addrs {
		s.RequestedAddresses = append(s.RequestedAddresses, ip(a))
	}
	return s
}

func dual(s Service, optional bool, families ...Family) Service {
	if len(families) == 0 {
		families = []Family{IPv4, IPv6}
	}
	s.Families, s.Optional = families, optional
	return s
}

func sharing(s Service, key string, port uint16) Service {
	s.Terms.SharingKey, s.Terms.Ports = key, []allocator.Port{{Protocol: "TCP", Number: port}}
	return s
}

func (w *world) release(s Service)    { w.record.Release(s.Holder, w.now) }
func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }
func gives(t *testing.T, d Decision, addrs ...string) {
	t.Helper()
	want(t, d, v1beta1.ReasonAssigned, addrs...)
}

// says checks the whole message of a decision.
func says(t *testing.T, d Decision, message string) {
	t.Helper()
	if diff := cmp.Diff(message, d.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// written is the Service as it is read back once a decision stands in its
// status.
func written(s Service, d Decision) Service {
	if !d.LeaveStatus {
		s.Status = d.Addresses
	}
	o := &corev1.Service{Status: corev1.ServiceStatus{Conditions: []v1.Condition{
		{Type: v1beta1.ConditionAddressAssigned, Reason: string(d.Reason), Message: d.Message},
	}}}
	s.Given, s.Lost = given(o), lost(o)
	s.Wrote, s.From = Wrote(o)
	return s
}

func TestRestingAddresses(t *testing.T) {
	w := newWorld(pool("p", spec(reuseDelay(time.Minute), "192.0.2.1-192.0.2.2")))
	gives(t, w.look(t, service("a")), "192.0.2.1")
	gives(t, w.look(t, service("b")), "192.0.2.2")
	w.release(service("b"))
	w.pass(10 * time.Second)
	w.release(service("a"))

	d := w.look(t, service("new"))
	want(t, d, v1beta1.ReasonPoolsExhausted)
	says(t, d, "No pool gives an IPv4 address: pool p: every IPv4 address is held or rests, "+
		"the first until 2001-09-09T01:47:40Z (Resting).")
	gives(t, w.look(t, asking(service("named"), "", "192.0.2.1")), "192.0.2.1") // by name it need not wait
	gives(t, w.look(t, service("b")), "192.0.2.2")                              // nor need its former Service
	w.release(service("b"))
	w.pass(time.Minute - 1)
	want(t, w.look(t, service("new")), v1beta1.ReasonPoolsExhausted)
	w.pass(1)
	gives(t, w.look(t, service("new")), "192.0.2.2")
}

func TestAServiceThatMovesMayComeBack(t *testing.T) {
	w := newWorld(pool("p", spec(reuseDelay(time.Minute), "192.0.2.0/29")))
	gives(t, w.look(t, asking(service("s"), "", "192.0.2.4")), "192.0.2.4")
	w.release(service("s"))
	gives(t, w.look(t, service("other")), "192.0.2.0")
	gives(t, w.look(t, service("s")), "192.0.2.4") // not the lowest: the one it had
}

func TestAFamilyIsFullWhileTheOtherRests(t *testing.T) {
	w := newWorld(pool("p", spec(reuseDelay(time.Minute), "192.0.2.1/32", "2001:db8::1/128")))
	six := with(service("six"), func(s *Service) { s.Families = []Family{IPv6} })
	gives(t, w.look(t, service("four")), "192.0.2.1")
	gives(t, w.look(t, six), "2001:db8::1")
	w.release(six)
	says(t, w.look(t, service("new")),
		"No pool gives an IPv4 address: pool p: every IPv4 address is held (PoolFull).")
}

func TestQuota(t *testing.T) {
	few := pool("few", spec(quota(2), "192.0.2.0/28", "2001:db8::/120"))
	full := "No pool gives an IPv4 address: pool few: namespace shop holds as many of its addresses as " +
		"quotaPerNamespace allows, 2 (QuotaReached)."
	for _, test := range []struct {
		story string
		tell  func(t *testing.T, w *world)
	}{
		{"a namespace gets so many and no more; others have their own", func(t *testing.T, w *world) {
			gives(t, w.look(t, of("shop", "a")), "192.0.2.0")
			gives(t, w.look(t, of("shop", "b")), "192.0.2.1")
			d := w.look(t, of("shop", "c"))
			want(t, d, v1beta1.ReasonNoEligiblePool)
			says(t, d, full)
			gives(t, w.look(t, of("other", "c")), "192.0.2.2")
			w.release(of("shop", "a"))
			gives(t, w.look(t, of("shop", "c")), "192.0.2.0")
		}},
		{"the next pool serves what is beyond", func(t *testing.T, w *world) {
			w.setPools(few, pool("more", addresses("198.51.100.0/24")))
			gives(t, w.look(t, of("shop", "a")), "192.0.2.0")
			gives(t, w.look(t, of("shop", "b")), "192.0.2.1")
			gives(t, w.look(t, of("shop", "c")), "198.51.100.0")
		}},
		{"a dual-stack Service counts two", func(t *testing.T, w *world) {
			gives(t, w.look(t, dual(of("shop", "a"), false)), "192.0.2.0", "2001:db8::")
			says(t, w.look(t, of("shop", "b")), full)
		}},
		{"a dual-stack Service that would be one too many gets nothing, or what is left", func(
			t *testing.T, w *world,
		) {
			gives(t, w.look(t, of("shop", "a")), "192.0.2.0")
			want(t, w.look(t, dual(of("shop", "b"), false)), v1beta1.ReasonNoEligiblePool)
			d := w.look(t, dual(of("shop", "c"), true))
			want(t, d, v1beta1.ReasonPartlyAssigned, "192.0.2.1")
			says(t, d, "192.0.2.1 from pool few. The other family is missing: "+
				"No pool gives an IPv6 address: "+
				"pool few: namespace shop holds as many of its addresses as quotaPerNamespace allows, "+
				"2 (QuotaReached).")
		}},
		{"a shared address is free of charge for the next who shares it", func(t *testing.T, w *world) {
			gives(t, w.look(t, sharing(of("shop", "a"), "k", 80)), "192.0.2.0")
			gives(t, w.look(t, sharing(of("shop", "b"), "k", 443)), "192.0.2.0")
			gives(t, w.look(t, of("shop", "c")), "192.0.2.1")
			gives(t, w.look(t, sharing(of("shop", "d"), "k", 25)), "192.0.2.0")
			want(t, w.look(t, of("shop", "e")), v1beta1.ReasonNoEligiblePool)
		}},
		{"a family is added to a shared address: together that is two", func(t *testing.T, w *world) {
			gives(t, w.look(t, sharing(of("shop", "a"), "k", 80)), "192.0.2.0")
			gives(t, w.look(t, sharing(dual(of("shop", "b"), false), "k", 443)), "192.0.2.0", "2001:db8::")
			gives(t, w.look(t, sharing(dual(of("shop", "a"), false), "k", 80)), "192.0.2.0", "2001:db8::")
		}},
		{"an address asked for by name beyond it is refused", func(t *testing.T, w *world) {
			gives(t, w.look(t, of("shop", "a")), "192.0.2.0")
			gives(t, w.look(t, of("shop", "b")), "192.0.2.1")
			d := w.look(t, asking(of("shop", "c"), "", "192.0.2.9"))
			want(t, d, v1beta1.ReasonNoEligiblePool)
			says(t, d, "The Service asks for 192.0.2.9, but namespace shop holds as many addresses of pool "+
				"few as its quotaPerNamespace allows.")
		}},
		{"a Service at the quota may exchange its address for another", func(t *testing.T, w *world) {
			gives(t, w.look(t, of("shop", "a")), "192.0.2.0")
			gives(t, w.look(t, of("shop", "b")), "192.0.2.1")
			gives(t, w.look(t, asking(of("shop", "b"), "", "192.0.2.9")), "192.0.2.9")
		}},
		{"a quota that comes later takes nothing away", func(t *testing.T, w *world) {
			w.setPools(pool("few", addresses("192.0.2.0/28")))
			for i := range 4 {
				gives(t, w.look(t, of("shop", fmt.Sprint(i))), fmt.Sprint("192.0.2.", i))
			}
			w.setPools(few)
			for i := range 4 {
				gives(t, w.look(t, of("shop", fmt.Sprint(i))), fmt.Sprint("192.0.2.", i))
			}
			want(t, w.look(t, of("shop", "new")), v1beta1.ReasonNoEligiblePool)
		}},
	} {
		t.Run(test.story, func(t *testing.T) { test.tell(t, newWorld(few)) })
	}
}

func TestDrain(t *testing.T) {
	w := newWorld(pool("old", addresses("192.0.2.0/30")), pool("young", addresses("198.51.100.0/30")))
	gives(t, w.look(t, sharing(service("s"), "k", 80)), "192.0.2.0")
	w.setPools(pool("old", spec(draining, "192.0.2.0/30")), pool("young", addresses("198.51.100.0/30")))
	gives(t, w.look(t, sharing(service("s"), "k", 80)), "192.0.2.0") // keeps what it has
	gives(t, w.look(t, sharing(service("t"), "k", 443)), "198.51.100.0")
	d := w.look(t, asking(service("named"), "old"))
	want(t, d, v1beta1.ReasonNoEligiblePool)
	says(t, d, "No pool gives an IPv4 address: pool old: drain is true: "+
		"the pool gives nothing new (PoolDraining); "+
		"pool young: the Service asks for pool old (NotRequested).")
	d = w.look(t, asking(service("exact"), "", "192.0.2.3"))
	want(t, d, v1beta1.ReasonNoEligiblePool)
	says(t, d, "The Service asks for 192.0.2.3 of pool old, which may not serve it: drain is true: "+
		"the pool gives nothing new.")
	w.release(service("s"))
	gives(t, w.look(t, service("s")), "198.51.100.1") // back from nothing it is new
}

func TestAddressesThatAreNeverGiven(t *testing.T) {
	w := &world{record: allocator.New(), now: time.Unix(1e9, 0)}
	p := pool("p", spec(func(s *v1beta1.IPAddressPoolSpec) {
		s.Exclude, s.AvoidBuggyIPs = []v1beta1.ExcludedRange{"192.0.2.1", "192.0.2.4/30"}, true
	}, "192.0.2.0/28"))
	w.nodes = map[netip.Addr]config.NodeAddress{ip("192.0.2.2"): {Node: "n1"}}
	w.setPools(p)
	for _, addr := range []string{"192.0.2.3", "192.0.2.8", "192.0.2.9"} {
		gives(t, w.look(t, service("for-"+addr)), addr)
	}
	for addr, message := range map[string]string{
		"192.0.2.1": "The Service asks for 192.0.2.1, which is not given out: pool p excludes it. " +
			"Ask for another.",
		"192.0.2.7": "The Service asks for 192.0.2.7, which is not given out: pool p excludes it. " +
			"Ask for another.",
	} {
		d := w.look(t, asking(service("named"), "", addr))
		want(t, d, v1beta1.ReasonAddressNotInPool)
		says(t, d, message)
	}
	// a buggy one can be asked for
	gives(t, w.look(t, asking(service("named"), "", "192.0.2.0")), "192.0.2.0")
}

func TestDualStack(t *testing.T) {
	four := addresses("192.0.2.0/30")
	six := addresses("2001:db8::/126")
	both := addresses("198.51.100.0/30", "2001:db8:1::/126")
	for _, test := range []struct {
		story string
		tell  func(t *testing.T, w *world)
		pools []v1beta1.IPAddressPool
	}{
		{"one pool that has both is preferred to two that come before", func(t *testing.T, w *world) {
			gives(t, w.look(t, dual(service("s"), false)), "198.51.100.0", "2001:db8:1::")
			gives(t, w.look(t, dual(service("t"), true, IPv6, IPv4)), "2001:db8:1::1", "198.51.100.1")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six), pool("c-both", both)}},
		{"two pools serve when no single one has both", func(t *testing.T, w *world) {
			d := w.look(t, dual(service("s"), false))
			gives(t, d, "192.0.2.0", "2001:db8::")
			says(t, d, "192.0.2.0 from pool a-four, 2001:db8:: from pool b-six.")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six)}},
		{"the pool of both is full of one: two pools", func(t *testing.T, w *world) {
			gives(t, w.look(t, asking(service("a"), "c-both")), "198.51.100.0")
			gives(t, w.look(t, dual(service("s"), false)), "192.0.2.0", "2001:db8::")
		}, []v1beta1.IPAddressPool{
			pool("a-four", four),
			pool("b-six", six),
			pool("c-both", addresses("198.51.100.0/32", "2001:db8:1::/126")),
		}},
		{"a pool that may not serve it is not preferred", func(t *testing.T, w *world) {
			gives(t, w.look(t, dual(service("s"), false)), "192.0.2.0", "2001:db8::")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six), pool("c-both", byHand(both))}},
		{"the second family comes from the pool of the first that is kept", func(t *testing.T, w *world) {
			gives(t, w.look(t, asking(service("s"), "c-both")), "198.51.100.0")
			gives(t, w.look(t, dual(service("s"), true)), "198.51.100.0", "2001:db8:1::")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six), pool("c-both", both)}},
		{"and from that of an address asked for, whatever the order of families", func(
			t *testing.T, w *world,
		) {
			gives(t, w.look(t, asking(dual(service("s"), false), "", "198.51.100.3")),
				"198.51.100.3", "2001:db8:1::")
			gives(t, w.look(t, asking(dual(service("t"), false, IPv6, IPv4), "", "198.51.100.2")),
				"2001:db8:1::1", "198.51.100.2")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six), pool("c-both", both)}},
		{"an address of each family by name", func(t *testing.T, w *world) {
			gives(t, w.look(t, asking(dual(service("s"), false), "", "2001:db8::3", "192.0.2.3")),
				"192.0.2.3", "2001:db8::3")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six)}},
		{"a pool that grows gives what is missing, and nothing held is changed", func(
			t *testing.T, w *world,
		) {
			want(t, w.look(t, dual(service("s"), true)), v1beta1.ReasonPartlyAssigned, "192.0.2.0")
			want(t, w.look(t, dual(service("s"), true)), v1beta1.ReasonPartlyAssigned, "192.0.2.0")
			w.setPools(pool("a-four", addresses("192.0.2.0/30", "2001:db8:9::/126")), pool("c-both", both))
			gives(t, w.look(t, dual(service("s"), true)), "192.0.2.0", "2001:db8:9::")
		}, []v1beta1.IPAddressPool{pool("a-four", four)}},
		{"a new pool of both does not move what is held of one", func(t *testing.T, w *world) {
			want(t, w.look(t, dual(service("s"), true)), v1beta1.ReasonPartlyAssigned, "192.0.2.0")
			w.setPools(pool("a-four", four), pool("c-both", both))
			gives(t, w.look(t, dual(service("s"), true)), "192.0.2.0", "2001:db8:1::")
		}, []v1beta1.IPAddressPool{pool("a-four", four)}},
		{"RequireDualStack gets both or nothing", func(t *testing.T, w *world) {
			d := w.look(t, dual(service("s"), false))
			want(t, d, v1beta1.ReasonNoEligiblePool)
			says(t, d, "No pool gives an IPv6 address: pool a-four: has no IPv6 addresses (FamilyMissing).")
			gives(t, w.look(t, service("t")), "192.0.2.0")
		}, []v1beta1.IPAddressPool{pool("a-four", four)}},
		{"a Service that turns to one family gives the other back", func(t *testing.T, w *world) {
			gives(t, w.look(t, dual(service("s"), false)), "192.0.2.0", "2001:db8::")
			gives(t, w.look(t, service("s")), "192.0.2.0")
			gives(t, w.look(t, dual(service("t"), false)), "192.0.2.1", "2001:db8::")
		}, []v1beta1.IPAddressPool{pool("a-four", four), pool("b-six", six)}},
	} {
		t.Run(test.story, func(t *testing.T) { test.tell(t, newWorld(test.pools...)) })
	}
}

func TestSharingRules(t *testing.T) {
	one := pool("p", addresses("192.0.2.1/32"))
	ports := func(s Service, ports ...allocator.Port) Service { s.Terms.Ports = ports; return s }
	local := func(s Service, backends string) Service { s.Terms.Backends = backends; return s }
	for _, test := range []struct {
		story         string
		first, second Service
		shared        bool
	}{
		{"another port", sharing(service("a"), "k", 80), sharing(service("b"), "k", 443), true},
		{"the same port", sharing(service("a"), "k", 80), sharing(service("b"), "k", 80), false},
		{"the same number of TCP, UDP and SCTP", ports(sharing(service("a"), "k", 0),
			allocator.Port{Protocol: "TCP", Number: 53}, allocator.Port{Protocol: "UDP", Number: 53}),
			ports(sharing(service("b"), "k", 0), allocator.Port{Protocol: "SCTP", Number: 53}), true},
		{"one of several ports is the same", ports(sharing(service("a"), "k", 0),
			allocator.Port{Protocol: "TCP", Number: 1}, allocator.Port{Protocol: "TCP", Number: 2}),
			ports(sharing(service("b"), "k", 0), allocator.Port{Protocol: "TCP", Number: 3},
				allocator.Port{Protocol: "TCP", Number: 2}), false},
		{"another key", sharing(service("a"), "k", 80), sharing(service("b"), "l", 443), false},
		{"no key", sharing(service("a"), "", 80), sharing(service("b"), "", 443), false},
		{"the same key in another namespace",
			sharing(of("shop", "a"), "k", 80), sharing(of("yard", "b"), "k", 443), true},
		{"both Local to the same pods", local(sharing(service("a"), "k", 80), "default/app=x"),
			local(sharing(service("b"), "k", 443), "default/app=x"), true},
		{"Local to other pods", local(sharing(service("a"), "k", 80), "default/app=x"),
			local(sharing(service("b"), "k", 443), "default/app=y"), false},
		{"only one Local",
			local(sharing(service("a"), "k", 80), "default/app=x"), sharing(service("b"), "k", 443), false},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(one)
			gives(t, w.look(t, test.first), "192.0.2.1")
			if test.shared {
				gives(t, w.look(t, test.second), "192.0.2.1")
				return
			}
			want(t, w.look(t, test.second), v1beta1.ReasonPoolsExhausted)
			d := w.look(t, asking(test.second, "", "192.0.2.1"))
			want(t, d, v1beta1.ReasonAddressInUse)
			if d.Wanted != ip("192.0.2.1") {
				t.Errorf("it is not known for which address to wait: %v", d.Wanted)
			}
			w.release(test.first) // the conflict goes
			gives(t, w.look(t, test.second), "192.0.2.1")
		})
	}
	t.Run("the sole owner changes its key", func(t *testing.T) {
		w := newWorld(one)
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
		gives(t, w.look(t, sharing(service("a"), "l", 80)), "192.0.2.1")
		want(t, w.look(t, sharing(service("b"), "k", 443)), v1beta1.ReasonPoolsExhausted)
		gives(t, w.look(t, sharing(service("b"), "l", 443)), "192.0.2.1")
	})
	t.Run("one of two changes its key, and has to go", func(t *testing.T) {
		w := newWorld(pool("p", addresses("192.0.2.1-192.0.2.2")))
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
		gives(t, w.look(t, sharing(service("b"), "k", 443)), "192.0.2.1")
		gives(t, w.look(t, sharing(service("b"), "l", 443)), "192.0.2.2")
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
	})
	t.Run("a new port that collides moves the one that has it now", func(t *testing.T) {
		w := newWorld(pool("p", addresses("192.0.2.1-192.0.2.2")))
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
		gives(t, w.look(t, sharing(service("b"), "k", 443)), "192.0.2.1")
		gives(t, w.look(t, sharing(service("b"), "k", 80)), "192.0.2.2")
	})
	t.Run("an address that its pool no longer contains is joined by nobody", func(t *testing.T) {
		w := newWorld(one)
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
		w.setPools(pool("p", addresses("192.0.2.2/32")))
		gives(t, w.look(t, sharing(service("b"), "k", 443)), "192.0.2.2")
		d := w.look(t, asking(sharing(service("c"), "k", 25), "", "192.0.2.1"))
		want(t, d, v1beta1.ReasonAddressNotInPool)
		gives(t, w.look(t, sharing(service("a"), "k", 80)), "192.0.2.1")
	})
}

func TestADeletedPool(t *testing.T) {
	p, q := pool("p", addresses("192.0.2.0/30")), pool("q", addresses("198.51.100.0/30"))
	lookAll := func(t *testing.T, w *world, addr string) {
		t.Helper()
		for range 3 {
			gives(t, w.look(t, service("s")), addr)
		}
	}
	t.Run("its Services stay for a while, and then move to another", func(t *testing.T) {
		w := newWorld(p, q)
		lookAll(t, w, "192.0.2.0")
		w.setPools(q)
		lookAll(t, w, "192.0.2.0")
		gives(t, w.look(t, service("new")), "198.51.100.0")
		want(t, w.look(t, asking(service("named"), "p")), v1beta1.ReasonNoEligiblePool)
		says(t, w.look(t, asking(service("exact"), "", "192.0.2.1")),
			"The Service asks for 192.0.2.1 of pool p, which may not serve it: the pool was deleted.")
		w.pass(config.ReplaceGrace)
		w.setPools(q)
		lookAll(t, w, "198.51.100.1")
	})
	t.Run("created again in time, nothing has happened", func(t *testing.T) {
		w := newWorld(p)
		lookAll(t, w, "192.0.2.0")
		w.setPools()
		w.pass(config.ReplaceGrace - 1)
		w.setPools(p)
		lookAll(t, w, "192.0.2.0")
		gives(t, w.look(t, service("new")), "192.0.2.1")
	})
	t.Run("without another the reason is PoolGone, and stays so", func(t *testing.T) {
		w := newWorld(p)
		s := written(service("s"), w.look(t, service("s")))
		w.setPools()
		w.pass(config.ReplaceGrace)
		w.setPools(pool("q", byHand(addresses("198.51.100.0/30"))))
		message := "The pool that had 192.0.2.0 is gone or contains it no more. " +
			"No pool gives an IPv4 address: " +
			"pool q: autoAssign is false and the Service does not ask for this pool (AutoAssignFalse)."
		for range 3 {
			d := w.look(t, s)
			want(t, d, v1beta1.ReasonPoolGone)
			says(t, d, message)
			s = written(s, d)
		}
		w.setPools(pool("q", addresses("198.51.100.0/30")))
		d := w.look(t, s)
		gives(t, d, "198.51.100.0")
		if written(s, d).Lost.IsValid() {
			t.Error("the loss is not forgotten")
		}
	})
	t.Run("no pool at all", func(t *testing.T) {
		w := newWorld(p)
		w.look(t, service("s"))
		w.setPools()
		w.pass(config.ReplaceGrace)
		w.setPools()
		d := w.look(t, service("s"))
		want(t, d, v1beta1.ReasonPoolGone)
		says(t, d, "The pool that had 192.0.2.0 is gone or contains it no more. "+
			"There is no usable IPAddressPool. Create one, or look at the conditions of those there are.")
		d = w.look(t, service("new"))
		want(t, d, v1beta1.ReasonNoPools)
		says(t, d, "There is no usable IPAddressPool. "+
			"Create one, or look at the conditions of those there are.")
	})
	t.Run("a family that is replaced is not lost", func(t *testing.T) {
		w := newWorld(p)
		want(t, w.look(t, dual(service("s"), true)), v1beta1.ReasonPartlyAssigned, "192.0.2.0")
		w.setPools(q)
		w.pass(config.ReplaceGrace)
		w.setPools(q)
		d := w.look(t, dual(service("s"), true))
		want(t, d, v1beta1.ReasonPartlyAssigned, "198.51.100.0")
		says(t, d, "198.51.100.0 from pool q. The other family is missing: No pool gives an IPv6 address: "+
			"pool q: has no IPv6 addresses (FamilyMissing).")
	})
}

// nobody is what a Service is told that keeps addresses of no pool.
func nobody(addrs string) string {
	return "Nobody announces " + addrs +
		", which no IPAddressPool contains. Create the pool again, or add this to another. " +
		"Until then the Service keeps it, unless it asks for another address."
}

// adopt has a new controller start with these pools, and find a Service with
// addresses, which are from the pools that its condition names.
func adopt(t *testing.T, s Service, from map[netip.Addr]string, pools ...v1beta1.IPAddressPool) *world {
	t.Helper()
	w := newWorld(pools...)
	if err := w.record.Adopt(s.Holder, s.Status, s.Terms, from, w.now); err != nil {
		t.Fatal(err)
	}
	return w
}

// hasStatus is a Service to which Berth has given addresses, or another has.
func hasStatus(s Service, given bool, addrs ...string) Service {
	s.Given, s.Status = given, nil
	for _, a := range addrs {
		s.Status = append(s.Status, ip(a))
	}
	return s
}

// TestAPoolThatIsNotThereTakesNothingAway: when a controller starts, it is not
// known whether what is not there was deleted or is yet to be created again.
func TestAPoolThatIsNotThereTakesNothingAway(t *testing.T) {
	gold, lan := pool("gold", addresses("192.0.2.0/30")), pool("lan", addresses("198.51.100.0/30"))
	wide := pool("lan", addresses("192.0.2.0/24", "2001:db8::/120"))
	wide.CreationTimestamp.Time = time.Unix(1e9, 0)
	older := pool("older", addresses("192.0.2.0/24"))
	gold.CreationTimestamp.Time, older.CreationTimestamp.Time = time.Unix(1e9, 0), time.Unix(9e8, 0)
	lan6 := pool("lan", addresses("198.51.100.0/30", "2001:db8:9::/120"))
	of := map[netip.Addr]string{ip("192.0.2.1"): "gold", ip("2001:db8::1"): "six"}
	s := hasStatus(service("s"), true, "192.0.2.1")
	both := hasStatus(dual(service("s"), false), true, "198.51.100.1", "2001:db8::1")
	migrated := hasStatus(dual(service("s"), false), false, "198.51.100.1", "2001:db8::1")
	keeps := "The Service keeps 192.0.2.1 from pool gold (not there at present). "
	for _, test := range []struct {
		story   string
		service Service
		pools   []v1beta1.IPAddressPool
		reason  v1beta1.Reason
		has     []string
		message string // "" for any
	}{
		{"there is no pool at all",
			s, nil, v1beta1.ReasonPoolMissing, []string{"192.0.2.1"}, keeps + nobody("192.0.2.1")},
		{"another would have an address for it", s, []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonPoolMissing, []string{"192.0.2.1"}, keeps + nobody("192.0.2.1")},
		{"the pool that it asks for is not there", asking(s, "gold"), []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonPoolNotFoundForService, []string{"192.0.2.1"},
			keeps + "The Service asks for pool gold, which does not exist. " +
				"Create it, or change the annotation berth.io/address-pool."},
		{"the pool that it asks for is not there, and another contains the address", asking(s, "gold"),
			[]v1beta1.IPAddressPool{wide}, v1beta1.ReasonPoolNotFoundForService, []string{"192.0.2.1"},
			"The Service keeps 192.0.2.1 from pool lan. The Service asks for pool gold, " +
				"which does not exist. " +
				"Create it, or change the annotation berth.io/address-pool."},
		{"the pool that it asks for is there, and an older one has all of it", asking(s, "gold"),
			[]v1beta1.IPAddressPool{older, gold}, v1beta1.ReasonNoEligiblePool, []string{"192.0.2.1"},
			"The Service keeps 192.0.2.1 from pool older. No pool gives an IPv4 address: pool gold: " +
				"has no IPv4 addresses (FamilyMissing); " +
				"pool older: the Service asks for pool gold (NotRequested)."},
		{"its pool is there", asking(s, "gold"), []v1beta1.IPAddressPool{lan, gold},
			v1beta1.ReasonAssigned, []string{"192.0.2.1"}, ""},
		{"another pool contains it",
			s, []v1beta1.IPAddressPool{wide}, v1beta1.ReasonAssigned, []string{"192.0.2.1"}, ""},
		{"it asks for that very address", asking(s, "", "192.0.2.1"), []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonPoolMissing, []string{"192.0.2.1"}, ""},
		{"it asks for another pool", asking(s, "lan"), []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonAssigned, []string{"198.51.100.0"}, ""},
		{"it asks for another address", asking(s, "", "198.51.100.2"), []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonAssigned, []string{"198.51.100.2"}, ""},
		{"one of two families is of no pool", both, []v1beta1.IPAddressPool{lan}, v1beta1.ReasonPoolMissing,
			[]string{"198.51.100.1", "2001:db8::1"},
			"The Service keeps 198.51.100.1 from pool lan, " +
				"2001:db8::1 from pool six (not there at present). " + nobody("2001:db8::1")},
		{"so it is where another load balancer gave both", migrated, []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonPoolMissing, []string{"198.51.100.1", "2001:db8::1"}, ""},
		{"and where it asks for the pool that has only one of them",
			asking(migrated, "lan"), []v1beta1.IPAddressPool{lan},
			v1beta1.ReasonNoEligiblePool, []string{"198.51.100.1", "2001:db8::1"}, ""},
		{"it has another of the family, which is in a pool",
			hasStatus(s, false, "203.0.113.9", "198.51.100.1"),
			[]v1beta1.IPAddressPool{lan}, v1beta1.ReasonAssigned, []string{"198.51.100.1"}, ""},
		{"it asks for a pool that has another for it", asking(both, "lan"), []v1beta1.IPAddressPool{lan6},
			v1beta1.ReasonAssigned, []string{"198.51.100.1", "2001:db8:9::"}, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			w, now := adopt(t, test.service, of, test.pools...), test.service
			for range 3 {
				w.pass(time.Hour)
				w.setPools(test.pools...)
				d := w.look(t, now)
				want(t, d, test.reason, test.has...)
				if test.message != "" {
					says(t, d, test.message)
				}
				now = written(now, d)
			}
		})
	}
	t.Run("in the end it is created again", func(t *testing.T) {
		w := adopt(t, s, of, lan)
		want(t, w.look(t, s), v1beta1.ReasonPoolMissing, "192.0.2.1")
		w.setPools(lan, gold)
		gives(t, w.look(t, s), "192.0.2.1")
		gives(t, w.look(t, asking(service("t"), "gold")), "192.0.2.0")
		w.setPools(lan) // now it is seen to go
		w.pass(config.ReplaceGrace)
		w.setPools(lan)
		gives(t, w.look(t, s), "198.51.100.0")
	})
	t.Run("what only the status says is no right to it", func(t *testing.T) {
		gives(t, newWorld(lan).look(t, s), "198.51.100.0")
	})
	t.Run("what a pool is seen to move is moved", func(t *testing.T) {
		w := adopt(t, s, of, gold, lan)
		gives(t, w.look(t, s), "192.0.2.1")
		w.setPools(pool("gold", spec(moving, "192.0.2.2/31")), lan)
		gives(t, w.look(t, s), "192.0.2.2")
	})
}

// TestARequestForWhatIsNotThereMovesNothing: it is mistyped, or what it names is
// yet to be created.
func TestARequestForWhatIsNotThereMovesNothing(t *testing.T) {
	p, q := pool("p", addresses("192.0.2.0/30", "2001:db8::/126")), pool("q", addresses("198.51.100.0/30"))
	s := service("s")
	for _, test := range []struct {
		story  string
		asks   Service
		reason v1beta1.Reason
		has    []string
		told   string
	}{
		{"a pool", asking(s, "nowhere"), v1beta1.ReasonPoolNotFoundForService, []string{"192.0.2.0"},
			"The Service keeps 192.0.2.0 from pool p. The Service asks for pool nowhere, " +
				"which does not exist. " +
				"Create it, or change the annotation berth.io/address-pool."},
		{"an address", asking(s, "", "203.0.113.1"), v1beta1.ReasonAddressNotInPool, []string{"192.0.2.0"},
			"The Service keeps 192.0.2.0 from pool p. The Service asks for 203.0.113.1, " +
				"which no pool contains. " +
				"Add it to an IPAddressPool, or ask for another."},
		{"a pool, for two families",
			asking(dual(s, false), "nowhere"), v1beta1.ReasonPoolNotFoundForService, []string{"192.0.2.0"},
			"The Service keeps 192.0.2.0 from pool p. The Service asks for pool nowhere, " +
				"which does not exist. " +
				"Create it, or change the annotation berth.io/address-pool."},
		{"an address that the pool withholds can be judged",
			asking(s, "", "192.0.2.3"), v1beta1.ReasonAddressNotInPool, nil,
			"The Service asks for 192.0.2.3, which is not given out: pool p excludes it. Ask for another."},
		{"so can one that is in another pool than asked for",
			asking(s, "q", "192.0.2.1"), v1beta1.ReasonAddressNotInPool, nil,
			"The Service asks for 192.0.2.1 and for pool q, but the address is in pool p."},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := p
			p.Spec.Exclude = []v1beta1.ExcludedRange{"192.0.2.3"}
			w := newWorld(p, q)
			gives(t, w.look(t, s), "192.0.2.0")
			for range 2 {
				w.pass(time.Hour)
				d := w.look(t, test.asks)
				want(t, d, test.reason, test.has...)
				says(t, d, test.told)
			}
		})
	}
	t.Run("it moves when what it asks for comes", func(t *testing.T) {
		w := newWorld(p)
		gives(t, w.look(t, s), "192.0.2.0")
		want(t, w.look(t, asking(s, "q")), v1beta1.ReasonPoolNotFoundForService, "192.0.2.0")
		w.setPools(p, q)
		gives(t, w.look(t, asking(s, "q")), "198.51.100.0")
	})
}

// TestAPoolThatIsRenamed: its Services stay, and are of the new pool at once.
func TestAPoolThatIsRenamed(t *testing.T) {
	sel := pool("sel", addresses("192.0.2.0/30"))
	renamed := func(name string, ranges ...v1beta1.AddressRange) v1beta1.IPAddressPool {
		p := pool(name, addresses(ranges...))
		p.UID, p.CreationTimestamp.Time = "another", time.Unix(2e9, 0) // the younger
		return p
	}
	for _, test := range []struct {
		story string
		after []v1beta1.IPAddressPool
		want  string
	}{
		{"renamed", []v1beta1.IPAddressPool{renamed("sel2", "192.0.2.0/30")}, "192.0.2.0 from pool sel2."},
		{"split", []v1beta1.IPAddressPool{
			renamed("b", "192.0.2.2/31"), renamed("a", "192.0.2.0/31"),
		}, "192.0.2.0 from pool a."},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(sel)
			gives(t, w.look(t, service("s")), "192.0.2.0")
			w.setPools()
			w.pass(3 * time.Second)
			says(t, w.look(t, service("s")), "192.0.2.0 from pool sel.")
			w.setPools(test.after...)
			for range 3 {
				d := w.look(t, service("s"))
				gives(t, d, "192.0.2.0")
				says(t, d, test.want)
				w.pass(config.ReplaceGrace)
				w.setPools(test.after...)
			}
			gives(t, w.look(t, service("new")), "192.0.2.1")
		})
	}
	t.Run("its Services ask for the old name", func(t *testing.T) {
		w := newWorld(sel)
		s := asking(service("s"), "sel")
		gives(t, w.look(t, s), "192.0.2.0")
		w.setPools(renamed("sel2", "192.0.2.0/30"))
		for range 3 {
			d := w.look(t, s)
			want(t, d, v1beta1.ReasonPoolNotFoundForService, "192.0.2.0")
			says(t, d, "The Service keeps 192.0.2.0 from pool sel2. The Service asks for pool sel, "+
				"which does not exist. "+
				"Create it, or change the annotation berth.io/address-pool.")
			w.pass(config.ReplaceGrace)
			w.setPools(renamed("sel2", "192.0.2.0/30"))
		}
		gives(t, w.look(t, asking(s, "sel2")), "192.0.2.0")
	})
	t.Run("the new one excludes what a Service has", func(t *testing.T) {
		w := newWorld(pool("sel", spec(moving, "192.0.2.0/30")))
		gives(t, w.look(t, service("s")), "192.0.2.0")
		smaller := renamed("sel2", "192.0.2.0/30")
		smaller.Spec.Exclude = []v1beta1.ExcludedRange{"192.0.2.0"}
		w.setPools(smaller)
		gives(t, w.look(t, service("s")), "192.0.2.0") // until the grace ends
		w.pass(config.ReplaceGrace)
		w.setPools(smaller)
		gives(t, w.look(t, service("s")), "192.0.2.1")
	})
}

// TestTheDeletionOfAPoolIsTold: who is about to lose an address hears of it, but
// not while the pool may well be created again.
func TestTheDeletionOfAPoolIsTold(t *testing.T) {
	p, q := pool("p", addresses("192.0.2.0/30")), pool("q", addresses("2001:db8::/126"))
	w := newWorld(p, q)
	s := dual(service("s"), false)
	gives(t, w.look(t, s), "192.0.2.0", "2001:db8::")
	w.setPools(q)
	w.pass(config.ReplaceQuiet - 1)
	w.setPools(q)
	d := w.look(t, s)
	says(t, d, "192.0.2.0 from pool p, 2001:db8:: from pool q.")
	if d.Leaving != "" {
		t.Errorf("told too early: %s", d.Leaving)
	}
	w.pass(1)
	w.setPools(q)
	d = w.look(t, s)
	gives(t, d, "192.0.2.0", "2001:db8::")
	leaving := "Pool p was deleted: the Service loses 192.0.2.0 at 2001-09-09T01:47:10Z, " +
		"unless a pool contains it by then."
	says(t, d, "192.0.2.0 from pool p, 2001:db8:: from pool q. "+leaving)
	if d.Leaving != leaving {
		t.Errorf("told %q", d.Leaving)
	}
	if of := written(s, d).From; of[ip("192.0.2.0")] != "p" || of[ip("2001:db8::")] != "q" {
		t.Errorf("read again, its pools are %v", of)
	}
	// Whatever else it is told.
	d = w.lookInvalid(t, s, errors.New("x"))
	says(t, d, "The Service keeps 192.0.2.0 from pool p, 2001:db8:: from pool q. X. "+leaving)
	// Another that contains the address ends the matter.
	w.setPools(pool("r", addresses("192.0.2.0/24")), q)
	says(t, w.look(t, s), "192.0.2.0 from pool r, 2001:db8:: from pool q.")
}

func TestOnShrink(t *testing.T) {
	w := newWorld(pool("p", addresses("192.0.2.0/30")))
	for _, addr := range []string{"192.0.2.0", "192.0.2.1", "192.0.2.2"} {
		gives(t, w.look(t, service("for-"+addr)), addr)
	}
	shrink := func(change ...func(*v1beta1.IPAddressPoolSpec)) v1beta1.IPAddressPool {
		s := addresses("192.0.2.2/31")
		for _, c := range change {
			c(&s)
		}
		return pool("p", s)
	}
	w.setPools(shrink())
	for range 3 {
		for _, addr := range []string{"192.0.2.0", "192.0.2.1", "192.0.2.2"} {
			d := w.look(t, service("for-"+addr))
			gives(t, d, addr)
			says(t, d, addr+" from pool p.")
		}
	}
	w.release(service("for-192.0.2.1")) // given back, it is nobody's any more
	d := w.look(t, asking(service("named"), "", "192.0.2.1"))
	want(t, d, v1beta1.ReasonAddressNotInPool)
	says(t, d, "The Service asks for 192.0.2.1, which no pool contains. Add it to an IPAddressPool, "+
		"or ask for another.")
	w.setPools(shrink(moving)) // only the one outside moves
	gives(t, w.look(t, service("for-192.0.2.0")), "192.0.2.3")
	gives(t, w.look(t, service("for-192.0.2.2")), "192.0.2.2")

	// The same when an address is excluded, or when a node takes it.
	w = newWorld(pool("p", addresses("192.0.2.0/30")))
	gives(t, w.look(t, service("s")), "192.0.2.0")
	excluding := spec(func(s *v1beta1.IPAddressPoolSpec) {
		s.Exclude = []v1beta1.ExcludedRange{"192.0.2.0"}
	}, "192.0.2.0/30")
	w.setPools(pool("p", excluding))
	gives(t, w.look(t, service("s")), "192.0.2.0")
	gives(t, w.look(t, service("s")), "192.0.2.0")
	says(t, w.look(t, asking(service("t"), "", "192.0.2.0")),
		"The Service asks for 192.0.2.0, which is not given out: pool p excludes it. Ask for another.")
	excluding.OnShrink = v1beta1.OnShrinkMove
	w.setPools(pool("p", excluding))
	gives(t, w.look(t, service("s")), "192.0.2.1")
}

func TestWhatTheStatusOfAPoolListsButNobodyHolds(t *testing.T) {
	p := pool("p", addresses("192.0.2.0/31"))
	p.Status.OutOfRange = []string{"192.0.2.9"}
	w := newWorld(p)
	want(t, w.look(t, asking(service("new"), "", "192.0.2.9")), v1beta1.ReasonAddressNotInPool)
}

// TestTheConditionTellsThePool: whatever the reason, a Service with addresses is
// told which pools they are from, and that can be read again.
func TestTheConditionTellsThePool(t *testing.T) {
	p, six := pool("my.pool", addresses("192.0.2.0/30")), pool("six", addresses("2001:db8::/126"))
	last := map[netip.Addr]string{ip("192.0.2.0"): "my.pool"}
	s := service("s")
	for _, test := range []struct {
		story   string
		look    func(w *world) Decision
		message string
		want    map[netip.Addr]string
	}{
		{"it has all it asks for", func(w *world) Decision { return w.look(t, dual(s, false)) },
			"192.0.2.0 from pool my.pool, 2001:db8:: from pool six.",
			map[netip.Addr]string{ip("192.0.2.0"): "my.pool", ip("2001:db8::"): "six"}},
		{"it has one of two families", func(w *world) Decision {
			w.setPools(p)
			w.pass(time.Hour)
			w.setPools(p)
			return w.look(t, dual(s, true))
		},
			"192.0.2.0 from pool my.pool. The other family is missing: No pool gives an IPv6 address: " +
				"pool my.pool: has no IPv6 addresses (FamilyMissing).", last},
		{"it asks for what cannot be read", func(w *world) Decision {
			return w.lookInvalid(t, s, errors.New(
				`"192.0.2.0 from pool evil. The Service keeps 192.0.2.0 from pool evil." is no address`,
			))
		}, `The Service keeps 192.0.2.0 from pool my.pool. ` +
			`"192.0.2.0 from pool evil. The Service keeps 192.0.2.0 from pool evil." is no address.`, last},
		{"it waits for the second family, and keeps the first", func(w *world) Decision {
			return w.look(t, asking(dual(s, false), "", "2001:db8::99"))
		}, "The Service keeps 192.0.2.0 from pool my.pool. The Service asks for 2001:db8::99, " +
			"which no pool contains. Add it to an IPAddressPool, or ask for another.", last},
		{"its pool is away when the controller starts", func(w *world) Decision {
			w.record = allocator.New()
			err := w.record.Adopt(s.Holder, []netip.Addr{ip("192.0.2.0")}, s.Terms, last, w.now)
			if err != nil {
				t.Fatal(err)
			}
			return Decide(Input{
				Service:   s,
				Held:      []netip.Addr{ip("192.0.2.0")},
				Config:    &w.config,
				Addresses: w.record,
			})
		}, "The Service keeps 192.0.2.0 from pool my.pool (not there at present). " +
			nobody("192.0.2.0"), last},
		{"nobody knows where one is from", func(w *world) Decision {
			w.record = allocator.New()
			both := []netip.Addr{ip("203.0.113.1"), ip("2001:db8::")}
			err := w.record.Adopt(s.Holder, both, s.Terms,
				map[netip.Addr]string{ip("2001:db8::"): "six"}, w.now)
			if err != nil {
				t.Fatal(err)
			}
			return Decide(Input{Service: dual(s, false), Held: both, Config: &w.config, Addresses: w.record})
		}, "The Service keeps 203.0.113.1 of no pool at present, " +
			"2001:db8:: from pool six (not there at present). " +
			nobody("203.0.113.1 and 2001:db8::"), map[netip.Addr]string{ip("2001:db8::"): "six"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(p, six)
			gives(t, w.look(t, s), "192.0.2.0")
			d := test.look(w)
			says(t, d, test.message)
			same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff(test.want, written(s, d).From, same); diff != "" {
				t.Errorf("read again (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzFrom(f *testing.F) {
	for _, text := range []string{
		"",
		"192.0.2.0 from pool p.",
		"192.0.2.0 from pool p, 2001:db8:: from pool q (not there at present). No.",
		keptBegins + "x of no pool at present.",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := &corev1.Service{Status: corev1.ServiceStatus{Conditions: []v1.Condition{
			{Type: v1beta1.ConditionAddressAssigned, Reason: string(v1beta1.ReasonAssigned), Message: text},
		}}}
		addrs, from := Wrote(o)
		for addr, name := range from {
			if !slices.Contains(addrs, addr) {
				t.Fatalf("%q: %s is from a pool and not had", text, addr)
			}
			if !addr.IsValid() || name == "" {
				t.Fatalf("%q: %s is from %q", text, addr, name)
			}
		}
	})
}

// Every reason of a Service's condition, with its message in full.
func TestReasonsInFull(t *testing.T) {
	badSelector := v1beta1.ServiceAllocation{ServiceSelectors: []v1.LabelSelector{
		{MatchExpressions: []v1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}},
	}}
	golden := v1beta1.ServiceAllocation{
		ServiceSelectors: []v1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}},
	}
	four := pool("four", addresses("192.0.2.1/32"))
	for _, test := range []struct {
		reason  v1beta1.Reason
		pools   []v1beta1.IPAddressPool
		service Service
		message string
	}{
		{v1beta1.ReasonAssigned, []v1beta1.IPAddressPool{four}, service("s"), "192.0.2.1 from pool four."},
		{v1beta1.ReasonNoPools, nil, service("s"),
			"There is no usable IPAddressPool. Create one, or look at the conditions of those there are."},
		{v1beta1.ReasonNoClusterIP,
			[]v1beta1.IPAddressPool{four}, with(service("s"), func(s *Service) { s.Families = nil }),
			"The Service has no cluster IP, so it is not known which address families it needs."},
		{v1beta1.ReasonPoolNotFoundForService, []v1beta1.IPAddressPool{four}, asking(service("s"), "x"),
			"The Service asks for pool x, which does not exist. " +
				"Create it, or change the annotation berth.io/address-pool."},
		{v1beta1.ReasonAddressNotInPool, []v1beta1.IPAddressPool{
			four, pool("five", addresses("198.51.100.0/24")),
		}, asking(service("s"), "five", "192.0.2.1"),
			"The Service asks for 192.0.2.1 and for pool five, but the address is in pool four."},
		{v1beta1.ReasonForeignAddress, []v1beta1.IPAddressPool{four},
			with(service("s"), func(s *Service) { s.Status = []netip.Addr{ip("203.0.113.1")} }),
			"The Service has 203.0.113.1, which no pool contains and Berth did not give: it is left alone. " +
				"To have Berth serve the Service, " +
				"ask for an address or a pool by annotation, or add the address to an IPAddressPool. " +
				"Where the other load balancer is gone, " +
				"clear the status: " + ClearCommand("default/s") + "."},
		{v1beta1.ReasonNoEligiblePool, []v1beta1.IPAddressPool{
			pool("bad", pinned(addresses("192.0.2.0/24"), badSelector)),
			pool("gold", pinned(addresses("198.51.100.0/24"), golden)),
		}, service("s"),
			"No pool gives an IPv4 address: pool bad: it cannot be read whom the pool is for; " +
				"see its Ready condition (PoolInvalid); " +
				"pool gold: serviceAllocation does not select the Service's labels (ServiceNotSelected)."},
	} {
		t.Run(string(test.reason), func(t *testing.T) {
			d := newWorld(test.pools...).look(t, test.service)
			if d.Reason != test.reason {
				t.Errorf("reason is %s", d.Reason)
			}
			says(t, d, test.message)
		})
	}
	t.Run(string(v1beta1.ReasonAddressInUse), func(t *testing.T) {
		w := newWorld(four)
		w.look(t, service("first"))
		says(t, w.look(t, asking(service("s"), "", "192.0.2.1")),
			"The Service asks for 192.0.2.1, which Service default/first holds: "+
				"both must carry the same sharing key to share an address.")
	})
	t.Run(string(v1beta1.ReasonInvalidRequest), func(t *testing.T) {
		d := newWorld(four).lookInvalid(t, service("s"), errors.New("annotation x: y"))
		says(t, d, "Annotation x: y.")
	})
	t.Run("many pools", func(t *testing.T) {
		var pools []v1beta1.IPAddressPool
		for i := range 25 {
			pools = append(pools, pool(
				fmt.Sprintf("p%02d", i),
				byHand(addresses(v1beta1.AddressRange(fmt.Sprintf("10.0.%d.0/24", i)))),
			))
		}
		d := newWorld(pools...).look(t, service("s"))
		if len(d.Rejections) != 25 || len(d.Message) > 4096 ||
			d.Message[len(d.Message)-19:] != "; and 5 more pools." {
			t.Errorf("%d rejections, message %q", len(d.Rejections), d.Message)
		}
	})
}

func TestTheOrderWithinAFullCluster(t *testing.T) {
	w := newWorld(
		pool("z-first", pinned(addresses("192.0.2.1/32"), v1beta1.ServiceAllocation{Priority: 1})),
		pool("y-asked", byHand(pinned(addresses("192.0.2.2/32"), v1beta1.ServiceAllocation{Priority: 2}))),
		pool("a-open", addresses("192.0.2.4/32")),
		pool("b-open", addresses("192.0.2.5/32")),
	)
	gives(t, w.look(t, asking(service("asks-address"), "", "192.0.2.5")), "192.0.2.5")
	gives(t, w.look(t, asking(service("asks-pool"), "y-asked")), "192.0.2.2")
	gives(t, w.look(t, service("first")), "192.0.2.1")
	gives(t, w.look(t, service("second")), "192.0.2.4")
	d := w.look(t, service("third"))
	want(t, d, v1beta1.ReasonPoolsExhausted)
	says(t, d, "No pool gives an IPv4 address: pool z-first: every IPv4 address is held (PoolFull); "+
		"pool a-open: every IPv4 address is held (PoolFull); pool b-open: "+
		"every IPv4 address is held (PoolFull); "+
		"pool y-asked: autoAssign is false and the Service does not ask for this pool (AutoAssignFalse).")
}

func TestBothSpellingsOfARequest(t *testing.T) {
	for _, annotation := range []string{"berth.io/address-pool", "metallb.io/address-pool"} {
		s, err := ParseService(object(map[string]string{annotation: "lan"}), nil)
		if err != nil || s.RequestedPool != "lan" {
			t.Errorf("%s: pool %q, %v", annotation, s.RequestedPool, err)
		}
	}
	for _, annotation := range []string{"berth.io/loadBalancerIPs", "metallb.io/loadBalancerIPs"} {
		s, err := ParseService(object(map[string]string{annotation: "192.0.2.1"}), nil)
		if err != nil || len(s.RequestedAddresses) != 1 {
			t.Errorf("%s: addresses %v, %v", annotation, s.RequestedAddresses, err)
		}
	}
}

func TestTheConditionTellsWhatWasLost(t *testing.T) {
	o := object(nil)
	if s, _ := ParseService(o, nil); s.Lost.IsValid() {
		t.Errorf("without a condition %s is lost", s.Lost)
	}
	for message, addr := range map[string]string{
		lostBegins + "192.0.2.1" + lostEnds + " There is no pool.": "192.0.2.1",
		"192.0.2.1 from pool p. The other family is missing: " + lostBegins + "2001:db8::1" +
			lostEnds: "2001:db8::1",
		"192.0.2.1 from pool p.":        "",
		lostBegins + "nothing to read.": "",
	} {
		o.Status.Conditions = []v1.Condition{{Type: v1beta1.ConditionAddressAssigned, Message: message}}
		s, _ := ParseService(o, nil)
		if want, _ := netip.ParseAddr(addr); s.Lost != want {
			t.Errorf("%q: lost is %v, want %q", message, s.Lost, addr)
		}
	}
}

func TestAPinnedPoolComesBeforeOneWithBothFamilies(t *testing.T) {
	shop := v1beta1.ServiceAllocation{Namespaces: []string{"shop"}}
	firewalled := pool("pinned", pinned(addresses("192.0.2.0/24"), shop))
	firewalledSix := pool("pinned-six", pinned(addresses("2001:db8:1::/120"), shop))
	firewalledBoth := pool("pinned-zz-both", pinned(addresses("203.0.113.0/24", "2001:db8:2::/120"), shop))
	both := pool("both", addresses("198.51.100.0/24", "2001:db8::/120"))
	six := pool("a-six", addresses("2001:db8:3::/120"))
	for _, test := range []struct {
		story   string
		pools   []v1beta1.IPAddressPool
		service Service
		addrs   []string
	}{
		{"the other family comes from elsewhere", []v1beta1.IPAddressPool{both, firewalled},
			dual(of("shop", "s"), true), []string{"192.0.2.0", "2001:db8::"}},
		{"also where IPv6 is the first family", []v1beta1.IPAddressPool{both, firewalled},
			dual(of("shop", "s"), true, IPv6, IPv4), []string{"2001:db8::", "192.0.2.0"}},
		{"also where both families are required", []v1beta1.IPAddressPool{both, firewalled},
			dual(of("shop", "s"), false), []string{"192.0.2.0", "2001:db8::"}},
		{"elsewhere a pool with both still goes before one of its family",
			[]v1beta1.IPAddressPool{both, firewalled, six},
			dual(of("shop", "s"), true), []string{"192.0.2.0", "2001:db8::"}},
		{"of pinned pools, one with both goes first",
			[]v1beta1.IPAddressPool{both, firewalled, firewalledSix, firewalledBoth},
			dual(of("shop", "s"), true), []string{"203.0.113.0", "2001:db8:2::"}},
		{"two pinned pools before another with both",
			[]v1beta1.IPAddressPool{both, firewalled, firewalledSix},
			dual(of("shop", "s"), true), []string{"192.0.2.0", "2001:db8:1::"}},
		{"a namespace that it is not pinned to", []v1beta1.IPAddressPool{both, firewalled},
			dual(of("yard", "s"), true), []string{"198.51.100.0", "2001:db8::"}},
		{"who asks for an address has both of its pool", []v1beta1.IPAddressPool{both, firewalledSix},
			asking(dual(of("shop", "s"), true), "", "198.51.100.7"), []string{"198.51.100.7", "2001:db8::"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(test.pools...)
			gives(t, w.look(t, test.service), test.addrs...)
			gives(t, w.look(t, test.service), test.addrs...)
		})
	}

	// What a Service has, it keeps.
	w := newWorld(both)
	gives(t, w.look(t, dual(of("shop", "s"), true)), "198.51.100.0", "2001:db8::")
	w.setPools(both, firewalled)
	gives(t, w.look(t, dual(of("shop", "s"), true)), "198.51.100.0", "2001:db8::")
}
