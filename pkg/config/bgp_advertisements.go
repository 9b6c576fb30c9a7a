package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// errNoAlias is wrapped where a community alias is missing.
var errNoAlias = errors.New("no such community or alias")

// parseCommunities reads what aliases stand for. Of two objects that give the
// same alias, the older one counts, of the same age the one whose name is
// first.
func parseCommunities(c *Config, objects []v1beta1.Community, last Config) []Problem {
	byAge := make([]*v1beta1.Community, 0, len(objects))
	for i := range objects {
		byAge = append(byAge, &objects[i])
	}
	slices.SortFunc(byAge, func(a, b *v1beta1.Community) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	c.aliases = map[string]alias{}
	var problems []Problem
	for _, o := range byAge {
		given, err := parseAliases(o)
		if err != nil {
			// Each alias stands alone: what can be read counts, and what
			// cannot keeps its last good value.
			inForce := "Its other aliases are in force."
			for name, before := range last.aliases {
				_, read := given[name]
				if !read && before.object.UID == o.UID && givesAlias(o, name) {
					given[name] = before
					inForce = "Its other aliases are in force, and the last good values of these."
				}
			}
			problems = append(problems, invalid(KindCommunity, o.Name, err, inForce))
		}
		var taken []string
		for _, name := range slices.Sorted(maps.Keys(given)) {
			if older, is := c.aliases[name]; is {
				taken = append(taken, fmt.Sprintf("%s is given by %s", name, older.object.Name))
				continue
			}
			c.aliases[name] = given[name]
		}
		if len(taken) > 0 && err == nil {
			message := fmt.Sprintf("Older Community objects give the same aliases, and theirs count: %s. "+
				"Remove them from one of the objects.", strings.Join(taken, ", "))
			problems = append(problems, Problem{KindCommunity, o.Name, v1beta1.ReasonDuplicateAlias, message})
		}
	}
	return problems
}

// givesAlias reports whether an object gives an alias, right or wrong.
func givesAlias(o *v1beta1.Community, name string) bool {
	return slices.ContainsFunc(o.Spec.Communities, func(a v1beta1.CommunityAlias) bool {
		return a.Name == name
	})
}

// alias is what a name stands for, and which object says so.
type alias struct {
	value  bgp.Community
	object *v1beta1.Community
}

// parseAliases reads the aliases of one object. With an error it returns those
// that can be read.
func parseAliases(o *v1beta1.Community) (map[string]alias, error) {
	out := map[string]alias{}
	var errs []error
	for i, a := range o.Spec.Communities {
		value, err := bgp.ParseCommunity(a.Value)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.communities[%d].value: %w", i, err))
			continue
		}
		out[a.Name] = alias{value, o}
	}
	return out, errors.Join(errs...)
}

func parseBGPAdvertisements(c *Config, objects Objects, last Config) []Problem {
	var problems []Problem
	told := map[*BGPAdvertisement][]Problem{}
	for i := range objects.BGPAdvertisements {
		o := &objects.BGPAdvertisements[i]
		a, err := parseBGPAdvertisement(o, c.aliases)
		if err != nil {
			a = lastGood(last.BGPAdvertisements, func(b *BGPAdvertisement) bool {
				return b.object.UID == o.UID
			})
			problem := invalid(KindBGPAdvertisement, o.Name, err, whatIsInForce(a))
			if errors.Is(err, errNoAlias) {
				message := fmt.Sprintf("%s. Correct it, or add the alias to a Community object. %s",
					sentence(err), whatIsInForce(a))
				problem = Problem{KindBGPAdvertisement, o.Name, v1beta1.ReasonCommunityNotFound, message}
			}
			problems = append(problems, problem)
			if a == nil {
				continue
			}
		}
		again := *a // pools may have changed since
		mine, unreached := again.lookAtPools(c), again.lookForFamilies(c, objects.NodeLabels)
		if err == nil {
			told[&again] = slices.Concat(again.lookForNames(c), unreached, mine)
			if selectsNone(again.Nodes, objects.NodeLabels) {
				told[&again] = append(told[&again], NoNodeSelected(KindBGPAdvertisement, o.Name))
			}
		}
		c.BGPAdvertisements = append(c.BGPAdvertisements, &again)
	}
	slices.SortFunc(c.BGPAdvertisements, func(a, b *BGPAdvertisement) int {
		return cmp.Compare(a.Name, b.Name)
	})
	for a, message := range conflicts(c, objects.NodeLabels) {
		if list, understood := told[a]; understood {
			told[a] = append(list, Problem{KindBGPAdvertisement, a.Name, v1beta1.ReasonConflicting, message})
		}
	}
	for _, list := range told {
		if len(list) > 0 {
			problems = append(problems, joined(list))
		}
	}
	return problems
}

// joined returns one problem for several of one object. The reason is the first's.
func joined(list []Problem) Problem {
	var messages []string
	for _, p := range list {
		messages = append(messages, p.Message)
	}
	list[0].Message = strings.Join(messages, " ")
	return list[0]
}

func parseBGPAdvertisement(o *v1beta1.BGPAdvertisement, aliases map[string]alias) (*BGPAdvertisement, error) {
	s := &o.Spec
	a := &BGPAdvertisement{
		Name:   o.Name,
		Pools:  sets.New(s.IPAddressPools...),
		object: o,
		value: &bgp.Advertisement{
			Name:      o.Name,
			Created:   o.CreationTimestamp.Time,
			LocalPref: uint32(s.LocalPref),
			Prepend:   int(s.ASPathPrepend),
			Weight:    s.WeightByEndpoints,
			Peers:     s.Peers,
		},
	}
	errs := append(parseLengths(s, a.value), parseAttributes(s, a.value)...)
	for _, list := range []struct {
		field string
		from  []metav1.LabelSelector
		to    *[]labels.Selector
	}{
		{"spec.ipAddressPoolSelectors", s.IPAddressPoolSelectors, &a.PoolSelectors},
		{"spec.nodeSelectors", s.NodeSelectors, &a.Nodes},
		{"spec.serviceSelectors", s.ServiceSelectors, &a.Services},
	} {
		var err error
		if *list.to, err = selectors(list.field, list.from); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	a.value.Communities, err = communitiesOf(s.Communities, aliases)
	return a, err
}

// parseLengths reads the lengths of the prefixes that are announced.
func parseLengths(s *v1beta1.BGPAdvertisementSpec, v *bgp.Advertisement) (errs []error) {
	v.Length4, v.Length6 = 32, 128
	if s.AggregationLength != nil {
		v.Length4 = int(*s.AggregationLength)
	}
	if s.AggregationLengthV6 != nil {
		v.Length6 = int(*s.AggregationLengthV6)
	}
	switch {
	case v.Length4 < 1 || v.Length4 > 32:
		errs = append(errs, fmt.Errorf("spec.aggregationLength: %d is not from 1 to 32", v.Length4))
	case v.Length6 < 1 || v.Length6 > 128:
		errs = append(errs, fmt.Errorf("spec.aggregationLengthV6: %d is not from 1 to 128", v.Length6))
	case len(s.ServiceSelectors) > 0 && (v.Length4 != 32 || v.Length6 != 128):
		errs = append(errs, errors.New("spec.serviceSelectors cannot be combined with aggregation"))
	}
	return errs
}

// parseAttributes reads the MED, and returns which attributes of routes are out of range.
func parseAttributes(s *v1beta1.BGPAdvertisementSpec, v *bgp.Advertisement) (errs []error) {
	if s.LocalPref < 0 || s.LocalPref > math.MaxUint32 {
		errs = append(errs, fmt.Errorf("spec.localPref: %d is not from 0 to 4294967295", s.LocalPref))
	}
	if s.MED != nil {
		v.MED, v.HasMED = uint32(*s.MED), true
		if *s.MED < 0 || *s.MED > math.MaxUint32 {
			errs = append(errs, fmt.Errorf("spec.med: %d is not from 0 to 4294967295", *s.MED))
		}
	}
	if s.ASPathPrepend < 0 || s.ASPathPrepend > 32 {
		errs = append(errs, fmt.Errorf("spec.asPathPrepend: %d is not from 0 to 32", s.ASPathPrepend))
	}
	return errs
}

// communitiesOf reads communities and aliases. An alias counts before a
// well-known name.
func communitiesOf(texts []string, aliases map[string]alias) ([]bgp.Community, error) {
	var out []bgp.Community
	var missing []string
	for i, text := range texts {
		if known, is := aliases[text]; is {
			out = append(out, known.value)
			continue
		}
		value, err := bgp.ParseCommunity(text)
		switch {
		case err != nil && strings.Contains(text, ":"):
			return nil, fmt.Errorf("spec.communities[%d]: %w", i, err)
		case err != nil:
			missing = append(missing, text)
		default:
			out = append(out, value)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("spec.communities: %w: %s", errNoAlias, strings.Join(missing, ", "))
	}
	return bgp.Unite(out), nil
}

// lookForNames returns which pools and peers an advertisement names that do not exist.
func (a *BGPAdvertisement) lookForNames(c *Config) []Problem {
	var out []Problem
	if missing := missingPools(c, sets.List(a.Pools)); missing != "" {
		out = append(out, Problem{KindBGPAdvertisement, a.Name, v1beta1.ReasonPoolNotFound, missing})
	}
	if len(c.BGPPeers) == 0 && len(a.value.Peers) == 0 {
		out = append(out, Problem{KindBGPAdvertisement, a.Name, v1beta1.ReasonPeerNotFound,
			"There is no BGPPeer in force, so no router is told. Create a BGPPeer."})
	}
	var missing []string
	for _, name := range a.value.Peers {
		if p := c.BGPPeer(name); p == nil || p.rival != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		out = append(out, Problem{KindBGPAdvertisement, a.Name, v1beta1.ReasonPeerNotFound, fmt.Sprintf(
			"spec.peers names what is not there or not in force: %s. The other peers are served. "+
				"Create the peer or correct the name.", strings.Join(missing, ", "))})
	}
	return out
}

// lookAtPools finds the pools that are too small for the aggregate, and has their addresses
// announced one by one.
func (a *BGPAdvertisement) lookAtPools(c *Config) []Problem {
	a.forPool = map[string]*bgp.Advertisement{}
	single := *a.value
	single.Length4, single.Length6 = 32, 128
	a.single = &single
	variants := map[[2]int]*bgp.Advertisement{}
	var small []string
	for _, p := range c.Pools {
		if !a.SelectsPool(p) {
			continue
		}
		lengths := [2]int{a.value.Length4, a.value.Length6}
		for _, r := range p.set.Ranges() {
			family, full := 0, 32
			if r.From().Is6() {
				family, full = 1, 128
			}
			if widest := widestOf(r); widest > lengths[family] {
				small = append(small, fmt.Sprintf("%s of pool %s in a /%d",
					ranges([]netipx.IPRange{r}), p.Name, lengths[family]))
				lengths[family] = full
			}
		}
		if lengths == [2]int{a.value.Length4, a.value.Length6} {
			continue
		}
		if variants[lengths] == nil {
			v := *a.value
			v.Length4, v.Length6 = lengths[0], lengths[1]
			variants[lengths] = &v
		}
		a.forPool[p.Name] = variants[lengths]
	}
	if len(small) == 0 {
		return nil
	}
	return []Problem{{KindBGPAdvertisement, a.Name, v1beta1.ReasonAggregationTooWide, fmt.Sprintf(
		"Aggregates would hold addresses that are not in the pool: %s. The addresses of these pools and "+
			"families are announced one by one. Make spec.aggregationLength longer, or the pool larger.",
		strings.Join(small, ", "))}}
}

// widestOf returns the length of the largest prefix within a range.
func widestOf(r netipx.IPRange) int {
	widest := math.MaxInt
	for _, p := range r.Prefixes() {
		widest = min(widest, p.Bits())
	}
	return widest
}

// conflicts returns for each advertisement what an older one sets differently for routes
// that both make, as far as that is certain from the objects alone.
func conflicts(c *Config, nodes map[string]map[string]string) map[*BGPAdvertisement]string {
	byAge := slices.Clone(c.BGPAdvertisements)
	slices.SortFunc(byAge, func(a, b *BGPAdvertisement) int {
		return cmp.Or(a.value.Created.Compare(b.value.Created), cmp.Compare(a.Name, b.Name))
	})
	told := map[*BGPAdvertisement]string{}
	for i, a := range byAge {
		var with []string
		for _, older := range byAge[:i] {
			fields := contradicted(c, older, a)
			if len(fields) > 0 && samePrefixes(c, older, a) &&
				sameNodes(older, a, nodes) && sameServices(older, a) {
				with = append(with, fmt.Sprintf("%s of %s", strings.Join(fields, " and "), older.Name))
			}
		}
		if len(with) > 0 {
			told[a] = fmt.Sprintf(
				"Older advertisements make the same routes with other values, which count: %s. "+
					"Give both the same values, or other pools, nodes or peers.", strings.Join(with, ", "))
		}
	}
	return told
}

// contradicted returns the fields that two advertisements set differently for a peer of
// both.
func contradicted(c *Config, a, b *BGPAdvertisement) []string {
	var out []string
	for _, field := range bgp.RouteFields {
		va, setA := field.Of(a.value)
		vb, setB := field.Of(b.value)
		told := slices.ContainsFunc(c.BGPPeers, func(p *BGPPeer) bool {
			return a.Reaches(p.Name) && b.Reaches(p.Name) &&
				(field.Internal == nil || p.maybeInternal(*field.Internal))
		})
		if setA && setB && va != vb && told {
			out = append(out, field.Name)
		}
	}
	return out
}

// maybeInternal reports whether sessions of the peer may be internal, or
// external.
func (p *BGPPeer) maybeInternal(internal bool) bool {
	_, mine := p.perNode["myASN"]
	_, theirs := p.perNode["peerASN"]
	switch {
	case p.dynamic != "":
		return internal == (p.dynamic == string(v1beta1.DynamicASNInternal))
	case mine && p.local == 0 || theirs:
		return true
	}
	return internal == (cmp.Or(p.local, p.peer.LocalASN) == p.peer.PeerASN)
}

// samePrefixes reports whether two advertisements announce prefixes of the same
// length for addresses of one pool.
func samePrefixes(c *Config, a, b *BGPAdvertisement) bool {
	return slices.ContainsFunc(c.Pools, func(p *Pool) bool {
		if !a.SelectsPool(p) || !b.SelectsPool(p) {
			return false
		}
		va, vb := a.Value(p), b.Value(p)
		return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool {
			if r.From().Is4() {
				return va.Length4 == vb.Length4
			}
			return va.Length6 == vb.Length6
		})
	})
}

// sameNodes reports whether a node is selected by both.
func sameNodes(a, b *BGPAdvertisement, nodes map[string]map[string]string) bool {
	if len(a.Nodes) == 0 || len(b.Nodes) == 0 {
		return true
	}
	for _, set := range nodes {
		if a.SelectsNode(set) && b.SelectsNode(set) {
			return true
		}
	}
	return false
}

// sameServices reports whether two advertisements surely select the same ones.
func sameServices(a, b *BGPAdvertisement) bool {
	return len(a.Services) == 0 || len(b.Services) == 0 ||
		reflect.DeepEqual(a.object.Spec.ServiceSelectors, b.object.Spec.ServiceSelectors)
}
