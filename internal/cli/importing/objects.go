package importing

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// Bounds of lists in Berth's kinds.
const (
	mostEntries     = 50 // of a pool
	mostSelectors   = 32
	mostNames       = 256
	mostInterfaces  = 64
	mostPatterns    = 16
	mostCommunities = 63
)

// notInNames matches what the name of an object cannot have.
var notInNames = regexp.MustCompile(`[^a-z0-9.-]+`)

// name returns a name for an object of Berth's, which no other of its kind has: that of the
// other's object, if it can be.
func (c *conversion) name(kind, wanted string) string {
	var parts []string
	text := notInNames.ReplaceAllString(strings.ToLower(wanted), "-")
	for part := range strings.SplitSeq(text[:min(len(text), 240)], ".") {
		if part = strings.Trim(part, "-"); part != "" {
			parts = append(parts, part)
		}
	}
	name := strings.Join(parts, ".")
	if name == "" {
		name = "imported"
	}
	unique := name
	for n := 2; c.names[kind+"/"+unique]; n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	c.names[kind+"/"+unique] = true
	return unique
}

// meta returns the metadata of an object that is made from another.
func (c *conversion) meta(kind, wanted string, from v1alpha1.Ref) metav1.ObjectMeta {
	name := c.name(kind, wanted)
	c.out.Origins[kind+"/"+name] = from
	return metav1.ObjectMeta{Name: name}
}

// deployLabels begin the labels by which tools that deploy know what is theirs, and may
// delete what they do not find in their sources.
var deployLabels = []string{
	"app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "helm.sh/", "argocd.argoproj.io/",
	"kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "objectset.rio.cattle.io/",
}

// labels returns those labels of an object that its user gave it.
func (c *conversion) labels(from v1alpha1.Ref, labels map[string]string) map[string]string {
	out := map[string]string{}
	left := 0
	for key, value := range labels {
		begins := func(begin string) bool { return strings.HasPrefix(key, begin) }
		if slices.ContainsFunc(deployLabels, begins) {
			left++
			continue
		}
		out[key] = value
	}
	if left > 0 {
		c.note(v1alpha1.ImportRewritten, from, "metadata.labels",
			"Labels by which a tool that deploys knows its objects are left out, or it could delete Berth's.")
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// pool is a pool of the other's.
type pool struct {
	from v1alpha1.Ref
	// name is what Services call it, wanted what Berth's is to be called, "" for the same.
	name, wanted string
	labels       map[string]string
	// field is where its addresses stand.
	field     string
	addresses []string
	exclude   []netipx.IPRange
	spec      v1beta1.IPAddressPoolSpec // the rest
}

// addPool adds a pool, or several if it has more entries than one may have, and returns their
// names. Without any address there is none.
func (c *conversion) addPool(p pool) []string {
	entries := c.entries(p)
	if len(entries) == 0 {
		c.note(v1alpha1.ImportRefused, p.from, p.field, "There is no address in it: the pool is left out.")
		return nil
	}
	if len(p.exclude) > mostEntries {
		entries = without(entries, p.exclude)
		p.exclude = nil
	}
	if len(entries) > mostEntries {
		before := len(entries)
		if entries = without(entries, nil); len(entries) <= mostEntries {
			c.note(v1alpha1.ImportRewritten, p.from, p.field,
				fmt.Sprintf("%d entries are joined, as a pool of Berth's has at most "+
					"%d.", before, mostEntries))
		}
	}
	wanted := p.wanted
	if wanted == "" {
		wanted = p.name
	}
	var names []string
	for chunk := range slices.Chunk(entries, mostEntries) {
		o := v1beta1.IPAddressPool{Spec: *p.spec.DeepCopy()}
		o.ObjectMeta = c.meta("IPAddressPool", wanted, p.from)
		o.Labels = c.labels(p.from, p.labels)
		for _, text := range chunk {
			o.Spec.Addresses = append(o.Spec.Addresses, v1beta1.AddressRange(text))
		}
		o.Spec.Exclude = excludedFrom(chunk, p.exclude)
		names = append(names, o.Name)
		c.out.Pools = append(c.out.Pools, o)
	}
	c.tellNames(p, names)
	c.poolsOf[p.name] = append(c.poolsOf[p.name], names...)
	return names
}

// tellNames tells what a pool is called now.
func (c *conversion) tellNames(p pool, names []string) {
	if len(names) > 1 {
		c.note(v1alpha1.ImportDiffers, p.from, p.field, fmt.Sprintf("It has more than %d entries, and "+
			"becomes several pools: %s. A Service that names the pool gets an address of the first only.",
			mostEntries, strings.Join(names, ", ")))
	}
	if names[0] != p.name && p.wanted == "" {
		c.note(v1alpha1.ImportRewritten, p.from, "", fmt.Sprintf("Berth's pool is called %s.", names[0]))
	}
}

// entries returns the addresses of a pool as Berth writes them, each once. Those that it does
// not take are told.
func (c *conversion) entries(p pool) []string {
	var out []string
	for _, text := range p.addresses {
		entry, why := entryOf(text)
		if _, err := config.ParseRange(entry); err != nil {
			c.note(v1alpha1.ImportRefused, p.from, p.field, "The entry is left out: "+err.Error()+".")
			continue
		}
		if why != "" {
			c.note(v1alpha1.ImportRewritten, p.from, p.field,
				fmt.Sprintf("%q is written as %s: %s.", text, entry, why))
		}
		if !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	return out
}

// entryOf returns an entry of a pool as Berth takes it, with the reason if that is another
// way of writing it. What cannot be read is returned as it is.
func entryOf(text string) (entry, why string) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()).String(), "a single address is a CIDR of full length"
	}
	if p, err := netip.ParsePrefix(text); err == nil && p != p.Masked() {
		return p.Masked().String(), "host bits of a CIDR mean nothing"
	}
	return text, ""
}

// rangesOf returns the ranges of entries that can be read.
func rangesOf(entries []string) []netipx.IPRange {
	var out []netipx.IPRange
	for _, text := range entries {
		if r, err := config.ParseRange(text); err == nil {
			out = append(out, r)
		}
	}
	return out
}

// without returns entries joined as far as they touch, without some ranges.
func without(entries []string, exclude []netipx.IPRange) []string {
	var b netipx.IPSetBuilder
	for _, r := range rangesOf(entries) {
		b.AddRange(r)
	}
	for _, r := range exclude {
		b.RemoveRange(r)
	}
	set, err := b.IPSet()
	if err != nil {
		return entries
	}
	var out []string
	for _, r := range set.Ranges() {
		text := config.RangeText(r)
		if r.From() == r.To() {
			text = netip.PrefixFrom(r.From(), r.From().BitLen()).String()
		}
		out = append(out, text)
	}
	return out
}

// excludedFrom returns the ranges that concern some entries.
func excludedFrom(entries []string, exclude []netipx.IPRange) []v1beta1.ExcludedRange {
	var out []v1beta1.ExcludedRange
	for _, r := range exclude {
		text := v1beta1.ExcludedRange(config.RangeText(r))
		touches := slices.ContainsFunc(rangesOf(entries), r.Overlaps)
		if touches && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// addL2 adds an L2Advertisement.
func (c *conversion) addL2(from v1alpha1.Ref, wanted string, spec v1beta1.L2AdvertisementSpec) {
	spec.IPAddressPools = unique(spec.IPAddressPools)
	spec.Interfaces, spec.InterfacePatterns = unique(spec.Interfaces), unique(spec.InterfacePatterns)
	spec.IPAddressPoolSelectors = unique(spec.IPAddressPoolSelectors)
	spec.NodeSelectors, spec.ServiceSelectors = unique(spec.NodeSelectors), unique(spec.ServiceSelectors)
	spec.PreferredNodeSelectors = unique(spec.PreferredNodeSelectors)
	if c.tooMany(from, []bounded{
		{"ipAddressPools", len(spec.IPAddressPools), mostNames},
		{"ipAddressPoolSelectors", len(spec.IPAddressPoolSelectors), mostSelectors},
		{"nodeSelectors", len(spec.NodeSelectors), mostSelectors},
		{"serviceSelectors", len(spec.ServiceSelectors), mostSelectors},
		{"preferredNodeSelectors", len(spec.PreferredNodeSelectors), mostSelectors},
		{"interfaces", len(spec.Interfaces), mostInterfaces},
		{"interfacePatterns", len(spec.InterfacePatterns), mostPatterns},
	}) {
		return
	}
	o := v1beta1.L2Advertisement{Spec: spec}
	o.ObjectMeta = c.meta("L2Advertisement", wanted, from)
	c.out.L2Advertisements = append(c.out.L2Advertisements, o)
}

// addBGP adds a BGPAdvertisement.
func (c *conversion) addBGP(from v1alpha1.Ref, wanted string, spec v1beta1.BGPAdvertisementSpec) {
	spec.IPAddressPools, spec.Peers = unique(spec.IPAddressPools), unique(spec.Peers)
	spec.Communities = unique(spec.Communities)
	spec.IPAddressPoolSelectors = unique(spec.IPAddressPoolSelectors)
	spec.NodeSelectors, spec.ServiceSelectors = unique(spec.NodeSelectors), unique(spec.ServiceSelectors)
	if c.tooMany(from, []bounded{
		{"ipAddressPools", len(spec.IPAddressPools), mostNames},
		{"ipAddressPoolSelectors", len(spec.IPAddressPoolSelectors), mostSelectors},
		{"nodeSelectors", len(spec.NodeSelectors), mostSelectors},
		{"serviceSelectors", len(spec.ServiceSelectors), mostSelectors},
		{"peers", len(spec.Peers), mostNames},
		{"communities", len(spec.Communities), mostCommunities},
	}) {
		return
	}
	o := v1beta1.BGPAdvertisement{Spec: spec}
	o.ObjectMeta = c.meta("BGPAdvertisement", wanted, from)
	c.out.BGPAdvertisements = append(c.out.BGPAdvertisements, o)
}

// addPeer adds a BGPPeer, and returns its name, "" if there is none.
func (c *conversion) addPeer(from v1alpha1.Ref, wanted string, spec v1beta1.BGPPeerSpec) string {
	spec.NodeSelectors = unique(spec.NodeSelectors)
	if c.tooMany(from, []bounded{{"nodeSelectors", len(spec.NodeSelectors), mostSelectors}}) {
		return ""
	}
	o := v1beta1.BGPPeer{Spec: spec}
	o.ObjectMeta = c.meta("BGPPeer", wanted, from)
	c.out.BGPPeers = append(c.out.BGPPeers, o)
	return o.Name
}

// addBFD adds a BFDProfile, and returns its name.
func (c *conversion) addBFD(from v1alpha1.Ref, wanted string, spec v1beta1.BFDProfileSpec) string {
	o := v1beta1.BFDProfile{Spec: spec}
	o.ObjectMeta = c.meta("BFDProfile", wanted, from)
	c.out.BFDProfiles = append(c.out.BFDProfiles, o)
	return o.Name
}

// aliasName matches the name that an alias of a community may have, aliasValue its value.
var (
	aliasName  = regexp.MustCompile(`^[^:\s]{1,253}$`)
	aliasValue = regexp.MustCompile(`^([0-9]{1,5}:[0-9]{1,5}|large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10})$`)
)

// addCommunities adds Community objects for aliases, those that Berth takes.
func (c *conversion) addCommunities(from v1alpha1.Ref, wanted string, aliases []v1beta1.CommunityAlias) {
	aliases = slices.DeleteFunc(aliases, func(a v1beta1.CommunityAlias) bool {
		if aliasName.MatchString(a.Name) && aliasValue.MatchString(a.Value) {
			return false
		}
		c.note(v1alpha1.ImportRefused, from, "spec.communities",
			fmt.Sprintf("The alias %q for %q is left out: a name has neither colon nor blank, a value is "+
				"NUMBER:NUMBER or large:NUMBER:NUMBER:NUMBER.", a.Name, a.Value))
		return true
	})
	for chunk := range slices.Chunk(aliases, mostNames) {
		o := v1beta1.Community{Spec: v1beta1.CommunitySpec{Communities: chunk}}
		o.ObjectMeta = c.meta("Community", wanted, from)
		c.out.Communities = append(c.out.Communities, o)
	}
}

// bounded is a list of which Berth takes so many entries.
type bounded struct {
	field   string
	n, most int
}

// tooMany reports whether a list is longer than Berth takes, and tells it.
func (c *conversion) tooMany(from v1alpha1.Ref, lists []bounded) bool {
	found := false
	for _, l := range lists {
		if l.n > l.most {
			c.note(v1alpha1.ImportRefused, from, "spec."+l.field, fmt.Sprintf("It has %d entries, and Berth "+
				"takes %d: the object is left out. Write several.", l.n, l.most))
			found = true
		}
	}
	return found
}

// unique returns the elements of a list, each once.
func unique[T any](list []T) []T {
	var out []T
	for _, one := range list {
		if !slices.ContainsFunc(out, func(other T) bool { return reflect.DeepEqual(one, other) }) {
			out = append(out, one)
		}
	}
	return out
}

// selectors returns a list of one selector, none for one that selects everything.
func selectors(s *metav1.LabelSelector) []metav1.LabelSelector {
	if s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		return nil
	}
	return []metav1.LabelSelector{*s}
}

// wholeName returns an expression that matches a whole name where another matches a part.
func wholeName(expression string) string {
	inner, begins := strings.CutPrefix(expression, "^")
	inner, ends := strings.CutSuffix(inner, "$")
	if strings.ContainsAny(inner, `|\`) {
		return ".*(?:" + expression + ").*"
	}
	if !begins {
		inner = ".*" + inner
	}
	if !ends && !strings.HasSuffix(inner, ".*") {
		inner += ".*"
	}
	return inner
}

// copySecret says how the password of a peer comes into Berth's namespace.
func (c *conversion) copySecret(from v1alpha1.Ref, field, namespace, name, key string) {
	c.note(v1alpha1.ImportToDo, from, field, fmt.Sprintf("Berth reads passwords in its own namespace: copy "+
		"the Secret %s/%s.", namespace, name),
		fmt.Sprintf("kubectl get secret %s -n %s -o jsonpath='{.data.%s}' | base64 -d | kubectl create "+
			"secret generic %s -n %s --type=kubernetes.io/basic-auth --from-file=password=/dev/stdin",
			name, namespace, strings.ReplaceAll(key, ".", `\.`), name, c.in.Berth))
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr { return netipx.PrefixLastIP(p) }
