package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
)

// Parse turns objects into values. last is what Parse returned before, or the
// zero Config: where an object cannot be understood, its version in last stays
// in force as long as it is the same object (by UID). Of a pool without such a
// version, what can be understood is in force. Problems are sorted by kind and
// name, at most one for an object.
//
// Where pools overlap, the older object (by creation time, then by name)
// keeps the addresses.
func Parse(objects Objects, last Config) (Config, []Problem) {
	var c Config
	problems := parsePools(&c, objects.Pools, last)
	problems = append(problems, parseL2Advertisements(&c, objects.L2Advertisements, last)...)
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return c, problems
}

func parsePools(c *Config, objects []v1beta1.IPAddressPool, last Config) []Problem {
	problems := map[string]Problem{}
	for i := range objects {
		o := &objects[i]
		p, err := parsePool(o)
		if err != nil {
			inForce := "What can be understood of it is in force."
			if before := last.Pool(o.Name); before != nil && before.object.UID == o.UID {
				again := *before
				p, inForce = &again, "Its last good version stays in force."
			}
			problems[o.Name] = invalid(KindIPAddressPool, o.Name, err, inForce)
		}
		c.Pools = append(c.Pools, p)
	}
	for name, lost := range settleOverlaps(c.Pools) {
		if _, worse := problems[name]; !worse {
			problems[name] = Problem{KindIPAddressPool, name, v1beta1.ReasonOverlapping, lost}
		}
	}
	slices.SortFunc(c.Pools, func(a, b *Pool) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range c.Pools {
		for _, r := range p.Ranges {
			c.spans = append(c.spans, span{r, p})
		}
	}
	slices.SortFunc(c.spans, func(a, b span) int { return a.From().Compare(b.From()) })
	return slices.Collect(maps.Values(problems))
}

// settleOverlaps takes from each pool what older ones hold, and returns for
// each pool that lost something which addresses went to whom.
func settleOverlaps(pools []*Pool) map[string]string {
	byAge := slices.Clone(pools)
	slices.SortFunc(byAge, func(a, b *Pool) int {
		return cmp.Or(a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	told := map[string]string{}
	for i, p := range byAge {
		var rest netipx.IPSetBuilder
		rest.AddSet(p.set)
		var lost []string
		for _, older := range byAge[:i] {
			var both netipx.IPSetBuilder
			both.AddSet(p.set)
			both.Intersect(older.set)
			common, _ := both.IPSet()
			if len(common.Ranges()) == 0 {
				continue
			}
			rest.RemoveSet(common)
			lost = append(lost, fmt.Sprintf("%s to pool %s", ranges(common.Ranges()), older.Name))
		}
		left, _ := rest.IPSet()
		p.Ranges = left.Ranges()
		if len(lost) == 0 {
			continue
		}
		told[p.Name] = fmt.Sprintf("Addresses belong to older pools, which keep them: %s. %s "+
			"Remove them from spec.addresses of one of the pools.", strings.Join(lost, ", "), whatIsLeft(p))
	}
	return told
}

func whatIsLeft(p *Pool) string {
	if len(p.Ranges) == 0 {
		return "Nothing is left of this pool."
	}
	return "The rest of this pool is in use."
}

// ranges writes at most five ranges for a person.
func ranges(rs []netipx.IPRange) string {
	var out []string
	for i, r := range rs {
		if i == 5 {
			out = append(out, fmt.Sprintf("and %d more", len(rs)-i))
			break
		}
		if prefix, ok := r.Prefix(); ok {
			out = append(out, prefix.String())
			continue
		}
		out = append(out, r.String())
	}
	return strings.Join(out, " ")
}

// parsePool reads a pool. With an error it returns what can be understood.
func parsePool(o *v1beta1.IPAddressPool) (*Pool, error) {
	p := &Pool{
		Name:          o.Name,
		Labels:        o.Labels,
		AutoAssign:    o.Spec.AutoAssign == nil || *o.Spec.AutoAssign,
		AvoidBuggyIPs: o.Spec.AvoidBuggyIPs,
		object:        o,
	}
	var errs []error
	if len(o.Spec.Addresses) == 0 {
		errs = append(errs, errors.New("spec.addresses is empty"))
	}
	var b netipx.IPSetBuilder
	for i, text := range o.Spec.Addresses {
		r, err := ParseRange(string(text))
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.addresses[%d]: %w", i, err))
			continue
		}
		b.AddRange(r)
	}
	set, err := b.IPSet()
	if err != nil {
		errs = append(errs, fmt.Errorf("spec.addresses: %w", err))
	}
	p.set = set
	if a := o.Spec.ServiceAllocation; a != nil {
		if p.Allocation, err = parseAllocation(a); err != nil {
			p.Closed = true
			errs = append(errs, err)
		}
	}
	return p, errors.Join(errs...)
}

func parseAllocation(a *v1beta1.ServiceAllocation) (*Allocation, error) {
	nss, err := selectors("spec.serviceAllocation.namespaceSelectors", a.NamespaceSelectors)
	if err != nil {
		return nil, err
	}
	svcs, err := selectors("spec.serviceAllocation.serviceSelectors", a.ServiceSelectors)
	if err != nil {
		return nil, err
	}
	return &Allocation{
		Priority:           a.Priority,
		Namespaces:         sets.New(a.Namespaces...),
		NamespaceSelectors: nss,
		ServiceSelectors:   svcs,
	}, nil
}

func parseL2Advertisements(c *Config, objects []v1beta1.L2Advertisement, last Config) []Problem {
	var problems []Problem
	for i := range objects {
		o := &objects[i]
		a, err := parseL2Advertisement(o)
		if err != nil {
			at := slices.IndexFunc(last.L2Advertisements, func(b *L2Advertisement) bool { return b.object.UID == o.UID })
			inForce := "It is not in force."
			if at >= 0 {
				inForce = "Its last good version stays in force."
			}
			problems = append(problems, invalid(KindL2Advertisement, o.Name, err, inForce))
			if at < 0 {
				continue
			}
			a = last.L2Advertisements[at]
		} else if missing := missingPools(c, objects[i].Spec.IPAddressPools); len(missing) > 0 {
			problems = append(problems, Problem{KindL2Advertisement, o.Name, v1beta1.ReasonPoolNotFound, fmt.Sprintf(
				"spec.ipAddressPools names what is not there or not valid: %s. The other pools are announced. "+
					"Create the pool or correct the name.", strings.Join(missing, ", "))})
		}
		c.L2Advertisements = append(c.L2Advertisements, a)
	}
	slices.SortFunc(c.L2Advertisements, func(a, b *L2Advertisement) int { return cmp.Compare(a.Name, b.Name) })
	return problems
}

func missingPools(c *Config, names []string) []string {
	var missing []string
	for _, name := range names {
		if c.Pool(name) == nil {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

func parseL2Advertisement(o *v1beta1.L2Advertisement) (*L2Advertisement, error) {
	a := &L2Advertisement{
		Name:       o.Name,
		Pools:      sets.New(o.Spec.IPAddressPools...),
		Interfaces: slices.Sorted(slices.Values(o.Spec.Interfaces)),
		object:     o,
	}
	var err error
	if a.PoolSelectors, err = selectors("spec.ipAddressPoolSelectors", o.Spec.IPAddressPoolSelectors); err != nil {
		return nil, err
	}
	if a.Nodes, err = selectors("spec.nodeSelectors", o.Spec.NodeSelectors); err != nil {
		return nil, err
	}
	if a.Services, err = selectors("spec.serviceSelectors", o.Spec.ServiceSelectors); err != nil {
		return nil, err
	}
	for i, p := range o.Spec.PreferredNodeSelectors {
		s, err := metav1.LabelSelectorAsSelector(&p.Preference)
		if err != nil {
			return nil, fmt.Errorf("spec.preferredNodeSelectors[%d].preference: %w", i, err)
		}
		a.PreferredNodes = append(a.PreferredNodes, PreferredNodes{Weight: int64(p.Weight), Nodes: s})
	}
	return a, nil
}

func selectors(field string, in []metav1.LabelSelector) ([]labels.Selector, error) {
	var out []labels.Selector
	for i := range in {
		s, err := metav1.LabelSelectorAsSelector(&in[i])
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// invalid is the problem of an object that cannot be understood.
func invalid(kind, name string, err error, inForce string) Problem {
	what := strings.ReplaceAll(err.Error(), "\n", "; ")
	return Problem{kind, name, v1beta1.ReasonInvalid, fmt.Sprintf("%s: %s. Correct the object. %s", kind, what, inForce)}
}
