package assignment

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// world is a configuration with a record of who holds what.
type world struct {
	config config.Config
	record *allocator.Allocator
	now    time.Time

	nodes    map[netip.Addr]config.NodeAddress
	external ExternalIPs
	withheld map[netip.Addr]bool
}

func pool(name string, spec v1beta1.IPAddressPoolSpec) v1beta1.IPAddressPool {
	return v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
}

func addresses(texts ...v1beta1.AddressRange) v1beta1.IPAddressPoolSpec {
	return v1beta1.IPAddressPoolSpec{Addresses: texts}
}

func pinned(spec v1beta1.IPAddressPoolSpec, a v1beta1.ServiceAllocation) v1beta1.IPAddressPoolSpec {
	spec.ServiceAllocation = &a
	return spec
}

func byHand(spec v1beta1.IPAddressPoolSpec) v1beta1.IPAddressPoolSpec {
	no := false
	spec.AutoAssign = &no
	return spec
}

func newWorld(pools ...v1beta1.IPAddressPool) *world {
	w := &world{record: allocator.New(), now: time.Unix(1e9, 0)}
	w.setPools(pools...)
	return w
}

func (w *world) setPools(pools ...v1beta1.IPAddressPool) {
	w.config, _ = config.Parse(config.Objects{Pools: pools, NodeAddresses: w.nodes}, w.config, w.now)
	w.setRecord()
}

// setRecord has the record know the pools of the configuration.
func (w *world) setRecord() {
	var out []allocator.Pool
	for _, p := range w.config.Pools {
		out = append(out, p.Allocatable())
	}
	w.record.SetPools(out)
	w.withhold()
}

// withhold tells the record what is not given out, as the controller does.
func (w *world) withhold() {
	ofNodes, before := w.config.Withheld(), w.withheld
	w.withheld = map[netip.Addr]bool{}
	for addr := range ofNodes {
		w.withheld[addr] = true
	}
	for addr := range w.external.namers {
		w.withheld[addr] = true
	}
	for addr := range before {
		if !w.withheld[addr] {
			w.record.Permit(addr)
		}
	}
	for addr := range w.withheld {
		node, isOfNode := ofNodes[addr]
		why, _ := Withholding(node, isOfNode, &w.external, addr)
		w.record.Withhold(addr, why)
	}
}

// look decides about a Service and records the decision, as the controller
// does.
func (w *world) look(t *testing.T, s Service) Decision {
	t.Helper()
	return w.lookInvalid(t, s, nil)
}

func (w *world) lookInvalid(t *testing.T, s Service, invalid error) Decision {
	t.Helper()
	held, _ := w.record.Held(s.Holder)
	d := Decide(Input{
		Service:   s,
		Invalid:   invalid,
		Held:      held.Addresses,
		Config:    &w.config,
		Addresses: w.record,
		Now:       w.now,
	})
	if err := w.record.Assign(s.Holder, d.Addresses, s.Terms, w.now); err != nil {
		t.Fatalf("the decision for %s cannot be recorded: %v", s.Holder, err)
	}
	return d
}

func service(name string) Service {
	return Service{
		Holder:    allocator.Holder("default/" + name),
		Namespace: "default",
		Families:  []Family{IPv4},
	}
}

func with(s Service, change func(*Service)) Service {
	change(&s)
	return s
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// want fails unless a decision has these addresses and this reason.
func want(t *testing.T, d Decision, reason v1beta1.Reason, addrs ...string) {
	t.Helper()
	var got []string
	for _, a := range d.Addresses {
		got = append(got, a.String())
	}
	if d.Reason != reason || !cmp.Equal(got, addrs) {
		t.Errorf("got %v, %s (%s)\nwant %v, %s", got, d.Reason, d.Message, addrs, reason)
	}
}

func TestTheFirstFreeAddressOfTheFirstEligiblePool(t *testing.T) {
	w := newWorld(
		pool("a-by-hand", byHand(addresses("203.0.113.0/24"))),
		pool("b", addresses("192.0.2.1/32")),
		pool("c", addresses("198.51.100.0/24")),
	)
	want(t, w.look(t, service("s1")), v1beta1.ReasonAssigned, "192.0.2.1")
	want(t, w.look(t, service("s2")), v1beta1.ReasonAssigned, "198.51.100.0")
	d := w.look(t, service("s1"))
	want(t, d, v1beta1.ReasonAssigned, "192.0.2.1")
	if d.Message != "192.0.2.1 from pool b." {
		t.Errorf("message = %q", d.Message)
	}
}

func TestPinnedPoolsComeFirstByPriorityThenByName(t *testing.T) {
	gold := metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	w := newWorld(
		pool("a-open", addresses("192.0.2.1/32")),
		pool("b-unranked", pinned(addresses("192.0.2.2/32"), v1beta1.ServiceAllocation{})),
		pool("c-second", pinned(addresses("192.0.2.3/32"),
			v1beta1.ServiceAllocation{Priority: 20, Namespaces: []string{"default"}})),
		pool("d-first", pinned(addresses("192.0.2.4/32"),
			v1beta1.ServiceAllocation{Priority: 10, ServiceSelectors: []metav1.LabelSelector{gold}})),
		pool("e-second", pinned(addresses("192.0.2.5/32"), v1beta1.ServiceAllocation{Priority: 20})),
		pool("f-elsewhere", pinned(addresses("192.0.2.6/32"), v1beta1.ServiceAllocation{
			Priority:   1,
			Namespaces: []string{"shop"},
		})),
	)
	golden := func(name string) Service {
		return with(service(name), func(s *Service) { s.Labels = map[string]string{"tier": "gold"} })
	}
	for _, addr := range []string{"192.0.2.4", "192.0.2.3", "192.0.2.5", "192.0.2.2", "192.0.2.1"} {
		want(t, w.look(t, golden("for-"+addr)), v1beta1.ReasonAssigned, addr)
	}
	d := w.look(t, golden("late"))
	want(t, d, v1beta1.ReasonPoolsExhausted)
	if d.Rejections[0].Pool != "f-elsewhere" || d.Rejections[0].Reason != v1beta1.ReasonNamespaceNotSelected {
		t.Errorf("rejections = %+v", d.Rejections)
	}
}

func TestAPendingServiceIsToldWhyPoolByPool(t *testing.T) {
	w := newWorld(
		pool("full", addresses("192.0.2.1/32")),
		pool("hand", byHand(addresses("198.51.100.0/24"))),
		pool("shop", pinned(addresses("203.0.113.0/24"),
			v1beta1.ServiceAllocation{Namespaces: []string{"shop"}})),
		pool("six", addresses("2001:db8::/120")),
	)
	w.look(t, service("first"))
	d := w.look(t, service("second"))
	want(t, d, v1beta1.ReasonPoolsExhausted)
	message := "No pool gives an IPv4 address: " +
		"pool full: every IPv4 address is held (PoolFull); " +
		"pool shop: serviceAllocation does not select namespace default (NamespaceNotSelected); " +
		"pool hand: autoAssign is false and the Service does not ask for this pool (AutoAssignFalse); " +
		"pool six: has no IPv4 addresses (FamilyMissing)."
	if diff := cmp.Diff(message, d.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	want(t, newWorld().look(t, service("s")), v1beta1.ReasonNoPools)
	w = newWorld(pool("hand", byHand(addresses("192.0.2.0/24"))))
	want(t, w.look(t, service("s")), v1beta1.ReasonNoEligiblePool)
}

func TestRequests(t *testing.T) {
	asking := func(pool string, addrs ...string) Service {
		return with(service("s"), func(s *Service) {
			s.RequestedPool = pool
			for _, a := range addrs {
				s.RequestedAddresses = append(s.RequestedAddresses, ip(a))
			}
		})
	}
	for _, test := range []struct {
		story   string
		service Service
		reason  v1beta1.Reason
		addrs   []string
		message string
	}{
		{"a pool by name, also one that gives nothing unasked",
			asking("hand"), v1beta1.ReasonAssigned, []string{"198.51.100.0"}, ""},
		{"an address of such a pool",
			asking("", "198.51.100.7"), v1beta1.ReasonAssigned, []string{"198.51.100.7"}, ""},
		{"pool and address that agree",
			asking("hand", "198.51.100.7"), v1beta1.ReasonAssigned, []string{"198.51.100.7"}, ""},
		{"pool and address that do not", asking("auto", "198.51.100.7"), v1beta1.ReasonAddressNotInPool,
			nil, "the address is in pool hand"},
		{"a pool that is not there",
			asking("gone"), v1beta1.ReasonPoolNotFoundForService, nil, "pool gone, which does not exist"},
		{"an address of no pool",
			asking("", "10.0.0.1"), v1beta1.ReasonAddressNotInPool, nil, "which no pool contains"},
		{"an address that another Service holds",
			asking("", "192.0.2.1"), v1beta1.ReasonAddressInUse, nil, "which Service default/other holds"},
		{"an address of a pool that serves others only", asking("", "203.0.113.1"),
			v1beta1.ReasonNoEligiblePool, nil, "does not select namespace default"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(
				pool("auto", addresses("192.0.2.1-192.0.2.9")),
				pool("hand", byHand(addresses("198.51.100.0/24"))),
				pool("shop", pinned(addresses("203.0.113.0/24"), v1beta1.ServiceAllocation{
					Namespaces: []string{"shop"},
				})),
			)
			want(t, w.look(t, service("other")), v1beta1.ReasonAssigned, "192.0.2.1")
			d := w.look(t, test.service)
			want(t, d, test.reason, test.addrs...)
			if !strings.Contains(d.Message, test.message) {
				t.Errorf("message = %q, want %q in it", d.Message, test.message)
			}
		})
	}
}

func TestChangingARequestMovesTheService(t *testing.T) {
	w := newWorld(pool("a", addresses("192.0.2.0/24")), pool("b", addresses("198.51.100.0/24")))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.0")
	toB := with(service("s"), func(s *Service) { s.RequestedPool = "b" })
	want(t, w.look(t, toB), v1beta1.ReasonAssigned, "198.51.100.0")
	toNine := with(service("s"), func(s *Service) { s.RequestedAddresses = []netip.Addr{ip("192.0.2.9")} })
	want(t, w.look(t, toNine), v1beta1.ReasonAssigned, "192.0.2.9")
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.9") // asking for nothing keeps it
	want(t, w.look(t, service("other")), v1beta1.ReasonAssigned, "192.0.2.0")
}

func TestNothingMovesWithoutCause(t *testing.T) {
	w := newWorld(pool("b", addresses("192.0.2.0/24")))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.0")
	// A pool that comes before in the order, a pin that passes the Service
	// over, autoAssign turned off: none of these takes an address away.
	w.setPools(pool("a", addresses("198.51.100.0/24")),
		pool("b", byHand(pinned(addresses("192.0.2.0/24"),
			v1beta1.ServiceAllocation{Namespaces: []string{"shop"}}))))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.0")
	// Nor does its pool without its address, unless the pool says so.
	shrunk := addresses("192.0.2.128/25")
	w.setPools(pool("a", addresses("198.51.100.0/24")), pool("b", shrunk))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.0")
	shrunk.OnShrink = v1beta1.OnShrinkMove
	w.setPools(pool("a", addresses("198.51.100.0/24")), pool("b", shrunk))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "198.51.100.0")
}

func TestWhatBerthDidNotGiveIsLeftAlone(t *testing.T) {
	foreign := with(service("s"), func(s *Service) { s.Status = []netip.Addr{ip("203.0.113.9")} })
	w := newWorld(pool("p", addresses("192.0.2.0/24")))
	want(t, w.look(t, foreign), v1beta1.ReasonForeignAddress, "203.0.113.9")
	// A pool that contains the address makes it Berth's.
	w.setPools(pool("p", addresses("203.0.113.0/24")))
	want(t, w.look(t, foreign), v1beta1.ReasonAssigned, "203.0.113.9")
	want(t, w.look(t, service("other")), v1beta1.ReasonAssigned, "203.0.113.0")
	// What Berth gave, it may take back.
	given := with(foreign, func(s *Service) { s.Given = true })
	w = newWorld(pool("p", addresses("192.0.2.0/24")))
	want(t, w.look(t, given), v1beta1.ReasonAssigned, "192.0.2.0")
}

func TestTheStatusCountsWhereThereIsNoRecord(t *testing.T) {
	w := newWorld(pool("p", addresses("192.0.2.0/24")))
	adopted := with(service("s"), func(s *Service) { s.Status = []netip.Addr{ip("192.0.2.77")} })
	want(t, w.look(t, adopted), v1beta1.ReasonAssigned, "192.0.2.77")
	// The record is ahead of a stale status.
	stale := with(service("s"), func(s *Service) { s.Status = []netip.Addr{ip("192.0.2.5")} })
	want(t, w.look(t, stale), v1beta1.ReasonAssigned, "192.0.2.77")
	// Somebody else's address in the status is no right to it.
	thief := with(service("thief"), func(s *Service) { s.Status = []netip.Addr{ip("192.0.2.77")} })
	want(t, w.look(t, thief), v1beta1.ReasonAssigned, "192.0.2.0")
}

func TestFamilies(t *testing.T) {
	dual := func(name string, optional bool) Service {
		return with(service(name), func(s *Service) {
			s.Families = []Family{IPv6, IPv4}
			s.Optional = optional
		})
	}
	w := newWorld(pool("four", addresses("192.0.2.0/30")))
	want(t, w.look(t, dual("required", false)), v1beta1.ReasonNoEligiblePool)
	want(t, w.look(t, dual("preferred", true)), v1beta1.ReasonPartlyAssigned, "192.0.2.0")
	want(t, w.look(t, service("single")), v1beta1.ReasonAssigned, "192.0.2.1")

	w.setPools(pool("four", addresses("192.0.2.0/30")), pool("six", addresses("2001:db8::/120")))
	want(t, w.look(t, dual("required", false)), v1beta1.ReasonAssigned, "2001:db8::", "192.0.2.2")
	want(t, w.look(t, dual("preferred", true)), v1beta1.ReasonAssigned, "2001:db8::1", "192.0.2.0")

	// A deleted pool may come back; then nothing has happened.
	w.setPools(pool("four", addresses("192.0.2.0/30")))
	want(t, w.look(t, dual("required", false)), v1beta1.ReasonAssigned, "2001:db8::", "192.0.2.2")
	// If it does not, a RequireDualStack Service that loses one family keeps
	// the other.
	w.now = w.now.Add(config.ReplaceGrace)
	w.setPools(pool("four", addresses("192.0.2.0/30")))
	d := w.look(t, dual("required", false))
	want(t, d, v1beta1.ReasonPoolGone, "192.0.2.2")
	if !strings.HasPrefix(d.Message, "The Service keeps 192.0.2.2 from pool four. "+
		"The pool that had 2001:db8:: is gone or contains it no more. No pool gives an IPv6 address") {
		t.Errorf("message = %q", d.Message)
	}

	headless := with(service("headless"), func(s *Service) { s.Families = nil })
	want(t, w.look(t, headless), v1beta1.ReasonNoClusterIP)
}

func TestAnUnreadableRequestChangesNothing(t *testing.T) {
	w := newWorld(pool("p", addresses("192.0.2.0/24")))
	want(t, w.look(t, service("s")), v1beta1.ReasonAssigned, "192.0.2.0")
	d := w.lookInvalid(t, service("s"), errors.New("the annotations contradict each other"))
	want(t, d, v1beta1.ReasonInvalidRequest, "192.0.2.0")
	if d.Message != "The Service keeps 192.0.2.0 from pool p. The annotations contradict each other." {
		t.Errorf("message = %q", d.Message)
	}
	want(t, w.lookInvalid(t, service("new"), errors.New("x")), v1beta1.ReasonInvalidRequest)
}

func TestSharingIsOnlyOnDemand(t *testing.T) {
	w := newWorld(pool("p", addresses("192.0.2.0/31")))
	sharer := func(name, key string, port uint16) Service {
		return with(service(name), func(s *Service) {
			s.Terms = allocator.Terms{
				SharingKey: key,
				Ports:      []allocator.Port{{Protocol: "TCP", Number: port}},
			}
		})
	}
	want(t, w.look(t, sharer("web", "k", 80)), v1beta1.ReasonAssigned, "192.0.2.0")
	want(t, w.look(t, sharer("tls", "k", 443)), v1beta1.ReasonAssigned, "192.0.2.0")
	want(t, w.look(t, sharer("unasked", "", 25)), v1beta1.ReasonAssigned, "192.0.2.1")
	want(t, w.look(t, sharer("web-too", "k", 80)), v1beta1.ReasonPoolsExhausted)
	// The conflict goes, the waiting Service gets in.
	w.record.Release("default/web", w.now)
	want(t, w.look(t, sharer("web-too", "k", 80)), v1beta1.ReasonAssigned, "192.0.2.0")
}
