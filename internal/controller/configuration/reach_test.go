package configuration

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

// placed is a node with a speaker that has worked and has these links, and with
// labels given as "key=value".
func placed(name string, links []string, set ...string) place {
	p := place{
		name:         name,
		labels:       labels.Set{},
		speaks:       true,
		worked:       true,
		excludeLabel: v1beta1.MarkHeeded,
		links:        links,
	}
	for _, text := range set {
		key, value, _ := strings.Cut(text, "=")
		p.labels[key] = value
	}
	return p
}

const excludeLabel = v1beta1.LabelExcludeNode + "="

func TestWhichNodesAnAdvertisementReaches(t *testing.T) {
	eth := []string{"eth0", "eth1"}
	control, worker := placed("control", eth, "role=control", excludeLabel), placed("worker", eth,
		"role=worker")
	with := func(p place, change func(*place)) place {
		change(&p)
		return p
	}
	byBGP := func(p *place) { p.protocols = []v1beta1.Protocol{v1beta1.ProtocolBGP} }
	ignoring := func(p *place) { p.excludeLabel = v1beta1.MarkIgnored }
	for _, test := range []struct {
		story      string
		role       string   // that it selects, "" for all
		interfaces []string // that it names
		places     []place
		reason     v1beta1.Reason
		says       string
	}{
		{"no node is known", "edge", nil, nil, v1beta1.ReasonAccepted, state.InForce},
		{"all", "", nil, []place{control, worker}, v1beta1.ReasonAccepted, state.InForce},
		{"none", "edge", nil, []place{control, worker}, v1beta1.ReasonNoNodeSelected,
			"spec.nodeSelectors selects no node"},
		{"only nodes that are excluded", "control", nil, []place{control, worker},
			v1beta1.ReasonNodesExcluded,
			"kubectl label node control node.kubernetes.io/exclude-from-external-load-balancers-."},
		{"unless their speakers ignore the label", "control", nil, []place{with(control, ignoring), worker},
			v1beta1.ReasonAccepted, state.InForce},
		{"or do not say whether they do, as those of an earlier version", "control", nil,
			[]place{with(control, func(p *place) { p.excludeLabel = "" }),
				worker}, v1beta1.ReasonAccepted, state.InForce},
		{"an excluded one without any speaker announces nothing either", "control", nil,
			[]place{with(control, func(p *place) { p.excludeLabel, p.speaks, p.worked = "", false, false }),
				worker},
			v1beta1.ReasonNodesExcluded, "On them: control."},
		{"one of them is not excluded", "control", nil,
			[]place{control, placed("control2", eth, "role=control")}, v1beta1.ReasonAccepted, state.InForce},
		{"all nodes of the cluster are excluded, so none is", "", nil,
			[]place{control, placed("control2", eth, excludeLabel)},
			v1beta1.ReasonAccepted, "Every node with a speaker carries the label " +
				"node.kubernetes.io/exclude-from-external-load-balancers"},
		{"the others have had no speaker", "", nil, []place{control, {name: "windows", labels: labels.Set{}}},
			v1beta1.ReasonAccepted, state.InForce},
		{"so it is when just those are selected that are excluded", "control", nil,
			[]place{control, {name: "windows", labels: labels.Set{}}},
			v1beta1.ReasonAccepted, "keeps none of them from announcing"},
		{"an interface that a node has", "", []string{"eth1"},
			[]place{placed("a", eth[:1]), placed("b", eth)}, v1beta1.ReasonAccepted, state.InForce},
		{"one that none has", "", []string{"eth9", "eth8"}, []place{placed("a", eth[:1]), placed("b", eth)},
			v1beta1.ReasonNoInterface,
			"an interface named eth9, eth8 that is up and can carry ARP or NDP. Correct spec.interfaces or " +
				"spec.interfacePatterns, or spec.nodeSelectors. The nodes have: eth0, eth1."},
		{"one that only a node has which is not selected", "worker", []string{"eth1"},
			[]place{control, placed("worker", eth[:1], "role=worker")},
			v1beta1.ReasonNoInterface, "eth1"},
		{"one that none has, as far as they have said which they have", "", []string{"eth9"},
			[]place{placed("a", eth), placed("b", nil)}, v1beta1.ReasonAccepted, state.InForce},
		{"one that none has of those with a speaker", "", []string{"eth9"},
			[]place{placed("a", eth), {name: "windows",
				labels: labels.Set{}}}, v1beta1.ReasonNoInterface, "eth9"},
		{"no speaker announces by its protocol", "", nil,
			[]place{with(control, byBGP), with(worker, byBGP), {name: "windows", labels: labels.Set{}}},
			v1beta1.ReasonProtocolDisabled, "No speaker announces by layer 2: all run with --layer2=false."},
		{"one does, as in the midst of a change", "", nil, []place{with(control, byBGP), worker},
			v1beta1.ReasonAccepted, state.InForce},
		{"and no speaker is there at all", "", []string{"eth9"}, []place{{name: "a"}}, v1beta1.ReasonAccepted,
			state.InForce},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := reach{
				kind:       config.KindL2Advertisement,
				name:       "x",
				by:         v1beta1.ProtocolLayer2,
				interfaces: test.interfaces,
				selects:    func(l labels.Set) bool { return test.role == "" || l["role"] == test.role },
				names:      func(name string) bool { return slices.Contains(test.interfaces, name) },
			}
			got := r.judge(test.places)
			if got.Reason != test.reason || !strings.Contains(got.Message, test.says) || got.Kind != r.kind ||
				got.Name != r.name {
				t.Errorf("got %+v\nwant %s: %s", got, test.reason, test.says)
			}
		})
	}
}

// TestSpeakersHaveAdvertisementsLookedAt, when they say what those depend on.
func TestSpeakersHaveAdvertisementsLookedAt(t *testing.T) {
	change := func(f func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
		s := controllertest.SpeakerOn("n", "eth0")
		f(&s.Status)
		return s
	}
	for _, test := range []struct {
		story         string
		before, after *v1beta1.Speaker
		looked        bool
	}{
		{"a speaker comes", nil, controllertest.SpeakerOn("n"), true},
		{"it goes", controllertest.SpeakerOn("n"), nil, true},
		{"it announces more", controllertest.SpeakerOn("n", "eth0"),
			change(func(s *v1beta1.SpeakerStatus) { s.Layer2.Count = 7 }), false},
		{"it has another link", controllertest.SpeakerOn("n"), controllertest.SpeakerOn("n", "eth0"), true},
		{"a link goes down", controllertest.SpeakerOn("n", "eth0"),
			change(func(s *v1beta1.SpeakerStatus) { s.Links[0].Up = false }), true},
		{"it ignores the label", controllertest.SpeakerOn("n", "eth0"),
			change(func(s *v1beta1.SpeakerStatus) { s.ExcludeLabel = v1beta1.MarkIgnored }), true},
		{"it no longer announces by BGP", controllertest.SpeakerOn("n", "eth0"),
			change(func(s *v1beta1.SpeakerStatus) {
				s.Protocols = []v1beta1.Protocol{v1beta1.ProtocolLayer2}
			}), true},
		{"it is ready for the first time", change(func(s *v1beta1.SpeakerStatus) { s.HasWorked = false }),
			controllertest.SpeakerOn("n", "eth0"), true},
	} {
		t.Run(test.story, func(t *testing.T) {
			with := configured(config.Objects{
				L2Advertisements: []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "x"}}},
				BGPPeers:         []v1beta1.BGPPeer{*controllertest.BGPPeer("tor", nil)},
			})
			q := workqueue.NewTypedRateLimitingQueue(
				workqueue.DefaultTypedControllerRateLimiter[state.ObjectKey](),
			)
			defer q.ShutDown()
			added := &recordedKeys{TypedRateLimitingInterface: q}
			h := AdvertisementsOfSpeakers(with)
			switch {
			case test.before == nil:
				h.Create(context.Background(), event.CreateEvent{Object: test.after}, added)
			case test.after == nil:
				h.Delete(context.Background(), event.DeleteEvent{Object: test.before}, added)
			default:
				h.Update(context.Background(),
					event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}, added)
			}
			if got := slices.Equal(added.keys,
				[]state.ObjectKey{{Kind: config.KindL2Advertisement, Name: "x"}}); got != test.looked {
				t.Errorf("looked at are %v", added.keys)
			}
		})
	}
}

// recordedKeys remembers what was added.
type recordedKeys struct {
	workqueue.TypedRateLimitingInterface[state.ObjectKey]
	keys []state.ObjectKey
}

// AddAfter remembers a key.
func (q *recordedKeys) AddAfter(key state.ObjectKey, _ time.Duration) { q.keys = append(q.keys, key) }

// TestWhatIsWrongForWantOfNodes comes first where the rest is of no interest.
func TestWhatIsWrongForWantOfNodes(t *testing.T) {
	problem := func(reason v1beta1.Reason) config.Problem {
		return config.Problem{Kind: config.KindBGPAdvertisement, Name: "routed", Reason: reason}
	}
	for _, test := range []struct {
		known, found, says v1beta1.Reason
	}{
		{v1beta1.ReasonAccepted, v1beta1.ReasonAccepted, v1beta1.ReasonAccepted},
		{v1beta1.ReasonAccepted, v1beta1.ReasonNoNodeSelected, v1beta1.ReasonNoNodeSelected},
		{v1beta1.ReasonNoPeerForFamily, v1beta1.ReasonAccepted, v1beta1.ReasonNoPeerForFamily},
		{v1beta1.ReasonNoPeerForFamily, v1beta1.ReasonNodesExcluded, v1beta1.ReasonNoPeerForFamily},
		{v1beta1.ReasonNoPeerForFamily, v1beta1.ReasonProtocolDisabled, v1beta1.ReasonProtocolDisabled},
	} {
		if !comesAfterReach(problem(test.known)) {
			t.Errorf("%s: nodes are not asked about", test.known)
		}
		if got := afterReach(problem(test.known), problem(test.found)); got != problem(test.says) {
			t.Errorf("%s, and for want of nodes %s: it says %s, want %s",
				test.known, test.found, got.Reason, test.says)
		}
	}
	if comesAfterReach(problem(v1beta1.ReasonInvalid)) {
		t.Error("what is invalid waits for nodes")
	}
}
