package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// start is when stories begin that have their own clock.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var graces = announcement.GracePeriods{
	Restart: time.Minute,
	Silence: 10 * time.Second,
	Renewal: presence.RenewalTrust,
}

var address = netip.MustParseAddr("192.0.2.10")

var own = netip.MustParseAddrPort("192.0.2.1:7947")

// scheme is made once: that takes longer than most tests.
var scheme = sync.OnceValue(kube.Scheme)

var errDown = errors.New("down")

// world is what the Tracker of node1 finds around it, without sockets and goroutines: a
// test says what is looked at when.
type world struct {
	t       *testing.T
	api     client.Client
	tracker *Tracker
	status  notify.Signal

	members   map[string]membership.Member // the others, as membership tells of them
	reach     map[string]prober.Reach      // what the prober of node1 found
	linkReach prober.LinkReach             // the same, of links
	local     []links.Link                 // links of node1
	named     []string                     // links that an advertisement names
	away      bool                         // the API server
	full      bool                         // node1 can publish no more claims

	said     map[string][]byte // what node1 publishes of itself
	peers    []netip.AddrPort  // the others, as membership was told
	requeued []netip.Addr
	all      int // how often all was requeued
}

// newWorld makes the Tracker of node1, which is alone.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{
		t:       t,
		api:     fake.NewClientBuilder().WithScheme(scheme()).Build(),
		status:  notify.NewSignal(),
		members: map[string]membership.Member{},
		reach:   map[string]prober.Reach{},
		local:   []links.Link{link("eth0", "192.0.2.1/24")},
		said:    map[string][]byte{},
	}
	c := Config{
		Node:          "node1",
		Grace:         graces,
		ExcludeLinks:  links.DefaultExclude(),
		Configuration: w,
		Membership:    w,
		Links:         w,
		Prober:        w,
		Announcer:     w,
		Dialer:        w,
		Room:          w,
		Requeue:       w,
		Status:        w.status,
		Log:           slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.tracker, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.tracker.SetStage(announcement.StageReady)
	w.see()
	return w
}

// Current implements [Configuration].
func (w *world) Current() (config.Config, uint64) {
	return config.Config{L2Advertisements: []*config.L2Advertisement{{Interfaces: w.named}}}, 0
}

// Run implements [Membership].
func (w *world) Run(context.Context) error { return nil }

// Changed implements [Membership], [Prober] and [LinkSource].
func (w *world) Changed() <-chan struct{} { return nil }

// Members implements [Membership]; node1 is alive.
func (w *world) Members() []membership.Member {
	all := maps.Clone(w.members)
	all["node1"] = membership.Member{Name: "node1", State: membership.Alive, Values: w.said}
	var out []membership.Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// Settled implements [Membership].
func (w *world) Settled() bool { return true }

// SetPeers implements [Membership].
func (w *world) SetPeers(peers []netip.AddrPort) { w.peers = peers }

// SetNodes implements [Membership].
func (w *world) SetNodes([]netip.Addr) {}

// SetKeys implements [Membership].
func (w *world) SetKeys([][]byte) error { return nil }

// Ping implements [Membership].
func (w *world) Ping(_ context.Context, node string) error {
	if w.members[node].State != membership.Alive {
		return errDown
	}
	return nil
}

// Confirm implements [Membership].
func (w *world) Confirm(context.Context) error { return nil }

// Publish implements [Publisher].
func (w *world) Publish(key string, value []byte) error {
	if value == nil {
		delete(w.said, key)
	} else {
		w.said[key] = value
	}
	return nil
}

// PublishPrefix implements [Publisher].
func (w *world) PublishPrefix(prefix string, values map[string][]byte) error {
	maps.DeleteFunc(w.said, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
	maps.Copy(w.said, values)
	return nil
}

// Reach implements [Prober].
func (w *world) Reach() map[string]prober.Reach { return w.reach }

// LinkReach implements [Prober].
func (w *world) LinkReach() prober.LinkReach { return w.linkReach }

// SetTargets implements [Prober].
func (w *world) SetTargets([]prober.Target) {}

// SetLinks implements [Prober] and [Announcer].
func (w *world) SetLinks([]links.Link) {}

// SetMembers implements [Announcer].
func (w *world) SetMembers([]net.HardwareAddr) {}

// Links implements [LinkSource].
func (w *world) Links() []links.Link { return w.local }

// DialContext implements [Dialer]: nobody answers.
func (w *world) DialContext(context.Context, string, string) (net.Conn, error) { return nil, errDown }

// IsFull tells whether node1 can publish more claims.
func (w *world) IsFull() bool { return w.full }

// Requeue implements [Requeuer].
func (w *world) Requeue(addr netip.Addr) { w.requeued = append(w.requeued, addr) }

// RequeueAll implements [Requeuer].
func (w *world) RequeueAll() uint64 {
	w.all++
	return 0
}

// see makes a new snapshot of the links and the others.
func (w *world) see() {
	w.tracker.SawAPI(!w.away)
	w.tracker.evaluating.Lock()
	defer w.tracker.evaluating.Unlock()
	w.tracker.refreshLinks()
	w.tracker.refresh(time.Now())
}

// says makes a member one that is alive and publishes these things of itself, given as
// "key=value", of which "claim/ADDRESS=2w" is published with the others of its block; it
// is ready unless it says otherwise. It has a link in the subnet of node1, and nothing is
// known of its kernel.
func (w *world) says(name string, entries ...string) {
	delete(w.reach, name)
	w.members[name] = member(name, membership.Alive, time.Now(), entries...)
}

// member is a member that publishes these things of itself.
func member(name string, state membership.State, since time.Time, entries ...string) membership.Member {
	m := membership.Member{Name: name, State: state, Since: since, Values: encodeLinks([]links.Link{linkOf(name)})}
	m.Values[keyStage] = []byte(announcement.StageReady)
	for _, text := range entries {
		key, value, _ := strings.Cut(text, "=")
		if addr, ok := strings.CutPrefix(key, "claim/"); ok {
			first, at := blockOf(netip.MustParseAddr(addr))
			key = blockKey(first)
			value = strings.TrimPrefix(fmt.Sprintf("%s,%s:%x", m.Values[key], value, at), ",")
		}
		m.Values[key] = []byte(value)
	}
	return m
}

// died says that membership takes a member for dead, while its kernel answers or not.
// What it published stays remembered.
func (w *world) died(name string, kernelAnswers bool) {
	m := w.members[name]
	m.State, m.Since = membership.Dead, time.Now()
	w.members[name] = m
	reach := prober.Reach{State: prober.Silent, LastAnswer: time.Now().Add(-time.Second)}
	if kernelAnswers {
		reach = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
	}
	w.reach[name] = reach
	w.tracker.Ping(w.t.Context(), name)
}

// is tells in one line what is known of a member.
func (w *world) is(name string) string {
	m, known := w.tracker.Current().Members[name]
	if !known {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", m.Presence, m.Reason)
}

// reads has the Tracker read Speaker objects.
func (w *world) reads(objects ...*v1beta1.Speaker) {
	w.t.Helper()
	for _, o := range objects {
		if err := client.IgnoreNotFound(w.api.Delete(w.t.Context(), o.DeepCopy())); err != nil {
			w.t.Fatal(err)
		}
		if err := w.api.Create(w.t.Context(), o.DeepCopy()); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := NewObjects(w.api, w.tracker).Read(w.t.Context(), w.api); err != nil {
		w.t.Fatal(err)
	}
	w.see()
}

// written is the Speaker object of nodeN as its speaker writes it.
func written(name string, change ...func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{
		MemberAddress: fmt.Sprintf("192.0.2.%s:7947", strings.TrimPrefix(name, "node")),
		Stage:         v1beta1.StageReady,
		Links:         rowsOf([]links.Link{linkOf(name)}),
	}}
	for _, f := range change {
		f(&s.Status)
	}
	return s
}

// rowsOf are links as a Speaker object lists them.
func rowsOf(list []links.Link) []v1beta1.SpeakerLink {
	var out []v1beta1.SpeakerLink
	for _, l := range list {
		row := v1beta1.SpeakerLink{
			Name:       l.Name,
			MACAddress: l.HardwareAddr.String(),
			Up:         l.Up,
			OnlyNamed:  l.Excluded,
			Balances:   l.Balances,
		}
		for _, subnet := range l.Shadowed {
			row.Shadowed = append(row.Shadowed, subnet.String())
		}
		for _, p := range l.Prefixes {
			row.Prefixes = append(row.Prefixes, p.String())
		}
		out = append(out, row)
	}
	return out
}

// announcesIn has an object tell of an announcement.
func announcesIn(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{Address: addr, Generation: generation})
		s.Layer2.Count++
	}
}

// renewedAt has an object tell that it was renewed.
func renewedAt(at time.Time) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.RenewTime = &metav1.MicroTime{Time: at} }
}

func link(name string, prefixes ...string) links.Link {
	l := links.Link{Index: 1, Name: name, HardwareAddr: macOf(1), Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// linkOf is the link of nodeN: 192.0.2.N.
func linkOf(name string) links.Link {
	n := name[len(name)-1] - '0'
	l := link("eth0", fmt.Sprintf("192.0.2.%d/24", n))
	l.Index, l.HardwareAddr = 0, macOf(n) // membership does not tell indexes
	return l
}

// macOf is a hardware address that ends in n.
func macOf(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func node(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
