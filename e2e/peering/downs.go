package peering

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/e2e/lab"
)

// Downs tells of each session of a router, of BGP and of BFD, whether it is up and how often it went down, by
// a name such as "BFD with 10.77.0.11".
type Downs map[string]Down

// Down is what a router says of one session.
type Down struct {
	// Up: it is up now.
	Up bool
	// Count is how often it went down since the router's daemons started.
	Count int
}

// ReadDowns asks a router. It has sessions of BFD only where bfdd runs.
func ReadDowns(ctx context.Context, l *lab.Lab, router Router) (Downs, error) {
	sessions, err := Sessions(ctx, l, router.Host)
	if err != nil {
		return nil, err
	}
	downs := Downs{}
	for addr, s := range sessions {
		downs["BGP with "+addr.String()] = Down{Up: s.State == Established, Count: s.Dropped}
	}
	if !router.BFD {
		return downs, nil
	}
	peers, err := bfdPeers(ctx, l, router.Host)
	if err != nil {
		return nil, err
	}
	for _, p := range peers {
		downs["BFD with "+p.Peer.String()] = Down{Up: p.Status == "up", Count: p.Downs}
	}
	return downs, nil
}

// bfdPeer is the part that is read of what FRR prints of a session of BFD.
type bfdPeer struct {
	Peer   netip.Addr `json:"peer"`
	Status string     `json:"status"`
	Downs  int        `json:"session-down"`
}

// bfdPeers puts together what FRR tells in two lists: the states and the counters.
func bfdPeers(ctx context.Context, l *lab.Lab, router string) (map[netip.Addr]bfdPeer, error) {
	peers := map[netip.Addr]bfdPeer{}
	for _, command := range []string{"show bfd peers json", "show bfd peers counters json"} {
		out, err := l.Router(router).Vtysh(ctx, command)
		if err != nil {
			return nil, err
		}
		var list []bfdPeer
		if err := json.Unmarshal(out, &list); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", command, router, err)
		}
		for _, p := range list {
			known := peers[p.Peer]
			p.Status, p.Downs = cmp.Or(p.Status, known.Status), cmp.Or(p.Downs, known.Downs)
			peers[p.Peer] = p
		}
	}
	return peers, nil
}

// Since compares with what was said before, while the router's daemons ran on: it lists the sessions that
// went down or are not there any more, each with a reason, sorted.
func (d Downs) Since(before Downs) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		now, there := d[name]
		switch {
		case !there:
			out = append(out, name+": no longer there")
		case now.Count != before[name].Count:
			out = append(out, fmt.Sprintf("%s: went down %d times", name, now.Count-before[name].Count))
		case !now.Up:
			out = append(out, name+": not up")
		}
	}
	return out
}
