// Package view says what kubectl-berth prints, as values: pure functions of a snapshot.
// What the controller and the speakers decide is decided by their own code, in their
// packages plan. What cannot be known from here is said to be unknown.
package view

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	controllerplan "github.com/berth-lb/berth/internal/controller/plan"
	speakerplan "github.com/berth-lb/berth/internal/speaker/plan"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// Unknown is the word for what cannot be known from the API objects that could be read.
const Unknown = "Unknown"

// Facts is a snapshot, put in order.
type Facts struct {
	*snapshot.Snapshot

	// planned is what the controller would decide, nil if that is not known, as notPlanned
	// says. configured is the configuration in force, known is whether there is one.
	planned    *controllerplan.Plan
	notPlanned string
	config     *config.Config
	problems   map[objectKey]config.Problem
	// speakers is what the speakers would decide, nil if that is not known.
	speakers *speakerplan.Plan

	// endpointsOf are the EndpointSlices of each Service, nil if they could not all be read.
	endpointsOf map[string][]discoveryv1.EndpointSlice

	services []*service // that Berth handles, by namespace and name
	holders  map[netip.Addr][]*service
	// layer2 are the nodes that say that they answer for an address; layer2Complete is set
	// if every Speaker lists all of them.
	layer2         map[netip.Addr][]v1alpha1.Announcer
	layer2Complete bool
	bgp            []bgpNode // by node
	bgpCounts      map[netip.Addr]*bgpCount
	bgpComplete    bool
	reports        map[string]speakerplan.Report
}

type objectKey struct{ kind, name string }

// bgpCount is how many nodes announce an address by BGP, and the first of them.
type bgpCount struct {
	count int
	first []string
}

// service is a Service that Berth handles.
type service struct {
	*corev1.Service
	addresses []netip.Addr
	planned   *controllerplan.Service // nil if it is not known
}

func (s *service) key() string { return s.Namespace + "/" + s.Name }

// bgpNode is what a node says that it announces by BGP.
type bgpNode struct {
	node string
	set  *netipx.IPSet
}

// Of puts a snapshot in order.
func Of(s *snapshot.Snapshot) (*Facts, error) {
	f := &Facts{Snapshot: s}
	if err := f.plan(); err != nil {
		return nil, err
	}
	f.readServices()
	f.readSpeakers()
	return f, nil
}

// plan has the controller's and the speakers' code decide.
func (f *Facts) plan() error {
	if missing := f.missing(snapshot.PlanKinds...); missing != "" {
		f.notPlanned = "not all of " + missing + " could be read"
		return f.parse()
	}
	planned, err := controllerplan.Of(controllerplan.Snapshot{
		Objects:    f.Config(),
		Services:   slices.Clone(f.Services),
		Namespaces: f.NamespaceLabels(),
		Nodes:      f.Nodes,
		Speakers:   f.Speakers,
		Class:      f.Settings.Class,
		Namespace:  f.Berth,
	}, f.Taken)
	if err != nil {
		return fmt.Errorf("decide as the controller does: %w", err)
	}
	f.planned = &planned
	f.setConfig(planned.Config, planned.Problems)
	return nil
}

// parse reads the configuration where not all is known that decisions need.
func (f *Facts) parse() error {
	if !f.Has(snapshot.ConfigKinds...) {
		return nil
	}
	objects := f.Config()
	objects.SecretsUnread, objects.Namespace = true, f.Berth
	parsed, problems := config.Parse(objects, config.Config{}, f.Taken)
	f.setConfig(&parsed, problems)
	return nil
}

func (f *Facts) setConfig(c *config.Config, problems []config.Problem) {
	f.config, f.problems = c, map[objectKey]config.Problem{}
	for _, p := range problems {
		key := objectKey{p.Kind, p.Name}
		if _, first := f.problems[key]; !first {
			f.problems[key] = p
		}
	}
	needs := []snapshot.Kind{
		snapshot.Services, snapshot.EndpointSlices, snapshot.Nodes, snapshot.Speakers,
	}
	if !f.Has(needs...) {
		return
	}
	f.speakers = speakerplan.Of(speakerplan.Snapshot{
		Services:       f.Services,
		EndpointSlices: f.EndpointSlices,
		Nodes:          f.Nodes,
		Speakers:       f.Speakers,
		Config:         c,
		Class:          f.Settings.Class,
		Namespace:      f.Berth,
	}, f.Taken)
}

// missing names those of the kinds of which not all objects could be read, and why, "" for none.
func (f *Facts) missing(kinds ...snapshot.Kind) string {
	reasons := map[string]string{}
	for _, u := range f.Unread() {
		reasons[u.Kind] = " (" + u.Reason + ")"
	}
	var out []string
	for _, k := range kinds {
		if !f.Has(k) {
			out = append(out, k.Name+reasons[k.Name])
		}
	}
	return strings.Join(out, ", ")
}

func (f *Facts) readServices() {
	planned := map[types.NamespacedName]*controllerplan.Service{}
	if f.planned != nil {
		for i := range f.planned.Services {
			planned[f.planned.Services[i].Key] = &f.planned.Services[i]
		}
	}
	if f.Has(snapshot.EndpointSlices) {
		f.endpointsOf = map[string][]discoveryv1.EndpointSlice{}
		for _, slice := range f.EndpointSlices {
			key := slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
			f.endpointsOf[key] = append(f.endpointsOf[key], slice)
		}
	}
	f.holders = map[netip.Addr][]*service{}
	for i := range f.Services {
		s := &f.Services[i]
		if !assignment.Serves(s, f.Settings.Class) {
			continue
		}
		one := &service{
			Service:   s,
			addresses: assignment.StatusAddresses(s),
			planned:   planned[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}],
		}
		f.services = append(f.services, one)
	}
	slices.SortFunc(f.services, func(a, b *service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range f.services {
		for _, addr := range s.addresses {
			f.holders[addr] = append(f.holders[addr], s)
		}
	}
}

func (f *Facts) readSpeakers() {
	f.layer2 = map[netip.Addr][]v1alpha1.Announcer{}
	f.layer2Complete = f.Has(snapshot.Speakers)
	f.bgpComplete = f.layer2Complete
	slices.SortFunc(f.Speakers, func(a, b v1beta1.Speaker) int { return cmp.Compare(a.Name, b.Name) })
	for i := range f.Speakers {
		s := &f.Speakers[i]
		l2 := s.Status.Layer2
		f.layer2Complete = f.layer2Complete && int(l2.Count) <= len(l2.Announcements)
		for _, a := range l2.Announcements {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil {
				f.layer2Complete = false
				continue
			}
			f.layer2[addr] = append(f.layer2[addr], v1alpha1.Announcer{
				Node:       s.Name,
				Links:      a.Links,
				Since:      a.Since,
				Generation: a.Generation,
				StandInFor: a.StandInFor,
			})
		}
		f.readBGP(s)
	}
	f.countBGP()
	f.reports = speakerplan.Reported(f.Speakers)
}

// countBGP counts the nodes that announce each address of a Service by BGP. It takes time in
// proportion to the addresses that all nodes announce.
func (f *Facts) countBGP() {
	f.bgpCounts = map[netip.Addr]*bgpCount{}
	addrs := f.addresses()
	counts := make([]bgpCount, len(addrs))
	for i, addr := range addrs {
		f.bgpCounts[addr] = &counts[i]
	}
	for _, n := range f.bgp {
		for _, r := range n.set.Ranges() {
			i, _ := slices.BinarySearchFunc(addrs, r.From(), netip.Addr.Compare)
			for ; i < len(addrs) && !r.To().Less(addrs[i]); i++ {
				if counts[i].count++; counts[i].count <= mostBGPNodes {
					counts[i].first = append(counts[i].first, n.node)
				}
			}
		}
	}
}

func (f *Facts) readBGP(s *v1beta1.Speaker) {
	if len(s.Status.BGP.Addresses) >= v1beta1.MaxSpeakerAnnouncements {
		f.bgpComplete = false
	}
	if len(s.Status.BGP.Addresses) == 0 {
		return
	}
	var b netipx.IPSetBuilder
	for _, text := range s.Status.BGP.Addresses {
		r, err := config.ParseExcluded(text)
		if err != nil {
			f.bgpComplete = false // of another version
			continue
		}
		b.AddRange(r)
	}
	set, err := b.IPSet()
	if err != nil {
		f.bgpComplete = false
		return
	}
	f.bgp = append(f.bgp, bgpNode{s.Name, set})
}

// bgpNodes returns the nodes that say that they announce an address by BGP.
func (f *Facts) bgpNodes(addr netip.Addr) []string {
	var out []string
	for _, n := range f.bgp {
		if n.set.Contains(addr) {
			out = append(out, n.node)
		}
	}
	return out
}

// poolOf returns the pool of an address of a Service, "" if it is not known.
func (f *Facts) poolOf(s *service, addr netip.Addr) string {
	if _, from := assignment.Wrote(s.Service); from[addr] != "" {
		return from[addr]
	}
	if f.config != nil {
		if p := f.config.PoolOf(addr); p != nil {
			return p.Name
		}
	}
	return ""
}

// node returns a Node object, nil if there is none.
func (f *Facts) node(name string) *corev1.Node {
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	return nil
}

// speaker returns the Speaker object of a node, nil if there is none.
func (f *Facts) speaker(name string) *v1beta1.Speaker {
	i, found := slices.BinarySearchFunc(f.Speakers, name, func(s v1beta1.Speaker, n string) int {
		return cmp.Compare(s.Name, n)
	})
	if !found {
		return nil
	}
	return &f.Speakers[i]
}

// addresses returns all addresses of Services that Berth handles, sorted.
func (f *Facts) addresses() []netip.Addr {
	return slices.SortedFunc(maps.Keys(f.holders), netip.Addr.Compare)
}

// Ago says for a person how long ago something was, as tables of kubectl do.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return duration.HumanDuration(now.Sub(t))
}
