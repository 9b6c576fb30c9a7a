package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// CheckKinds are the kinds that Check needs, PreCheckKinds those that it needs before Berth
// is installed.
var (
	CheckKinds    = StatusKinds
	PreCheckKinds = []snapshot.Kind{
		snapshot.Nodes, snapshot.Namespaces, snapshot.Services, snapshot.Pools, snapshot.Deployments,
		snapshot.DaemonSets,
	}
)

// Stages of Check.
const (
	StageBefore    = "BeforeInstall"
	StageInstalled = "Installed"
)

// verdictWarnings is the verdict if nothing is worse than a warning.
const verdictWarnings = "Warnings"

// docs is where the documentation is.
const docs = "https://github.com/berth-lb/berth/blob/main/docs/"

// checkLinks has for each check the page and heading that says what to do.
var checkLinks = map[string]string{
	"APIServer":         "troubleshooting.md#what-kubectl-berth-check-could-not-see",
	"KubernetesVersion": "troubleshooting.md#an-old-kubernetes",
	"InstallRights":     "troubleshooting.md#rights-to-install",
	"ReadRights":        "troubleshooting.md#what-kubectl-berth-check-could-not-see",
	"Namespace":         "troubleshooting.md#pods-that-the-namespace-does-not-admit",
	"NotInstalled":      "troubleshooting.md#berth-is-not-installed",
	"PresentAddresses":  "troubleshooting.md#addresses-that-services-have-already",
	"OtherLoadBalancer": "troubleshooting.md#another-load-balancer-at-work",
	"OtherBGP":          "troubleshooting.md#another-bgp-speaker-on-the-nodes",
	"ServiceProxy":      "troubleshooting.md#a-service-proxy-that-answers-arp",
	"Ports":             "troubleshooting.md#ports-that-are-taken",
	"Families":          "troubleshooting.md#speakers-that-do-not-see-each-other",
	"ExcludeLabel":      "troubleshooting.md#nodes-that-carry-the-exclude-label",
	"Controller":        "troubleshooting.md#a-pod-that-is-not-ready",
	"SpeakerPods":       "troubleshooting.md#a-pod-that-is-not-ready",
	"Versions":          "troubleshooting.md#versions-and-settings-that-differ",
	"Definitions":       "troubleshooting.md#definitions-of-an-earlier-version",
	"Settings":          "troubleshooting.md#versions-and-settings-that-differ",
	"Speakers":          "troubleshooting.md#a-speaker-object-that-looks-wrong",
	"Members":           "troubleshooting.md#speakers-that-do-not-see-each-other",
	"Links":             "troubleshooting.md#a-link-with-a-problem",
	"Clocks":            "troubleshooting.md#clocks-that-differ",
	"Objects":           "troubleshooting.md#why-is-my-service-pending",
	"Advertised":        "troubleshooting.md#pools-and-advertisements-without-use",
	"InUse":             "troubleshooting.md#pools-and-advertisements-without-use",
	"Room":              "troubleshooting.md#why-is-my-service-pending",
	"Overlap":           "troubleshooting.md#pools-with-addresses-of-others",
	"Subnets":           "troubleshooting.md#pools-outside-of-the-nodes-subnets",
	"Held":              "troubleshooting.md#why-is-my-service-pending",
	"ServiceAddresses":  "troubleshooting.md#why-is-my-service-pending",
	"ServiceAnnounced":  "troubleshooting.md#why-does-nobody-answer",
	"ForeignAnswers":    "troubleshooting.md#another-host-has-an-address",
	"Sessions":          "troubleshooting.md#a-router-has-no-route",
}

// mostDetails is how many details a check has.
const mostDetails = 10

// newCheck returns a check of a name that came out like this.
func newCheck(name string, state v1alpha1.CheckState, message string, details ...string) v1alpha1.Check {
	if more := len(details) - mostDetails; more > 0 {
		details = append(slices.Clone(details[:mostDetails]), fmt.Sprintf("and %d more", more))
	}
	return v1alpha1.Check{
		Name:    name,
		State:   state,
		Message: message,
		Details: details,
		Link:    docs + checkLinks[name],
	}
}

// with returns a check with the command to type next.
func with(c v1alpha1.Check, command string) v1alpha1.Check {
	c.Command = command
	return c
}

// checker looks at a cluster: at what Berth reads itself, and at what else there is.
type checker struct {
	*Facts
	around *snapshot.Surroundings
	stage  string
}

// Check looks at a cluster, before Berth is installed or after. Each check says what it saw;
// one that could not see what it looks at says so, and is never OK.
func (f *Facts) Check(around *snapshot.Surroundings, stage, context string) v1alpha1.Checks {
	c := checker{f, around, stage}
	out := v1alpha1.Checks{
		TypeMeta:  v1alpha1.TypeMeta("Checks"),
		Stage:     stage,
		Context:   context,
		Namespace: f.Berth,
		Unread:    c.allUnread(),
	}
	switch {
	case stage == StageBefore:
		out.Groups = c.before()
	case !f.Installed():
		out.Groups = []v1alpha1.CheckGroup{group("Installation", newCheck("NotInstalled",
			v1alpha1.CheckProblem, "The API server knows none of Berth's kinds. "+
				"Before the install: kubectl berth check --pre"))}
	default:
		out.Groups = c.installed()
	}
	out.Groups = slices.DeleteFunc(out.Groups, func(g v1alpha1.CheckGroup) bool { return len(g.Checks) == 0 })
	out.Counts = count(out.Groups)
	out.Verdict = verdictOf(out.Counts)
	return out
}

func group(name string, checks ...v1alpha1.Check) v1alpha1.CheckGroup {
	return v1alpha1.CheckGroup{Name: name, Checks: checks}
}

// before returns what is looked at before the install.
func (c checker) before() []v1alpha1.CheckGroup {
	return []v1alpha1.CheckGroup{
		group("Kubernetes", c.version(), c.installRights()),
		group("Namespace "+c.Berth, c.podSecurity()),
		group("Other load balancers", append(c.otherLoadBalancers(), c.otherBGP(), c.presentAddresses())...),
		group("Nodes", c.families(), c.excludeLabel(), c.serviceProxy(), c.ports()),
	}
}

// installed returns what is looked at after the install.
func (c checker) installed() []v1alpha1.CheckGroup {
	return []v1alpha1.CheckGroup{
		group("Kubernetes", c.version(), c.readRights()),
		group("Installation", c.podSecurity(), c.controller(), c.speakerPods(), c.versions(), c.definitions(),
			c.settings()),
		group("Other load balancers", append(c.otherLoadBalancers(), c.otherBGP())...),
		group("Nodes", c.excludeLabel(), c.serviceProxy()),
		group("Speakers", c.speakersWork(), c.members(), c.links(), c.clocks()),
		group("Configuration", c.objects(), c.advertised(), c.inUse()),
		group("Addresses", c.room(), c.overlap(), c.subnets(), c.held()),
		group("Services", c.servicesWork()...),
		group("Network", append([]v1alpha1.Check{c.conflicts()}, c.sessions()...)...),
	}
}

// count counts how checks came out.
func count(groups []v1alpha1.CheckGroup) v1alpha1.CheckCounts {
	var out v1alpha1.CheckCounts
	for _, g := range groups {
		for _, one := range g.Checks {
			switch one.State {
			case v1alpha1.CheckOK:
				out.OK++
			case v1alpha1.CheckWarning:
				out.Warnings++
			case v1alpha1.CheckProblem:
				out.Problems++
			case v1alpha1.CheckUnknown:
				out.Unknown++
			}
		}
	}
	return out
}

// verdictOf sums up how checks came out: the worst counts.
func verdictOf(counts v1alpha1.CheckCounts) string {
	switch {
	case counts.Problems > 0:
		return VerdictProblems
	case counts.Unknown > 0:
		return VerdictUnknown
	case counts.Warnings > 0:
		return verdictWarnings
	}
	return VerdictHealthy
}

// AllWell reports whether nothing worse than a warning was found, and all was seen.
func AllWell(c v1alpha1.Checks) bool {
	return c.Verdict == VerdictHealthy || c.Verdict == verdictWarnings
}

// allUnread returns what could not be read of all that was asked for. Before the install it
// is no wonder that Berth's kinds are not there.
func (c checker) allUnread() []v1alpha1.Unread {
	out := append(c.Unread(), c.around.Unread()...)
	if c.stage != StageBefore {
		return out
	}
	return slices.DeleteFunc(out, func(u v1alpha1.Unread) bool {
		return u.Kind == snapshot.Pools.Name && u.Reason == snapshot.ReasonNotInstalled
	})
}

// unseen returns a check of which something that it needs could not be read: ok is false if
// all could be.
func (c checker) unseen(name, what string, kinds []snapshot.Kind, parts ...string) (v1alpha1.Check, bool) {
	var missing []string
	for _, u := range c.Unread() {
		if slices.ContainsFunc(kinds, func(k snapshot.Kind) bool { return k.Name == u.Kind }) {
			missing = append(missing, u.Kind+" ("+u.Reason+")")
		}
	}
	for _, part := range parts {
		if u, failed := c.around.Why(part); failed {
			missing = append(missing, part+" ("+u.Reason+")")
		}
	}
	if len(missing) == 0 {
		return v1alpha1.Check{}, false
	}
	message := what + " is not known: could not read "
	if len(missing) == 1 {
		return newCheck(name, v1alpha1.CheckUnknown, message+missing[0]), true
	}
	return newCheck(name, v1alpha1.CheckUnknown, message+"all of it", missing...), true
}

// judged returns a check that says which problems there are, or else that something could
// not be seen, or else what is well.
func (c checker) judged(
	name string, found []v1alpha1.Problem, what, well string, needs ...snapshot.Kind,
) v1alpha1.Check {
	if len(found) == 0 {
		if unknown, missing := c.unseen(name, what, needs); missing {
			return unknown
		}
		return newCheck(name, v1alpha1.CheckOK, well)
	}
	state := v1alpha1.CheckWarning
	var details []string
	for _, p := range found {
		if p.Severity == v1alpha1.Error {
			state = v1alpha1.CheckProblem
		}
		details = append(details, strings.TrimSpace(fmt.Sprintf("%s: %s. %s", p.Object, p.Reason, p.Message)))
	}
	message := details[0]
	if len(details) == 1 {
		details = nil
	} else {
		message = fmt.Sprintf("%s: %d problems", what, len(details))
	}
	return with(newCheck(name, state, message, details...), found[0].Command)
}

// NotWell returns checks without those that are well.
func NotWell(c v1alpha1.Checks) v1alpha1.Checks {
	all := c.Groups
	c.Groups = []v1alpha1.CheckGroup{}
	for _, g := range all {
		left := slices.DeleteFunc(slices.Clone(g.Checks), func(one v1alpha1.Check) bool {
			return one.State == v1alpha1.CheckOK
		})
		if len(left) > 0 {
			c.Groups = append(c.Groups, group(g.Name, left...))
		}
	}
	return c
}
