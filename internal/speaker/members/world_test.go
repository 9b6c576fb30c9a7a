package members

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// What nearly every story is told with.
var (
	address = clustertest.Address
	start   = speakertest.Start
	graces  = speakertest.Graces
	node    = clustertest.Node
	link    = speakertest.Link
	member  = speakertest.Member
	written = speakertest.Speaker
)

var own = netip.MustParseAddrPort("192.0.2.1:7947")

// world is what the Tracker of node1 finds around it, without sockets and goroutines: a
// test says what is looked at when.
type world struct {
	*speakertest.World
	t       *testing.T
	api     client.Client
	tracker *Tracker
	named   []string // links that an advertisement names
	away    bool     // the API server
	full    bool     // node1 can publish no more claims
}

// newWorld makes the Tracker of node1, which is alone.
func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{World: speakertest.NewWorld(t, "node1"), t: t, api: clustertest.New(t)}
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
		Status:        w.Status,
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

// IsFull tells whether node1 can publish more claims.
func (w *world) IsFull() bool { return w.full }

// see makes a new snapshot of the links and the others.
func (w *world) see() {
	w.tracker.SawAPI(!w.away)
	w.tracker.evaluating.Lock()
	defer w.tracker.evaluating.Unlock()
	w.tracker.refreshLinks()
	w.tracker.refresh(time.Now())
}

// died is [speakertest.World.Dies], after which the speaker of the member is pinged.
func (w *world) died(name string, kernelAnswers bool) {
	w.Dies(name, kernelAnswers)
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
	speakertest.Replace(w.t, w.api, objects...)
	if err := NewObjects(w.api, w.tracker).Read(w.t.Context(), w.api); err != nil {
		w.t.Fatal(err)
	}
	w.see()
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
