package view

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// noon is when the stories happen.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// town is a cluster: a pool by ARP (192.0.2.0-192.0.2.7), one by BGP (198.51.100.0/24), and
// nodes with a speaker each.
type town struct{ snapshot.Objects }

func newTown(nodes ...string) *town {
	t := &town{}
	lan := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}
	lan.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0-192.0.2.7"}
	wan := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "wan"}}
	wan.Spec.Addresses = []v1beta1.AddressRange{"198.51.100.0/23"}
	t.Pools = []v1beta1.IPAddressPool{lan, wan}
	l2 := v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}
	l2.Spec.IPAddressPools = []string{"lan"}
	t.L2Advertisements = []v1beta1.L2Advertisement{l2}
	bgp := v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "wan"}}
	bgp.Spec.IPAddressPools = []string{"wan"}
	t.BGPAdvertisements = []v1beta1.BGPAdvertisement{bgp}
	tor := v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor"}}
	tor.Spec = v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64500, PeerAddress: "192.0.2.254"}
	t.BGPPeers = []v1beta1.BGPPeer{tor}
	t.Namespaces = []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}
	for i, name := range nodes {
		own := fmt.Sprintf("192.0.2.%d", 101+i)
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: own}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		t.Nodes = append(t.Nodes, n)
		s := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Status.Stage, s.Status.HasWorked = v1beta1.StageReady, true
		s.Status.MemberAddress = own + ":7947"
		s.Status.Links = []v1beta1.SpeakerLink{{
			Name:       "eth0",
			MACAddress: fmt.Sprintf("02:00:00:00:00:%02x", i+1),
			Up:         true,
			Prefixes:   []string{own + "/24"},
		}}
		s.Status.Conditions = []metav1.Condition{{
			Type:   v1beta1.ConditionReady,
			Status: metav1.ConditionTrue,
			Reason: string(v1beta1.ReasonAnnouncing),
		}}
		s.Status.BGP.Count, s.Status.BGP.Established = 1, 1
		s.Status.BGP.Sessions = []v1beta1.BGPSession{{
			Peer:     "tor",
			State:    v1beta1.BGPEstablished,
			Families: []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4},
		}}
		t.Speakers = append(t.Speakers, s)
	}
	return t
}

// serve adds a Service with an address, with a usable endpoint on each of these nodes.
func (t *town) serve(name, address string, endpoints ...string) {
	s := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	s.Spec = corev1.ServiceSpec{
		Type:                  corev1.ServiceTypeLoadBalancer,
		ClusterIPs:            []string{"10.96.0.1"},
		IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
		Ports:                 []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
	}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	t.Services = append(t.Services, s)
	slice := discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	slice.Namespace, slice.Name = "shop", name+"-1"
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	for i, node := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.0.%d", i+1)},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	t.EndpointSlices = append(t.EndpointSlices, slice)
}

func (t *town) speaker(node string) *v1beta1.SpeakerStatus {
	for i := range t.Speakers {
		if t.Speakers[i].Name == node {
			return &t.Speakers[i].Status
		}
	}
	panic("there is no " + node)
}

// owns has a node answer for an address, in the place of another if that is not "".
func (t *town) owns(node, address, instead string) {
	l2 := &t.speaker(node).Layer2
	l2.Announcements = append(l2.Announcements, v1beta1.Layer2Announcement{
		Address:    address,
		Services:   []string{"shop/web"},
		Links:      []string{"eth0"},
		Generation: 1,
		Since:      metav1.NewTime(noon.Add(-time.Hour)),
		StandInFor: instead,
	})
	l2.Count++
	if instead == "" {
		l2.Owned++
	}
}

// routes has a node announce a range of so many addresses by BGP.
func (t *town) routes(node, addresses string, count int32) {
	t.speaker(node).BGP.Addresses, t.speaker(node).BGP.AddressCount = []string{addresses}, new(count)
}

// facts returns what is known if these kinds cannot be read.
func (t *town) facts(tb testing.TB, unread ...snapshot.Kind) *Facts {
	tb.Helper()
	s := snapshot.New(t.Objects, snapshot.Request{
		Kinds: DashboardKinds,
		Berth: "berth-system",
		Class: new(""),
	}, noon)
	for _, k := range unread {
		s.SetUnread(k, errors.New("no"))
	}
	f, err := Of(s)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// tellDiagram writes a Diagram line by line.
func tellDiagram(d Diagram) string {
	var out []string
	for _, c := range []Column{d.Routers, d.Nodes, d.Addresses} {
		var names []string
		for _, s := range c.Spots {
			names = append(names, fmt.Sprintf("%s %s", s.Name, s.State))
		}
		if c.More > 0 {
			names = append(names, fmt.Sprintf("%d more", c.More))
		}
		out = append(out, strings.Join(names, ", "))
	}
	for _, l := range d.Sessions {
		router, node := d.Routers.Spots[l.From].Name, d.Nodes.Spots[l.To].Name
		out = append(out, fmt.Sprintf("%s-%s %s", router, node, l.State))
	}
	for _, l := range d.Announcements {
		text := fmt.Sprintf("%s-%s %s", d.Nodes.Spots[l.From].Name, d.Addresses.Spots[l.To].Name, l.Kind)
		if l.Lost {
			text += " lost"
		}
		out = append(out, text)
	}
	return strings.Join(append(out, d.Unknown...), "\n")
}

func TestDiagrams(t *testing.T) {
	for _, test := range []struct {
		story string
		set   func(*town)
		of    func(testing.TB, *town) Diagram
		want  string
	}{
		{
			"a node owns an address, and a router hears both nodes",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("a", "192.0.2.1", "")
			},
			nil,
			"tor OK\na OK, b OK\n192.0.2.1 OK\ntor-a OK\ntor-b OK\na-192.0.2.1 owner",
		},
		{
			"a session is down, and a node stands in",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("b", "192.0.2.1", "a")
				t.speaker("a").BGP.Sessions[0].State = v1beta1.BGPConnecting
			},
			nil,
			"tor Problem\na OK, b OK\n192.0.2.1 OK\ntor-a Problem\ntor-b OK\nb-192.0.2.1 standin",
		},
		{
			"nobody says that he announces an address, and another is by BGP",
			func(t *town) {
				t.serve("web", "192.0.2.1")
				t.serve("api", "198.51.100.1", "a")
				t.routes("b", "198.51.100.1", 1)
			},
			nil,
			"tor OK\na OK, b OK\n192.0.2.1 Problem, 198.51.100.1 OK\ntor-a OK\ntor-b OK\nb-198.51.100.1 bgp",
		},
		{
			"the speakers' objects could not be read",
			func(t *town) { t.serve("web", "192.0.2.1", "a") },
			func(tb testing.TB, w *town) Diagram {
				w.Speakers = nil
				return w.facts(tb, snapshot.Speakers).Diagram()
			},
			"tor Unknown\na Unknown, b Unknown\n192.0.2.1 Unknown\nWhich nodes announce what, and their " +
				"sessions: the Speaker objects could not be read.",
		},
		{
			"the owner would die",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("a", "192.0.2.1", "")
			},
			func(tb testing.TB, w *town) Diagram {
				f := w.facts(tb)
				return f.Diagram().Overlay(f.Without("a"))
			},
			"tor OK\na Problem, b OK\n192.0.2.1 OK\ntor-a OK\ntor-b OK\na-192.0.2.1 owner lost\n" +
				"b-192.0.2.1 next",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newTown("a", "b")
			test.set(w)
			if test.of == nil {
				test.of = func(tb testing.TB, w *town) Diagram { return w.facts(tb).Diagram() }
			}
			if got := tellDiagram(test.of(t, w)); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestOfManyThoseWithProblemsAreDrawn: a diagram has no more than a person can read, and says
// how many it leaves out.
func TestOfManyThoseWithProblemsAreDrawn(t *testing.T) {
	var nodes []string
	for i := range 40 {
		nodes = append(nodes, fmt.Sprintf("node%02d", i))
	}
	w := newTown(nodes...)
	for i := range 100 {
		address := fmt.Sprintf("198.51.100.%d", i)
		w.serve(fmt.Sprintf("web%02d", i), address, "node00")
	}
	w.routes("node39", "198.51.100.0-198.51.100.98", 99)
	w.speaker("node38").Conditions[0].Status = metav1.ConditionFalse
	d := w.facts(t).Diagram()
	if len(d.Nodes.Spots) != mostNodes || d.Nodes.More != 10 ||
		len(d.Addresses.Spots) != mostAddresses || d.Addresses.More != 40 {
		t.Errorf("it has %d nodes and %d more, %d addresses and %d more", len(d.Nodes.Spots), d.Nodes.More,
			len(d.Addresses.Spots), d.Addresses.More)
	}
	for _, name := range []string{"node38", "node39"} {
		if _, drawn := places(d.Nodes)[name]; !drawn {
			t.Errorf("%s is not drawn: it has a problem, or announces addresses", name)
		}
	}
	if _, drawn := places(d.Addresses)["198.51.100.99"]; !drawn {
		t.Error("the address that nobody announces is not drawn")
	}
}

func TestWithoutANode(t *testing.T) {
	for _, test := range []struct {
		story  string
		nodes  string
		set    func(*town)
		unread []snapshot.Kind
		want   string
	}{
		{
			"another takes over",
			"a b",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("a", "192.0.2.1", "")
			},
			nil,
			"192.0.2.1 OK b would take over",
		},
		{
			"there is no other, and the router hears nobody else",
			"a",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "c")
				t.owns("a", "192.0.2.1", "")
			},
			nil,
			"192.0.2.1 Problem nobody would answer for it\nrouters: tor",
		},
		{
			"all endpoints are on it",
			"a b",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "a")
				t.owns("a", "192.0.2.1", "")
			},
			nil,
			"192.0.2.1 Problem b would take over; all usable endpoints of shop/web are on it",
		},
		{
			"another announces by BGP too, and no other does",
			"a b",
			func(t *town) {
				t.serve("one", "198.51.100.1", "a", "b")
				t.serve("two", "198.51.100.2", "a", "b")
				t.routes("a", "198.51.100.1-198.51.100.2", 2)
				t.routes("b", "198.51.100.1", 1)
			},
			nil,
			"198.51.100.2 Problem no other node announces it by BGP\n" +
				"198.51.100.1 OK other nodes announce it by BGP: 1",
		},
		{
			"it announces nothing",
			"a b",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("b", "192.0.2.1", "")
			},
			nil,
			"",
		},
		{
			"the endpoints could not be read",
			"a b",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a", "b")
				t.owns("a", "192.0.2.1", "")
			},
			[]snapshot.Kind{snapshot.EndpointSlices},
			"192.0.2.1 Unknown who would answer is not known\nWho would take over is not known: not all of " +
				"endpointslices.discovery.k8s.io (Failed) could be read.",
		},
		{
			"the speakers could not be read",
			"a b",
			func(t *town) { t.serve("web", "192.0.2.1", "a") },
			[]snapshot.Kind{snapshot.Speakers},
			"What the node announces is not known: the Speaker objects could not be read.",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newTown(strings.Fields(test.nodes)...)
			test.set(w)
			got := w.facts(t, test.unread...).Without("a")
			var lines []string
			for _, c := range got.Addresses {
				lines = append(lines, fmt.Sprintf("%s %s %s", c.Address, c.State, c.Text))
			}
			if len(got.Routers) > 0 {
				lines = append(lines, "routers: "+strings.Join(got.Routers, ", "))
			}
			if got.Unknown != "" {
				lines = append(lines, got.Unknown)
			}
			if text := strings.Join(lines, "\n"); text != test.want {
				t.Errorf("got\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}

func TestStripsOfPools(t *testing.T) {
	for _, test := range []struct {
		story  string
		set    func(*town)
		unread []snapshot.Kind
		want   string // by state: H, F, R, X, U; why if there are no cells
	}{
		{
			"one is held, one excluded, one a node's own",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a")
				t.Pools[0].Spec.Exclude = []v1beta1.ExcludedRange{"192.0.2.3"}
				t.Nodes[0].Status.Addresses[0].Address = "192.0.2.5"
			},
			nil,
			"FHFXFXFF",
		},
		{
			"a Service that Berth does not handle has one",
			func(t *town) {
				t.serve("web", "192.0.2.2", "a")
				t.Services[0].Spec.LoadBalancerClass = new("other.example/lb")
			},
			nil,
			"FFHFFFFF",
		},
		{
			"some rest, and which is not known",
			func(t *town) {
				t.serve("web", "192.0.2.1", "a")
				t.Pools[0].Status.RestingIPv4 = 2
				t.Pools[0].Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady}}
			},
			nil,
			"RHRRRRRR",
		},
		{
			"addresses that end in .0 are kept back",
			func(t *town) { t.Pools[0].Spec.AvoidBuggyIPs = true },
			nil,
			"XFFFFFFF",
		},
		{
			"an older pool has some",
			func(t *town) {
				older := v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "older"}}
				older.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.6-192.0.2.7"}
				t.Pools = append(t.Pools, older)
				t.Pools[0].CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
				t.Pools[2].CreationTimestamp = metav1.NewTime(noon.Add(-2 * time.Hour))
			},
			nil,
			"FFFFFFXX",
		},
		{
			"the Services could not be read",
			func(*town) {},
			[]snapshot.Kind{snapshot.Services},
			"UUUUUUUU",
		},
		{
			"the configuration could not be read",
			func(*town) {},
			[]snapshot.Kind{snapshot.BGPPeers},
			"Which addresses are of the pool is not known: bgppeers.berth.io (Failed) could not be read.",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newTown("a")
			test.set(w)
			s, ok := w.facts(t, test.unread...).StripOf("lan")
			if !ok {
				t.Fatal("there is no pool lan")
			}
			letters := map[CellState]string{
				CellHeld: "H", CellFree: "F", CellResting: "R", CellExcluded: "X", CellUnknown: "U",
			}
			got := s.Why
			for _, c := range s.Cells {
				got += letters[c.State]
			}
			if got != test.want {
				t.Errorf("got %s, want %s (%+v)", got, test.want, s.Cells)
			}
		})
	}
	if s, ok := newTown("a").facts(t).StripOf("wan"); !ok || len(s.Cells) != 0 || s.Why != "" {
		t.Errorf("a pool of 512 addresses is shown one by one: %d, %q", len(s.Cells), s.Why)
	}
	if _, ok := newTown("a").facts(t).StripOf("none"); ok {
		t.Error("there is a pool that there is not")
	}
}

func TestMoves(t *testing.T) {
	w := newTown("a", "b")
	w.serve("web", "192.0.2.1", "a")
	w.owns("a", "192.0.2.1", "")
	w.owns("b", "192.0.2.2", "a")
	w.Services[0].Status.Conditions = []metav1.Condition{{
		Type:               v1beta1.ConditionAddressAssigned,
		Reason:             string(v1beta1.ReasonAssigned),
		Message:            "192.0.2.1 from pool lan.",
		LastTransitionTime: metav1.NewTime(noon.Add(-2 * time.Hour)),
	}}
	event := corev1.Event{
		InvolvedObject:      corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: "web"},
		Reason:              string(v1beta1.ReasonAnnouncing),
		Message:             "Node a announces 192.0.2.1 on eth0 (TakeOver).",
		ReportingController: "berth-speaker",
		EventTime:           metav1.NewMicroTime(noon.Add(-time.Hour)),
	}
	other := *event.DeepCopy()
	other.ReportingController = "kubelet"
	w.Events = []corev1.Event{event, other}

	lines := func(m Moves) string {
		var out []string
		for _, move := range m.List {
			out = append(out, fmt.Sprintf("%s %s %s %s %s", Ago(move.Time.Time, noon), move.Node, move.Object,
				move.Reason, move.From))
		}
		if m.More > 0 {
			out = append(out, fmt.Sprintf("%d more", m.More))
		}
		if m.Unknown != "" {
			out = append(out, m.Unknown)
		}
		return strings.Join(out, "\n")
	}
	// What an Event and an object tell is told once, by the Event.
	want := "60m a service shop/web Announcing Event\n60m b speaker b StandIn Object\n" +
		"120m  service shop/web Assigned Object"
	if got := lines(w.facts(t).Moves(10)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := lines(w.facts(t).Moves(1)); got != "60m a service shop/web Announcing Event\n2 more" {
		t.Errorf("of many the first is\n%s", got)
	}
	w.Events = nil
	want = "60m a speaker a Announcing Object\n60m b speaker b StandIn Object\n" +
		"120m  service shop/web Assigned Object\n" +
		"Not all Events could be read: of each address, session and Service only the last change is known."
	if got := lines(w.facts(t, snapshot.Events).Moves(10)); got != want {
		t.Errorf("without Events got\n%s\nwant\n%s", got, want)
	}
}

// TestExplainedHasTheEventsOfTheObject, and of no other.
func TestExplainedHasTheEventsOfTheObject(t *testing.T) {
	w := newTown("a")
	w.serve("web", "192.0.2.1", "a")
	for _, name := range []string{"web", "other"} {
		w.Events = append(w.Events, corev1.Event{
			InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: name},
			Message:        "of " + name,
		})
	}
	f := w.facts(t)
	for _, test := range []struct {
		ref    v1alpha1.Ref
		ok     bool
		events int
	}{
		{v1alpha1.Ref{Kind: "service", Namespace: "shop", Name: "web"}, true, 1},
		{v1alpha1.Ref{Kind: "address", Name: "192.0.2.1"}, true, 1},
		{v1alpha1.Ref{Kind: "address", Name: "192.0.2.2"}, true, 0},
		{v1alpha1.Ref{Kind: "pool", Name: "lan"}, true, 0},
		{v1alpha1.Ref{Kind: "node", Name: "a"}, true, 0},
		{v1alpha1.Ref{Kind: "peer", Name: "tor"}, true, 0},
		{v1alpha1.Ref{Kind: "service", Namespace: "shop", Name: "none"}, false, 0},
		{v1alpha1.Ref{Kind: "address", Name: "none"}, false, 0},
		{v1alpha1.Ref{Kind: "secret", Name: "web"}, false, 0},
	} {
		e, ok := f.Explained(test.ref, 5)
		if ok != test.ok || len(e.Events) != test.events {
			t.Errorf("%v: got %t with %d Events, want %+v", test.ref, ok, len(e.Events), test)
		}
	}
}
