package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// nodeAt is a Node with these addresses.
func nodeAt(name string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{
			Type:    corev1.NodeInternalIP,
			Address: a,
		})
	}
	return n
}

// showing has somebody else write entries into the status of a Service.
func showing(entries ...corev1.LoadBalancerIngress) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = entries }
}

func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func onPort(protocol corev1.Protocol, number int32) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Protocol: protocol, Port: number}} }
}

// overwrite has somebody else write entries into the status of a Service that is
// there.
func (w *world) overwrite(name string, entries ...corev1.LoadBalancerIngress) {
	w.t.Helper()
	s := w.get(name)
	s.Status.LoadBalancer.Ingress = entries
	if err := w.api.Status().Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	w.writes = nil
}

// shows checks all entries in the status of a Service: "address mode" or a host name.
func (w *world) shows(name string, want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.get(name).Status.LoadBalancer.Ingress {
		text := e.IP + e.Hostname
		if e.IPMode != nil {
			text += " " + string(*e.IPMode)
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("the status of %s (-want +got):\n%s", name, diff)
	}
}

// told is the message of a Service's condition.
func (w *world) told(name string) string {
	w.t.Helper()
	c := meta.FindStatusCondition(w.get(name).Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil {
		return ""
	}
	return c.Message
}

// As k3s leaves a cluster whose ServiceLB was turned off, and the pool holds the addresses
// of the nodes too.
func TestServicesThatK3sServedInThePoolsOwnRange(t *testing.T) {
	w := newWorld(t, lan("192.168.1.8-192.168.1.20"),
		nodeAt("node1", "192.168.1.11"),
		nodeAt("node2", "192.168.1.12"),
		service("web", 0, having("192.168.1.11", "192.168.1.12")),
		service("mail", 1, having("192.168.1.12", "192.168.1.13")))
	w.look("web", "mail")
	w.has("web", v1beta1.ReasonAssigned, "192.168.1.8")
	w.has("mail", v1beta1.ReasonAssigned, "192.168.1.13") // that one no node has
	w.assigned(2)
}

// As k3s leaves a cluster whose ServiceLB was turned off.
func TestServicesThatK3sServed(t *testing.T) {
	nodes := having("192.168.1.11", "192.168.1.12", "192.168.1.13")
	w := newWorld(t, lan("192.168.1.240-192.168.1.250"),
		nodeAt("node1", "192.168.1.11"), nodeAt("node2", "192.168.1.12"), nodeAt("node3", "192.168.1.13"),
		service("web", 0, nodes),
		service("mail", 1, nodes, annotated("metallb.io/loadBalancerIPs", "192.168.1.249")))
	// With what an earlier version of Berth said of it.
	s := w.get("web")
	meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{
		Type:    v1beta1.ConditionAddressAssigned,
		Status:  metav1.ConditionFalse,
		Reason:  string(v1beta1.ReasonForeignAddress),
		Message: "The Service has [192.168.1.11 192.168.1.12 192.168.1.13].",
	})
	if err := w.api.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.look("web", "mail")
	w.has("web", v1beta1.ReasonAssigned, "192.168.1.240")
	w.has("mail", v1beta1.ReasonAssigned, "192.168.1.249")
	w.restart()
	w.look("mail", "web")
	w.didNothing()
}

// Three Services share an address, each by the prefix that most manifests have, and
// MetalLB has left it in their status.
func TestSharingServicesKeepTheirAddressWhenMetalLBIsReplaced(t *testing.T) {
	pihole := func(name string, minutes int, protocol corev1.Protocol, port int32) *corev1.Service {
		return service(name, minutes, onPort(protocol, port),
			showing(corev1.LoadBalancerIngress{IP: "192.168.10.138"}),
			annotated("metallb.universe.tf/allow-shared-ip", "pihole", "metallb.universe.tf/loadBalancerIPs",
				"192.168.10.138"))
	}
	w := newWorld(t, lan("192.168.10.130-192.168.10.140"),
		pihole("dns-tcp", 0, corev1.ProtocolTCP, 53), pihole("dns-udp", 1, corev1.ProtocolUDP, 53),
		pihole("web", 2, corev1.ProtocolTCP, 80))
	for range 2 {
		w.look("web", "dns-udp", "dns-tcp")
		for _, name := range []string{"dns-tcp", "dns-udp", "web"} {
			w.has(name, v1beta1.ReasonAssigned, "192.168.10.138")
		}
		w.restart()
	}
	w.assigned(1)
}

func TestAnotherLoadBalancerThatWritesInTurn(t *testing.T) {
	for _, test := range []struct {
		story   string
		theirs  corev1.LoadBalancerIngress
		changes []func(*corev1.Service)
	}{
		{"k3s's ServiceLB, which still runs", corev1.LoadBalancerIngress{IP: "192.168.1.11"}, nil},
		{"the same, and the Service asks for an address", corev1.LoadBalancerIngress{IP: "192.168.1.11"},
			[]func(*corev1.Service){annotated("metallb.io/loadBalancerIPs", "192.168.1.241")}},
		{"a cloud controller, and the Service asks for a pool",
			corev1.LoadBalancerIngress{Hostname: "lb.example.com"},
			[]func(*corev1.Service){annotated("berth.io/address-pool", "lan")}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, lan("192.168.1.240-192.168.1.250"), nodeAt("node1", "192.168.1.11"),
				service("web", 0, append(test.changes, showing(test.theirs))...))
			writes := 0
			for range 5 {
				w.look("web")
				for _, e := range w.get("web").Status.LoadBalancer.Ingress {
					if strings.HasPrefix(e.IP, "192.168.1.24") {
						writes++
					}
				}
				w.overwrite("web", test.theirs)
			}
			if writes != 1 {
				t.Errorf("Berth wrote its address %d times", writes)
			}
			w.look("web")
			if len(w.writes) > 0 {
				t.Errorf("it goes on writing: %q", w.writes)
			}
			w.forget()
			if c := w.told("web"); !strings.Contains(c, "`kubectl -n default patch service web "+
				"--subresource=status --type=merge -p ") {
				t.Errorf("it is told %q", c)
			}
			w.assigned(1)
			// Neither does the next leader, and it gives the address to nobody else.
			had := w.state.Given(key("web"))
			w.restart()
			w.look("web")
			w.didNothing()
			if now := w.state.Given(key("web")); !slices.Equal(now, had) || len(now) != 1 {
				t.Errorf("after a restart it holds %v, before %v", now, had)
			}
			// The other is turned off, and the command is run.
			w.overwrite("web")
			w.look("web")
			w.has("web", v1beta1.ReasonAssigned, had[0].String())
		})
	}
}

func TestEntriesThatAreNotBerths(t *testing.T) {
	proxy := corev1.LoadBalancerIPModeProxy
	name := corev1.LoadBalancerIngress{Hostname: "lb.example.com"}
	for _, test := range []struct {
		story   string
		entries []corev1.LoadBalancerIngress
		changes func(*corev1.Service)
		reason  v1beta1.Reason
		want    []string
		said    string
	}{
		{"a mode that is not Berth's is corrected",
			[]corev1.LoadBalancerIngress{{IP: "192.0.2.7", IPMode: &proxy}}, nil,
			v1beta1.ReasonAssigned, []string{"192.0.2.7 VIP"}, ""},
		{"none means the right one already", []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}}, nil,
			v1beta1.ReasonAssigned, []string{"192.0.2.7"}, ""},
		{"a host name alone stays", []corev1.LoadBalancerIngress{name}, nil,
			v1beta1.ReasonForeignAddress, []string{"lb.example.com"}, "The Service has lb.example.com"},
		{"one beside an address of a pool stays where it is, and is reported",
			[]corev1.LoadBalancerIngress{name, {IP: "192.0.2.7", IPMode: &proxy}}, nil,
			v1beta1.ReasonAssigned, []string{"lb.example.com", "192.0.2.7 VIP"},
			"The status also names lb.example.com"},
		{"also when the address changes", []corev1.LoadBalancerIngress{name, {IP: "192.0.2.7"}},
			annotated("berth.io/loadBalancerIPs", "192.0.2.8"),
			v1beta1.ReasonAssigned, []string{"192.0.2.8 VIP", "lb.example.com"},
			"The status also names lb.example.com"},
	} {
		t.Run(test.story, func(t *testing.T) {
			changes := []func(*corev1.Service){showing(test.entries...)}
			if test.changes != nil {
				changes = append(changes, test.changes)
			}
			w := newWorld(t, lan("192.0.2.0/24"), service("web", 0, changes...))
			w.look("web")
			w.shows("web", test.want...)
			c := meta.FindStatusCondition(w.get("web").Status.Conditions, v1beta1.ConditionAddressAssigned)
			if c.Reason != string(test.reason) ||
				!strings.Contains(c.Message, test.said) {
				t.Errorf("it is %s (%s), want %s", c.Reason, c.Message, test.reason)
			}
			w.forget()
			w.look("web")
			w.didNothing()
		})
	}
}

func TestAProxyModeThatComesLaterIsCorrected(t *testing.T) {
	proxy := corev1.LoadBalancerIPModeProxy
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0))
	w.look("web")
	w.overwrite("web", corev1.LoadBalancerIngress{IP: "192.0.2.0", IPMode: &proxy})
	w.forget()
	w.look("web")
	w.shows("web", "192.0.2.0 VIP")
	w.did([]string{"web"}, nil)
}

func TestAHostNameStaysWhenBerthLeaves(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0))
	w.look("web")
	w.overwrite("web", corev1.LoadBalancerIngress{IP: "192.0.2.0"},
		corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
	w.change("web", ofClass("example.com/other"))
	w.look("web")
	w.shows("web", "lb.example.com")
	w.has("web", "")
}

// A Service changes its type while no controller is there to see it.
func TestServicesThatWereLeftWhileTheControllerWasAway(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0), service("mail", 1), service("stays", 2),
		service("never", 3, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }))
	w.look("web", "mail", "stays")
	w.change("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	w.overwrite("web") // as API servers do
	w.change("mail", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.start()
	w.forget()
	w.lists = 0
	if err := w.services.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.lists != 1 {
		t.Errorf("it asked for %d lists, want one, of the Services of type LoadBalancer", w.lists)
	}
	left := slices.DeleteFunc(slices.Clone(w.woken), func(name string) bool { return name == "stays" })
	slices.Sort(left)
	if want := []string{"mail", "web"}; !slices.Equal(left, want) {
		t.Fatalf("woken are %q, want %q", left, want)
	}
	// The first try fails.
	w.refuse = errors.New("the API server is away")
	if _, err := w.services.Reconcile(t.Context(), request("web")); err == nil {
		t.Error("what failed is not tried again")
	}
	w.refuse = nil
	w.look("web", "mail", "stays")
	w.has("web", "")
	w.has("mail", "")
	w.has("stays", v1beta1.ReasonAssigned, "192.0.2.2")
	w.did([]string{"web", "mail"}, nil)
	w.look("web", "mail", "never")
	w.didNothing()
	if given := w.state.Given(key("web")); given != nil {
		t.Errorf("it holds %v", given)
	}
	w.look("stays")
	w.create(service("next", 4))
	w.look("next")
	w.has("next", v1beta1.ReasonAssigned, "192.0.2.0")
}

// A Service changes its type while the controller reads of it from the API server late:
// once the other types are followed again, it is left all the same, and forgotten when
// that is done.
func TestAServiceThatWasLeftIsFoundWhileTheControllerLeads(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0))
	w.look("web")
	w.restart()
	w.state.Release(key("web"), time.Now()) // as if it had never been adopted
	w.change("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.forget()
	w.readOthers()
	if want := []string{"web"}; !slices.Equal(w.woken, want) {
		t.Fatalf("woken are %q, want %q", w.woken, want)
	}
	w.look("web")
	w.has("web", "")
	w.forget()
	w.readOthers()
	if w.look("web"); w.woken != nil || w.state.Knows(key("web")) {
		t.Errorf("woken are %q after it was left, and it is known: %v", w.woken, w.state.Knows(key("web")))
	}
	w.didNothing()
}
