package assignment

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

func nodeAddresses(s *v1beta1.IPAddressPoolSpec) { s.AllowNodeAddresses = true }
func inNamespaces(s *v1beta1.IPAddressPoolSpec)  { s.Sharing = v1beta1.SharingNamespace }
func acrossCluster(s *v1beta1.IPAddressPoolSpec) { s.Sharing = v1beta1.SharingCluster }
func certain(node string) config.NodeAddress     { return config.NodeAddress{Node: node} }
func onlyReported(node string) config.NodeAddress {
	return config.NodeAddress{Node: node, Reported: true}
}

// withNodes is a world in which nodes have addresses.
func withNodes(nodes map[netip.Addr]config.NodeAddress, pools ...v1beta1.IPAddressPool) *world {
	w := newWorld()
	w.nodes = nodes
	w.setPools(pools...)
	return w
}

// names has a Service name addresses in spec.externalIPs.
func (w *world) names(holder allocator.Holder, addrs ...string) {
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, ip(a))
	}
	w.external.Set(Namer{Service: holder}, list)
	w.withhold()
}

func TestAddressesOfNodes(t *testing.T) {
	seven := map[netip.Addr]config.NodeAddress{ip("203.0.113.7"): certain("main")}
	reported := map[netip.Addr]config.NodeAddress{ip("203.0.113.7"): onlyReported("main")}
	only, more := pool("p", addresses("203.0.113.7/32")), pool("p", addresses("203.0.113.7-203.0.113.8"))
	for _, test := range []struct {
		story string
		tell  func(t *testing.T)
	}{
		{"a pool of nothing else gives none, and says why", func(t *testing.T) {
			w := withNodes(seven, only)
			d := w.look(t, service("a"))
			want(t, d, v1beta1.ReasonNoEligiblePool)
			says(t, d, "No pool gives an IPv4 address: pool p: no IPv4 address is given out, "+
				"such as 203.0.113.7: node main has it (NodeAddresses).")
		}},
		{"which is said before what other pools lack", func(t *testing.T) {
			pools := []v1beta1.IPAddressPool{only}
			for i := range mostPools {
				pools = append(pools, pool(
					fmt.Sprint("a", i),
					addresses(v1beta1.AddressRange(fmt.Sprintf("198.51.100.%d/32", i))),
				))
			}
			d := withNodes(seven, pools...).look(t, asking(service("a"), "p"))
			want(t, d, v1beta1.ReasonNoEligiblePool)
			first := "No pool gives an IPv4 address: pool p: no IPv4 address is given out, " +
				"such as 203.0.113.7: node main has it (NodeAddresses);"
			if !strings.HasPrefix(d.Message, first) {
				t.Errorf("the message is %q, want it to begin %q", d.Message, first)
			}
		}},
		{"another pool does", func(t *testing.T) {
			w := withNodes(seven, only, pool("q", addresses("198.51.100.1/32")))
			gives(t, w.look(t, service("a")), "198.51.100.1")
		}},
		{"when all others are held, both are told", func(t *testing.T) {
			w := withNodes(seven, more)
			gives(t, w.look(t, service("a")), "203.0.113.8")
			d := w.look(t, service("b"))
			want(t, d, v1beta1.ReasonPoolsExhausted)
			says(t, d, "No pool gives an IPv4 address: pool p: every IPv4 address is held or not given "+
				"out, such as 203.0.113.7: node main has it (PoolFull).")
		}},
		{"who asks for one hears whose it is", func(t *testing.T) {
			w := withNodes(seven, more)
			d := w.look(t, asking(service("a"), "", "203.0.113.7"))
			want(t, d, v1beta1.ReasonNodeAddress)
			says(t, d, "The Service asks for 203.0.113.7, which is not given out: node main has it. "+
				"Ask for another.")
		}},
		{"who has one keeps it, wherever it moves otherwise", func(t *testing.T) {
			moves := pool("p", spec(moving, "203.0.113.7-203.0.113.8"))
			w := newWorld(moves)
			gives(t, w.look(t, service("a")), "203.0.113.7")
			for _, nodes := range []map[netip.Addr]config.NodeAddress{seven, reported} {
				w.nodes = nodes
				w.setPools(moves)
				gives(t, w.look(t, service("a")), "203.0.113.7")
			}
			says(t, w.look(t, service("a")), "203.0.113.7 from pool p. 203.0.113.7 is not given out to "+
				"others, as node main reports it as its own. "+
				"The Service keeps it.")
			w.release(service("a"))
			gives(t, w.look(t, service("a")), "203.0.113.8")
		}},
		{"what a node only reports goes to who asks for it, and to nobody else", func(t *testing.T) {
			w := withNodes(reported, more)
			gives(t, w.look(t, service("a")), "203.0.113.8")
			want(t, w.look(t, service("b")), v1beta1.ReasonPoolsExhausted)
			gives(t, w.look(t, asking(service("c"), "", "203.0.113.7")), "203.0.113.7")
		}},
		{"and who shares it is joined", func(t *testing.T) {
			w := newWorld(more)
			gives(t, w.look(t, sharing(service("a"), "k", 80)), "203.0.113.7")
			w.nodes = reported
			w.setPools(more)
			gives(t, w.look(t, sharing(service("b"), "k", 443)), "203.0.113.7")
			w.nodes = seven
			w.setPools(more)
			gives(t, w.look(t, sharing(service("c"), "k", 25)), "203.0.113.8")
		}},
		{"a pool may give them out", func(t *testing.T) {
			w := withNodes(seven, pool("p", spec(nodeAddresses, "203.0.113.7-203.0.113.8")))
			d := w.look(t, service("a"))
			gives(t, d, "203.0.113.7")
			says(t, d, "203.0.113.7 from pool p. 203.0.113.7 is an address of node main: "+
				"nobody announces it, and that node's service proxy serves it.")
			d = w.look(t, service("b"))
			gives(t, d, "203.0.113.8")
			says(t, d, "203.0.113.8 from pool p.")
			w.setPools(more) // and not any more
			gives(t, w.look(t, service("a")), "203.0.113.7")
		}},
		{"that a pool excludes every address is another reason", func(t *testing.T) {
			w := newWorld(pool("p", spec(func(s *v1beta1.IPAddressPoolSpec) {
				s.Exclude = []v1beta1.ExcludedRange{"203.0.113.7"}
			}, "203.0.113.7/32")))
			says(t, w.look(t, service("a")),
				"No pool gives an IPv4 address: pool p: exclude takes every IPv4 address out of it "+
					"(FamilyMissing).")
		}},
		{"the node goes, and gives way", func(t *testing.T) {
			w := withNodes(seven, only)
			want(t, w.look(t, service("a")), v1beta1.ReasonNoEligiblePool)
			w.nodes = nil
			w.setPools(only)
			gives(t, w.look(t, service("a")), "203.0.113.7")
		}},
	} {
		t.Run(test.story, test.tell)
	}
}

func TestExternalIPs(t *testing.T) {
	two := pool("p", addresses("192.0.2.1-192.0.2.2"))
	for _, test := range []struct {
		story string
		tell  func(t *testing.T, w *world)
	}{
		{"what another Service names is not given out while it does", func(t *testing.T, w *world) {
			w.names("shop/a", "192.0.2.1")
			gives(t, w.look(t, service("b")), "192.0.2.2")
			d := w.look(t, service("c"))
			want(t, d, v1beta1.ReasonPoolsExhausted)
			says(t, d, "No pool gives an IPv4 address: pool p: every IPv4 address is held or not given "+
				"out, such as 192.0.2.1: "+
				"Service shop/a names it in spec.externalIPs (PoolFull).")
			w.names("shop/a")
			gives(t, w.look(t, service("c")), "192.0.2.1")
		}},
		{"all of a pool", func(t *testing.T, w *world) {
			w.names("shop/a", "192.0.2.1", "192.0.2.2")
			d := w.look(t, service("b"))
			want(t, d, v1beta1.ReasonPoolsExhausted)
			says(t, d, "No pool gives an IPv4 address: pool p: no IPv4 address is given out, "+
				"such as 192.0.2.1: "+
				"Service shop/a names it in spec.externalIPs (ExternalIP).")
		}},
		{"who asks for it hears why not, and waits for it", func(t *testing.T, w *world) {
			w.names("shop/a", "192.0.2.1")
			d := w.look(t, asking(service("b"), "", "192.0.2.1"))
			want(t, d, v1beta1.ReasonExternalIP)
			says(t, d, "The Service asks for 192.0.2.1, which is not given out: "+
				"Service shop/a names it in spec.externalIPs. Ask for another.")
			if d.Wanted != ip("192.0.2.1") {
				t.Errorf("it waits for %s", d.Wanted)
			}
		}},
		{"who has it keeps it and is told", func(t *testing.T, w *world) {
			gives(t, w.look(t, service("b")), "192.0.2.1")
			w.names("shop/a", "192.0.2.1")
			d := w.look(t, service("b"))
			gives(t, d, "192.0.2.1")
			says(t, d, "192.0.2.1 from pool p. 192.0.2.1 is not given out to others, "+
				"as Service shop/a names it in spec.externalIPs. The Service keeps it.")
			w.release(service("b"))
			gives(t, w.look(t, service("b")), "192.0.2.2")
		}},
		{"a Service may ask for what it alone names itself", func(t *testing.T, w *world) {
			w.names("default/b", "192.0.2.1")
			d := w.look(t, asking(service("b"), "", "192.0.2.1"))
			gives(t, d, "192.0.2.1")
			says(t, d, "192.0.2.1 from pool p.")
			w.release(service("b"))
			w.names("shop/a", "192.0.2.1")
			want(t, w.look(t, asking(service("b"), "", "192.0.2.1")), v1beta1.ReasonExternalIP)
		}},
		{"it is not joined by who shares it", func(t *testing.T, w *world) {
			gives(t, w.look(t, sharing(service("b"), "k", 80)), "192.0.2.1")
			w.names("shop/a", "192.0.2.1")
			gives(t, w.look(t, sharing(service("c"), "k", 443)), "192.0.2.2")
		}},
		{"what a node has for sure stays the node's", func(t *testing.T, w *world) {
			w.nodes = map[netip.Addr]config.NodeAddress{
				ip("192.0.2.1"): certain("n"),
				ip("192.0.2.2"): onlyReported("n"),
			}
			w.setPools(two)
			w.names("shop/a", "192.0.2.1", "192.0.2.2")
			want(t, w.look(t, asking(service("b"), "", "192.0.2.1")), v1beta1.ReasonNodeAddress)
			want(t, w.look(t, asking(service("b"), "", "192.0.2.2")), v1beta1.ReasonExternalIP)
		}},
	} {
		t.Run(test.story, func(t *testing.T) { test.tell(t, newWorld(two)) })
	}
}

func TestWhichExternalIPsCount(t *testing.T) {
	for story, test := range map[string]struct {
		spec corev1.ServiceSpec
		want string
	}{
		"of any Service with a cluster IP": {corev1.ServiceSpec{
			ClusterIP:   "10.96.0.1",
			ExternalIPs: []string{"192.0.2.1", "2001:db8::1"},
		}, "[192.0.2.1 2001:db8::1]"},
		"each once, and no nonsense": {corev1.ServiceSpec{
			Type:        corev1.ServiceTypeNodePort,
			ClusterIP:   "10.96.0.1",
			ExternalIPs: []string{"192.0.2.1", "::ffff:192.0.2.1", "x"},
		}, "[192.0.2.1]"},
		"not of a headless one": {corev1.ServiceSpec{
			ClusterIP:   corev1.ClusterIPNone,
			ExternalIPs: []string{"192.0.2.1"},
		}, "[]"},
		"not of a name elsewhere": {corev1.ServiceSpec{
			Type:        corev1.ServiceTypeExternalName,
			ExternalIPs: []string{"192.0.2.1"},
		}, "[]"},
		"none": {corev1.ServiceSpec{ClusterIP: "10.96.0.1"}, "[]"},
	} {
		got := fmt.Sprint(ExternalIPsOf(&corev1.Service{Spec: test.spec}))
		if got != test.want {
			t.Errorf("%s: %s, want %s", story, got, test.want)
		}
	}
}

// Whoever names what, in whatever order, and whichever source shows a Service: an
// address is withheld as long as somebody names it, and told is what changes.
func TestExternalIPsAsASetOfPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ExternalIPs
		named := map[Namer][]netip.Addr{}
		state := func(addr netip.Addr) (first allocator.Holder, alone bool) {
			var all []allocator.Holder
			for namer, addrs := range named {
				if slices.Contains(addrs, addr) {
					all = append(all, namer.Service)
				}
			}
			slices.Sort(all)
			all = slices.Compact(all)
			if len(all) == 0 {
				return "", false
			}
			return all[0], len(all) == 1
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			namer := Namer{
				allocator.Holder(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service")),
				rapid.SampledFrom([]string{"", "others"}).Draw(t, "source"),
			}
			addrs := rapid.SliceOfNDistinct(rapid.SampledFrom(ofPools), 0, 3, rapid.ID).Draw(t, "addresses")
			changed := e.Set(namer, addrs)
			for _, addr := range ofPools {
				had, has := slices.Contains(named[namer], addr), slices.Contains(addrs, addr)
				if had != has != slices.Contains(changed, addr) {
					t.Fatalf("%s names %v, before %v, and %v are told", namer, addrs, named[namer], changed)
				}
			}
			named[namer] = addrs
			for _, addr := range ofPools {
				first, alone := state(addr)
				w, ok := e.Withholding(addr)
				if ok != (first != "") ||
					ok && w.Why != "Service "+string(first)+" names it in spec.externalIPs" ||
					(w.For == first && first != "") != alone {
					t.Fatalf("%s is withheld: %v %+v; %s names it, alone: %v", addr, ok, w, first, alone)
				}
			}
		}
	})
}

func TestSharingAcrossNamespaces(t *testing.T) {
	both := func(change func(*v1beta1.IPAddressPoolSpec)) v1beta1.IPAddressPool {
		return pool("p", spec(change, "192.0.2.1-192.0.2.3"))
	}
	limited := both(quota(1))
	infra, tenant := sharing(of("infra", "web"), "web", 80), sharing(of("tenant", "mail"), "web", 25)
	for _, test := range []struct {
		story string
		pool  v1beta1.IPAddressPool
		tell  func(t *testing.T, w *world)
	}{
		{"the whole cluster shares unless the pool says otherwise",
			pool("p", addresses("192.0.2.1/32")), func(t *testing.T, w *world) {
				gives(t, w.look(t, infra), "192.0.2.1")
				gives(t, w.look(t, tenant), "192.0.2.1")
			}},
		{"or says so", both(acrossCluster), func(t *testing.T, w *world) {
			gives(t, w.look(t, infra), "192.0.2.1")
			gives(t, w.look(t, asking(tenant, "", "192.0.2.1")), "192.0.2.1")
		}},
		{"each namespace shares on its own", both(inNamespaces), func(t *testing.T, w *world) {
			gives(t, w.look(t, infra), "192.0.2.1")
			d := w.look(t, tenant)
			gives(t, d, "192.0.2.2")
			says(t, w.look(t, tenant), "192.0.2.2 from pool p. It is not shared with other namespaces, "+
				"which hold addresses under the same sharing key: "+
				"pool p is shared within a namespace only (sharing: Namespace).")
			gives(t, w.look(t, sharing(of("infra", "tls"), "web", 443)), "192.0.2.1")
			gives(t, w.look(t, sharing(of("tenant", "imap"), "web", 143)), "192.0.2.2")
		}},
		{"who asks for the address of another namespace hears why not", both(inNamespaces), func(
			t *testing.T, w *world,
		) {
			gives(t, w.look(t, infra), "192.0.2.1")
			d := w.look(t, asking(tenant, "", "192.0.2.1"))
			want(t, d, v1beta1.ReasonAddressInUse)
			says(t, d, "The Service asks for 192.0.2.1, which Service infra/web of another namespace holds: "+
				"pool p is shared within a namespace only (sharing: Namespace).")
			if d.Wanted != ip("192.0.2.1") {
				t.Errorf("it waits for %s", d.Wanted)
			}
			w.release(infra)
			gives(t, w.look(t, asking(tenant, "", "192.0.2.1")), "192.0.2.1")
		}},
		{"who gets nothing hears it too", both(inNamespaces), func(t *testing.T, w *world) {
			for _, name := range []string{"a", "b", "c"} {
				w.look(t, sharing(of("infra", name), "web", 80))
			}
			d := w.look(t, tenant)
			want(t, d, v1beta1.ReasonPoolsExhausted)
			says(t, d, "No pool gives an IPv4 address: pool p: every IPv4 address is held, "+
				"those under the same sharing key by other namespaces, "+
				"with which none is shared (sharing: Namespace) (PoolFull).")
		}},
		{"who shares already goes on, and nobody else joins", both(acrossCluster), func(
			t *testing.T, w *world,
		) {
			gives(t, w.look(t, infra), "192.0.2.1")
			gives(t, w.look(t, tenant), "192.0.2.1")
			w.setPools(both(inNamespaces))
			for _, s := range []Service{infra, tenant} {
				d := w.look(t, s)
				gives(t, d, "192.0.2.1")
				says(t, d, "192.0.2.1 from pool p. Services of other namespaces have 192.0.2.1 too, "+
					"which they keep although pool p is shared within a "+
					"namespace only (sharing: Namespace).")
			}
			gives(t, w.look(t, sharing(of("infra", "tls"), "web", 443)), "192.0.2.2")
			gives(t, w.look(t, sharing(of("other", "dns"), "web", 53)), "192.0.2.3")
			w.release(tenant)
			gives(t, w.look(t, sharing(of("infra", "ssh"), "web", 22)), "192.0.2.1")
		}},
		{"the next leader takes over what is shared", both(inNamespaces), func(t *testing.T, w *world) {
			for _, s := range []Service{infra, tenant} {
				err := w.record.Adopt(s.Holder, []netip.Addr{ip("192.0.2.3")}, s.Terms, nil, w.now)
				if err != nil {
					t.Fatal(err)
				}
			}
			gives(t, w.look(t, tenant), "192.0.2.3")
			gives(t, w.look(t, infra), "192.0.2.3")
		}},
		{"the address of another namespace counts for the quota", limited, func(t *testing.T, w *world) {
			gives(t, w.look(t, infra), "192.0.2.1")
			gives(t, w.look(t, of("tenant", "first")), "192.0.2.2")
			want(t, w.look(t, tenant), v1beta1.ReasonNoEligiblePool)
			want(t, w.look(t, asking(tenant, "", "192.0.2.1")), v1beta1.ReasonNoEligiblePool)
			w.release(of("tenant", "first"))
			gives(t, w.look(t, tenant), "192.0.2.1")
			imap := asking(sharing(of("tenant", "imap"), "web", 143), "", "192.0.2.1")
			gives(t, w.look(t, imap), "192.0.2.1")
		}},
	} {
		t.Run(test.story, func(t *testing.T) { test.tell(t, newWorld(test.pool)) })
	}
}
