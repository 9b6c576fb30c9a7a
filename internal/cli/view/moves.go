package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// Move is one thing that happened: an address that came to a node or to a Service, a session
// that came or went.
type Move struct {
	v1alpha1.Change
	// Node is where it happened, "" for what the controller does.
	Node string
}

// Moves are what happened last, the newest first.
type Moves struct {
	List []Move
	More int
	// Unknown says what is not known, "" for nothing.
	Unknown string
}

// Moves returns the last moves: those that Events tell, and of each address, session and
// Service the last change that its object tells.
func (f *Facts) Moves(most int) Moves {
	var told []Decided
	nodes := map[string]string{} // by object and message
	for i := range f.Events {
		e := &f.Events[i]
		for _, d := range eventChange(nil, e) {
			told = append(told, d)
			nodes[d.Object+" "+d.Message] = cmp.Or(nodeIn(d.Message), e.Source.Host)
		}
	}
	for i := range f.Speakers {
		told = append(told, lastOf(&f.Speakers[i])...)
	}
	for _, s := range f.services {
		told = append(told, lastOfService(s)...)
	}
	told = slices.DeleteFunc(Join(told), func(d Decided) bool { return d.Time.IsZero() })
	slices.SortStableFunc(told, func(a, b Decided) int {
		return cmp.Or(b.Time.Compare(a.Time.Time), cmp.Compare(a.Object, b.Object))
	})

	out := Moves{More: max(0, len(told)-most)}
	for _, d := range told[:min(most, len(told))] {
		node, speaks := strings.CutPrefix(d.Object, "speaker ")
		if !speaks {
			node = nodes[d.Object+" "+d.Message]
		}
		out.List = append(out.List, Move{Change: d.Change, Node: node})
	}
	switch {
	case !f.Has(snapshot.Events):
		out.Unknown = "Not all Events could be read: of each address, session and Service only the last " +
			"change is known."
	case !f.Has(snapshot.Speakers):
		out.Unknown = "The Speaker objects could not be read: what Events no longer tell is missing."
	}
	return out
}

// nodeIn returns the node that a message of a speaker names, "" for none.
func nodeIn(message string) string {
	if m := announcing.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// lastOf returns since when a node answers for what it answers for, and has its sessions.
func lastOf(s *v1beta1.Speaker) []Decided {
	var out []Decided
	add := func(at metav1.Time, reason, same, format string, values ...any) {
		c := &changes{at: at, object: "speaker " + s.Name}
		c.add(reason, same, format, values...)
		out = append(out, c.out...)
	}
	for _, a := range s.Status.Layer2.Announcements {
		reason, where := string(v1beta1.ReasonAnnouncing), strings.Join(a.Links, ", ")
		if a.StandInFor != "" {
			add(a.Since, string(v1beta1.ReasonStandIn), "", "answers for %s on %s in the place of %s",
				a.Address, where, a.StandInFor)
			continue
		}
		add(a.Since, reason, sameAs(reason, s.Name, a.Address), "answers for %s on %s, generation %d (%s)",
			a.Address, where, a.Generation, strings.Join(a.Services, ", "))
	}
	for _, b := range s.Status.BGP.Sessions {
		add(b.Since, string(b.State), "", "%s", strings.TrimSpace(fmt.Sprintf("session with %s. %s", b.Peer,
			cmp.Or(b.Problem, b.LastError))))
	}
	for _, b := range s.Status.BFD.Sessions {
		add(b.Since, "BFD"+string(b.State), "", "%s", strings.TrimSpace(fmt.Sprintf("BFD with %s. %s", b.Peer,
			b.LastDownCause)))
	}
	return out
}

// lastOfService returns since when a Service has its addresses, or has none.
func lastOfService(s *service) []Decided {
	for _, c := range s.Status.Conditions {
		if c.Type == v1beta1.ConditionAddressAssigned {
			one := &changes{at: c.LastTransitionTime, object: "service " + s.key(), space: s.Namespace}
			one.add(c.Reason, "", "%s", c.Message)
			return one.out
		}
	}
	return nil
}

// Explained explains an object, with so many of its last Events as the snapshot has. Kind is
// service, pool, node, peer or address; ok is false if there is no such object among those
// that could be read.
func (f *Facts) Explained(r v1alpha1.Ref, events int) (out v1alpha1.Explanation, ok bool) {
	kind, of := "", r
	switch r.Kind {
	case "service":
		out, ok = f.ExplainService(r.Namespace, r.Name)
		kind = "Service"
	case "pool":
		out, ok = f.ExplainPool(r.Name)
		kind = "IPAddressPool"
	case "node":
		out, ok = f.ExplainNode(r.Name)
		kind = "Speaker"
	case "peer":
		out, ok = f.ExplainPeer(r.Name)
		kind = "BGPPeer"
	case "address":
		addr, err := netip.ParseAddr(r.Name)
		if err != nil {
			return out, false
		}
		out, err = f.ExplainAddress(addr)
		ok, kind, of = err == nil, "Service", f.HolderOf(addr)
	}
	if !ok || of.Name == "" {
		return out, ok
	}
	own := slices.DeleteFunc(slices.Clone(f.Events), func(ev corev1.Event) bool {
		return ev.InvolvedObject.Kind != kind || ev.InvolvedObject.Name != of.Name ||
			of.Namespace != "" && ev.InvolvedObject.Namespace != of.Namespace
	})
	AddEvents(&out, own, events)
	return out, true
}
