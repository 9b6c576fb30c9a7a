package assignment

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// amongNodes is a world with the pool lan, of 192.0.2.0/24, and nodes with these addresses.
func amongNodes(addrs ...string) *world {
	w := newWorld()
	nodes := map[netip.Addr]config.NodeAddress{}
	for i, a := range addrs {
		nodes[ip(a)] = config.NodeAddress{Node: fmt.Sprintf("node%d", i+1)}
	}
	w.config, _ = config.Parse(config.Objects{
		Pools: []v1beta1.IPAddressPool{pool("lan", addresses("192.0.2.0/24"))}, NodeAddresses: nodes,
	}, config.Config{}, w.now)
	w.setRecord()
	return w
}

// having is a Service in whose status others have put these: addresses or host
// names.
func having(s Service, entries ...string) Service {
	s.Status, s.Hostnames = nil, nil
	for _, e := range entries {
		if addr, err := netip.ParseAddr(e); err == nil {
			s.Status = append(s.Status, addr)
			continue
		}
		s.Hostnames = append(s.Hostnames, e)
	}
	return s
}

// What stands in a status when Berth looks at the Service for the first time.
func TestWhatAnotherLoadBalancerLeft(t *testing.T) {
	const clears = "`kubectl -n default patch service s --subresource=status --type=merge -p " +
		"'{\"status\":{\"loadBalancer\":{\"ingress\":null}}}'`"
	for _, test := range []struct {
		story   string
		service Service
		reason  v1beta1.Reason
		addrs   []string
		leave   bool
		message string
	}{
		{"addresses of nodes, as k3s's ServiceLB leaves them",
			having(service("s"), "203.0.113.11", "203.0.113.12", "203.0.113.13"),
			v1beta1.ReasonAssigned, []string{"192.0.2.0"}, false, ""},
		{"the same, and the Service asks for an address",
			having(asking(service("s"), "", "192.0.2.40"), "203.0.113.11"),
			v1beta1.ReasonAssigned, []string{"192.0.2.40"}, false, ""},
		{"the same, and there is no address for it", having(asking(service("s"), "gone"), "203.0.113.11"),
			v1beta1.ReasonPoolNotFoundForService, nil, true, "pool gone, which does not exist"},
		{"an address of a node beside a stranger's", having(service("s"), "203.0.113.11", "203.0.113.99"),
			v1beta1.ReasonForeignAddress, []string{"203.0.113.11", "203.0.113.99"}, true, clears},
		{"a stranger's address", having(service("s"), "203.0.113.99"),
			v1beta1.ReasonForeignAddress, []string{"203.0.113.99"}, true, clears},
		{"a stranger's, and the Service asks for one of a pool",
			having(asking(service("s"), "", "192.0.2.40"), "203.0.113.99"),
			v1beta1.ReasonAssigned, []string{"192.0.2.40"}, false, ""},
		{"a stranger's, and the Service asks for a pool", having(asking(service("s"), "lan"), "203.0.113.99"),
			v1beta1.ReasonAssigned, []string{"192.0.2.0"}, false, ""},
		{"a stranger's, which is the one it asks for",
			having(asking(service("s"), "", "203.0.113.99"), "203.0.113.99"),
			v1beta1.ReasonForeignAddress,
			[]string{"203.0.113.99"}, true, "203.0.113.99, which no pool contains"},
		{"a host name of a cloud", having(service("s"), "lb.example.com"),
			v1beta1.ReasonForeignAddress, nil, true, "The Service has lb.example.com, "},
		{"a host name, and the Service asks for an address",
			having(asking(service("s"), "", "192.0.2.40"), "lb.example.com"),
			v1beta1.ReasonAssigned, []string{"192.0.2.40"}, false, "The status also names lb.example.com"},
		{"an address of a pool, as MetalLB leaves it", having(service("s"), "192.0.2.9"),
			v1beta1.ReasonAssigned, []string{"192.0.2.9"}, false, ""},
		{"the same beside a host name", having(service("s"), "lb.example.com", "192.0.2.9"),
			v1beta1.ReasonAssigned, []string{"192.0.2.9"}, false,
			`-p '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9","ipMode":"VIP"}]}}}'`},
		{"the same beside an address of a node", having(service("s"), "203.0.113.11", "192.0.2.9"),
			v1beta1.ReasonAssigned, []string{"192.0.2.9"}, false, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := amongNodes("203.0.113.11", "203.0.113.12", "203.0.113.13")
			// As the controller adopts it.
			err := w.record.Adopt(test.service.Holder, Had(test.service, &w.config, w.record),
				test.service.Terms, nil, w.now)
			if err != nil {
				t.Fatal(err)
			}
			held, _ := w.record.Held(test.service.Holder)
			in := Input{
				Service:   test.service,
				Held:      held.Addresses,
				Config:    &w.config,
				Addresses: w.record,
				Now:       w.now,
			}
			d := Decide(in)
			want(t, d, test.reason, test.addrs...)
			if d.LeaveStatus != test.leave || !strings.Contains(d.Message, test.message) {
				t.Errorf("leaves the status: %v, want %v; says %q, want %q in it",
					d.LeaveStatus, test.leave, d.Message, test.message)
			}
		})
	}
}

func TestAddressesThatBerthGaveStayWhenTheyAreSaidToBeOfANode(t *testing.T) {
	// As some cloud controllers report whatever they find on a node's links.
	w := amongNodes()
	s := service("s")
	s = written(s, w.look(t, s))
	w.config, _ = config.Parse(config.Objects{
		Pools:         []v1beta1.IPAddressPool{pool("lan", addresses("192.0.2.0/24"))},
		NodeAddresses: map[netip.Addr]config.NodeAddress{ip("192.0.2.0"): {Node: "node1"}},
	}, w.config, w.now)
	w.setRecord()
	gives(t, w.look(t, s), "192.0.2.0")
}

func TestBerthDoesNotWriteInTurnWithAnother(t *testing.T) {
	for _, theirs := range [][]string{
		{"lb.example.com"},
		{"203.0.113.11", "203.0.113.12"},
		{"203.0.113.99"},
		{"203.0.113.99", "lb.example.com"},
	} {
		t.Run(strings.Join(theirs, " "), func(t *testing.T) {
			w := amongNodes("203.0.113.11", "203.0.113.12")
			s := asking(service("s"), "", "192.0.2.7")
			s = written(s, w.look(t, s))
			s = having(s, theirs...)
			d := w.look(t, s)
			want(t, d, v1beta1.ReasonStatusOverwritten, "192.0.2.7")
			if !d.LeaveStatus || !strings.HasPrefix(d.Message, "The Service keeps 192.0.2.7 from pool "+
				"lan. The status has "+strings.Join(theirs, ", ")+" instead of what Berth wrote") ||
				!strings.Contains(d.Message, "`kubectl -n default patch service s --subresource=status") {
				t.Errorf("decided %+v", d)
			}
			// Nor does a controller that starts, which remembers nothing.
			s = written(s, d)
			w.record.Release(s.Holder, w.now)
			err := w.record.Adopt(s.Holder, Had(s, &w.config, w.record), s.Terms, s.From, w.now)
			if err != nil {
				t.Fatal(err)
			}
			d = w.look(t, s)
			want(t, d, v1beta1.ReasonStatusOverwritten, "192.0.2.7")
			// Once the status is cleared, it is Berth's again.
			s = having(written(s, d))
			d = w.look(t, s)
			gives(t, d, "192.0.2.7")
			if d.LeaveStatus {
				t.Error("it does not write the address")
			}
		})
	}
}

func TestTheHolderThatAnotherServesIsNamedWithTheCommand(t *testing.T) {
	w := amongNodes()
	theirs := service("theirs")
	theirs.Terms.Foreign = true
	if err := w.record.Assign(theirs.Holder, []netip.Addr{ip("192.0.2.7")}, theirs.Terms, w.now); err != nil {
		t.Fatal(err)
	}
	d := w.look(t, asking(service("s"), "", "192.0.2.7"))
	want(t, d, v1beta1.ReasonAddressInUse)
	says(t, d, "The Service asks for 192.0.2.7, which is in the status of Service default/theirs, "+
		"where another load balancer than Berth has put it. If that is gone, clear the status: "+
		"`kubectl -n default patch service theirs --subresource=status --type=merge "+
		"-p '{\"status\":{\"loadBalancer\":{\"ingress\":null}}}'`.")
}

// Three spellings, one meaning.
func TestSpellings(t *testing.T) {
	prefixes := []string{"berth.io/", "metallb.io/", "metallb.universe.tf/"}
	read := func(annotations map[string]string) (string, error) {
		s, err := ParseService(object(annotations), nil)
		s.Remark = ""
		return fmt.Sprintf("%+v", s), err
	}
	for key, values := range map[string][2]string{
		"address-pool":    {"lan", "wan"},
		"loadBalancerIPs": {"192.0.2.1,2001:db8::1", "192.0.2.2"},
		"allow-shared-ip": {"k", "l"},
	} {
		want, err := read(map[string]string{"berth.io/" + key: values[0]})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range prefixes {
			for _, b := range prefixes {
				if got, err := read(map[string]string{a + key: values[0], b + key: values[0]}); err != nil ||
					got != want {
					t.Errorf("%s and %s alike: %s, %v; want %s", a+key, b+key, got, err, want)
				}
				if a == b {
					continue
				}
				_, err := read(map[string]string{a + key: values[0], b + key: values[1]})
				if err == nil || !strings.Contains(err.Error(), a+key) ||
					!strings.Contains(err.Error(), b+key) || !strings.Contains(err.Error(), "contradict") {
					t.Errorf("%s and %s that differ: %v", a+key, b+key, err)
				}
			}
		}
	}
	_, err := read(map[string]string{"metallb.universe.tf/loadBalancerIPs": "192.0.2"})
	if err == nil || !strings.Contains(err.Error(), "annotation metallb.universe.tf/loadBalancerIPs: "+
		"\"192.0.2\" is no address") {
		t.Errorf("the error does not name the spelling that is there: %v", err)
	}
	s, _ := ParseService(object(map[string]string{
		"berth.io/allow-shared-ip":            "k",
		"metallb.universe.tf/allow-shared-ip": "l",
	}), nil)
	if s.Terms.SharingKey != "k" {
		t.Errorf("where keys contradict each other, what the Service has is held with the key %q, "+
			"want Berth's own", s.Terms.SharingKey)
	}
}

// annotated is a Service of IPv4 with annotations, as the API server shows it once
// a decision stands in its status; nil for none.
func annotated(annotations map[string]string, d *Decision) *corev1.Service {
	o := object(annotations)
	o.Spec.ClusterIPs = []string{"10.96.0.9"}
	if d == nil {
		return o
	}
	for _, addr := range d.Addresses {
		o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
			IP: addr.String(),
		})
	}
	o.Status.Conditions = []metav1.Condition{{
		Type:    v1beta1.ConditionAddressAssigned,
		Reason:  string(d.Reason),
		Message: d.Message,
	}}
	return o
}

// lookAt decides about a Service as the API server shows it.
func (w *world) lookAt(t *testing.T, o *corev1.Service) Decision {
	t.Helper()
	s, err := ParseService(o, nil)
	return w.lookInvalid(t, s, err)
}

func TestTheOlderPrefixMovesNothingThatWasGivenWithoutIt(t *testing.T) {
	pools := []v1beta1.IPAddressPool{
		pool("a", addresses("192.0.2.0/24")), pool("b", addresses("198.51.100.0/24")),
	}
	for _, test := range []struct {
		key, value, other string
		moved             string // where the Service is after it asks by another value
	}{
		{"address-pool", "b", "berth.io", ""},
		{"loadBalancerIPs", "192.0.2.7", "192.0.2.8", "192.0.2.8"},
	} {
		t.Run(test.key, func(t *testing.T) {
			w := newWorld(pools...)
			legacy := map[string]string{"metallb.universe.tf/" + test.key: test.value}
			// The version before did not read the annotation.
			before := w.lookAt(t, annotated(nil, nil))
			gives(t, before, "192.0.2.0")
			d := w.lookAt(t, annotated(legacy, &before))
			gives(t, d, "192.0.2.0")
			if !strings.HasPrefix(d.Message, "192.0.2.0 from pool a. Not followed: metallb.universe.tf/"+
				test.key+` "`+test.value+`", which contradicts`) {
				t.Errorf("says %q", d.Message)
			}
			again := w.lookAt(t, annotated(legacy, &d))
			gives(t, again, "192.0.2.0")
			says(t, again, d.Message)
			// It is followed once it is written with Berth's prefix too, or changed.
			both := map[string]string{
				"metallb.universe.tf/" + test.key: test.value,
				"berth.io/" + test.key:            test.value,
			}
			if d := w.lookAt(t, annotated(both, &d)); d.Addresses[0] == ip("192.0.2.0") {
				t.Errorf("it has not moved: %+v", d)
			}
			w = newWorld(pools...)
			w.lookAt(t, annotated(nil, nil))
			if test.moved != "" {
				other := map[string]string{"metallb.universe.tf/" + test.key: test.other}
				gives(t, w.lookAt(t, annotated(other, &d)), test.moved)
			}
		})
	}
}

func TestTheOlderPrefixMovesTheServiceOfWhoChangesIt(t *testing.T) {
	w := newWorld(pool("a", addresses("192.0.2.0/24")), pool("b", addresses("198.51.100.0/24")))
	legacy := func(pool string) map[string]string {
		return map[string]string{"metallb.universe.tf/address-pool": pool}
	}
	d := w.lookAt(t, annotated(legacy("b"), nil))
	gives(t, d, "198.51.100.0")
	says(t, d, "198.51.100.0 from pool b. Annotations with the prefix metallb.universe.tf/ are read: "+
		"write berth.io/ in new manifests.")
	again := w.lookAt(t, annotated(legacy("b"), &d))
	says(t, again, d.Message)
	d = w.lookAt(t, annotated(legacy("a"), &again))
	gives(t, d, "192.0.2.0")
	// One that waits may be given what it asks for.
	d = w.lookAt(t, annotated(legacy("c"), &d))
	want(t, d, v1beta1.ReasonPoolNotFoundForService, "192.0.2.0")
	w.setPools(pool("c", addresses("203.0.113.0/24")))
	gives(t, w.lookAt(t, annotated(legacy("c"), &d)), "203.0.113.0")
}

// Whatever stands in a status, and whatever Berth decides: when somebody else writes
// something into the status again and again, Berth stops to write soon.
func TestNobodyIsOutwritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := amongNodes("203.0.113.11")
		entry := rapid.SampledFrom([]string{"203.0.113.11", "203.0.113.99", "lb.example.com"})
		theirs := rapid.SliceOfNDistinct(entry, 1, 3, rapid.ID[string]).Draw(t, "theirs")
		s := service("s")
		if rapid.Bool().Draw(t, "asks") {
			s = asking(s, rapid.SampledFrom([]string{"", "lan", "gone"}).Draw(t, "pool"))
		}
		first := [][]string{nil, theirs, {"192.0.2.5"}, {"203.0.113.99"}}
		s = having(s, rapid.SampledFrom(first).Draw(t, "first")...)
		writes := 0
		for range 10 {
			held, _ := w.record.Held(s.Holder)
			d := Decide(Input{
				Service:   s,
				Held:      held.Addresses,
				Config:    &w.config,
				Addresses: w.record,
				Now:       w.now,
			})
			if err := w.record.Assign(s.Holder, d.Addresses, s.Terms, w.now); err != nil {
				t.Fatal(err)
			}
			if !d.LeaveStatus && !slices.Equal(d.Addresses, s.Status) {
				writes++
			}
			s = having(written(s, d), theirs...) // the other writes
		}
		if writes > 1 {
			t.Fatalf("Berth wrote %d times", writes)
		}
	})
}
