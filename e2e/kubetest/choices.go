package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// How addresses are announced, as --announced-by has it.
const (
	byLayer2 = "layer2"
	byBGP    = "bgp"
)

// A choice is one of Kubernetes' tests.
type choice struct {
	// about is what of a Service it tries, in the words of the table.
	about string
	// name is words of its name that no other test has.
	name string
	// never says why it does not apply to Berth at all; layer2 and bgp say why not if addresses are announced
	// in that way, dualStack why not if the nodes have addresses of both families, ipv6 why not if they have
	// only those of IPv6.
	never, layer2, bgp, dualStack, ipv6 string
	// long is set if it takes ten minutes and more.
	long bool
}

// The subjects of the tests.
const (
	typeChanges   = "type changes"
	sourceRanges  = "source ranges"
	affinity      = "session affinity"
	noNodePorts   = "no node ports"
	localPolicy   = "externalTrafficPolicy: Local"
	healthPort    = "health check node port"
	terminating   = "terminating endpoints"
	mixedProtocol = "mixed protocols"
	podChanges    = "pods come and go"
	class         = "loadBalancerClass"
	finalizer     = "finalizer"
)

const (
	lacksFinalizer = "a finalizer is for what a cloud has to remove; Berth has nothing to remove"
	oneNode        = "at layer 2 one node takes the traffic of an address, and with Local only its pods do"
	bothFamilies   = "it asks for the health of a Service of one family at the nodes' addresses of both"
	noBrackets     = "it gives wget an IPv6 address without brackets, which takes it for a host and a port"
	firstColon     = "it takes what stands before the first colon for the client's address"
	perNode        = "kube-proxy remembers clients on each node, and the router gives each connection a node"
)

// choices lists all tests of load balancers, and those of Services that concern one.
var choices = []choice{
	{about: typeChanges, name: "change the type and ports of a TCP service"},
	{about: typeChanges, name: "change the type and ports of a UDP service"},
	{about: noNodePorts, name: "create LoadBalancer Service without NodePort and change it"},
	{about: sourceRanges, name: "only allow access from service loadbalancer source ranges",
		ipv6: noBrackets},
	{about: affinity, name: "have session affinity work for LoadBalancer service with Local", bgp: perNode},
	{about: affinity, name: "have session affinity work for LoadBalancer service with Cluster", bgp: perNode},
	{about: affinity, name: "switch session affinity for LoadBalancer service with Local",
		layer2: oneNode, bgp: perNode},
	{about: affinity, name: "switch session affinity for LoadBalancer service with Cluster", bgp: perNode},
	{about: localPolicy, name: "work for type=LoadBalancer"},
	{about: localPolicy, name: "only target nodes with endpoints", dualStack: bothFamilies},
	{about: localPolicy, name: "target all nodes with endpoints", layer2: oneNode},
	{about: localPolicy, name: "LoadBalancer] [Slow] should work from pods", ipv6: firstColon},
	{about: localPolicy, name: "support externalTrafficPolicy=Local for type=NodePort"},
	{about: healthPort, name: "HealthCheckNodePort correctly when ExternalTrafficPolicy changes"},
	{about: healthPort, name: "fail health check node port if there are only terminating endpoints"},
	{about: terminating, name: "when there are no ready endpoints with externallTrafficPolicy=Cluster"},
	{about: terminating, name: "when there are no ready endpoints with externalTrafficPolicy=Local"},
	{about: mixedProtocol, name: "different protocol for internal traffic on Type LoadBalancer"},
	{about: podChanges, name: "when server pod cycles for a LoadBalancer service on different nodes"},
	{about: podChanges, name: "when server pod cycles for a LoadBalancer service on the same nodes"},
	{about: podChanges, name: "during rolling update with externalTrafficPolicy=Cluster", long: true},
	{about: podChanges, name: "during rolling update with externalTrafficPolicy=Local", long: true},
	{about: class, name: "complete a service status lifecycle"},
	{about: finalizer, name: "handle load balancer cleanup finalizer for service", never: lacksFinalizer},
}

// A selection is what of the choices a run takes.
type selection struct {
	announcedBy string
	families    string // of the addresses that the nodes have: ipv4, ipv6 or both with a comma
	long        bool
}

// check returns an error if addresses cannot be announced in this way.
func (s selection) check() error {
	if s.announcedBy != byLayer2 && s.announcedBy != byBGP {
		return fmt.Errorf("addresses announced by %q: want %s or %s", s.announcedBy, byLayer2, byBGP)
	}
	return nil
}

// without says what the outcome of a choice is that is not run, and why; both are empty if it is run.
func (s selection) without(c choice) (outcome, why string) {
	switch {
	case c.never != "":
		return "not applicable", c.never
	case s.announcedBy == byLayer2 && c.layer2 != "":
		return "not applicable", c.layer2
	case s.announcedBy == byBGP && c.bgp != "":
		return "not applicable", c.bgp
	case strings.Contains(s.families, ",") && c.dualStack != "":
		return "not applicable", c.dualStack
	case s.families == "ipv6" && c.ipv6 != "":
		return "not applicable", c.ipv6
	case c.long && !s.long:
		return "left out", "it takes ten minutes and more; LONG=yes runs it too"
	}
	return "", ""
}

// focus returns the expressions by which Ginkgo finds the tests that are run.
func (s selection) focus() []string {
	var out []string
	for _, c := range choices {
		if outcome, _ := s.without(c); outcome == "" {
			out = append(out, regexp.QuoteMeta(c.name))
		}
	}
	return out
}

// applied returns the framework's configuration with the choices in focus, unless something else was asked
// for, and reports whether they are.
func (s selection) applied(asked, framework types.SuiteConfig) (config types.SuiteConfig, chosen bool) {
	if len(asked.FocusStrings) > 0 {
		return framework, false
	}
	framework.FocusStrings = s.focus()
	// The framework would skip what needs a feature, load balancers too.
	framework.SkipStrings = asked.SkipStrings
	return framework, true
}

// reportChoices has a table printed when all tests have ended: what became of each, or why it was left out.
// A choice that is not the name of exactly one test is a failure.
func (s selection) reportChoices() {
	ginkgo.ReportAfterSuite("a line for each choice", func(report ginkgo.Report) {
		fmt.Printf("\nKubernetes' tests of load balancers, addresses announced by %s:\n\n", s.announcedBy)
		count := map[string]int{}
		for _, c := range choices {
			var is []types.SpecReport
			for _, spec := range report.SpecReports {
				if spec.LeafNodeType == types.NodeTypeIt && strings.Contains(spec.FullText(), c.name) {
					is = append(is, spec)
				}
			}
			if len(is) != 1 {
				fmt.Printf("%d tests have the name %q\n", len(is), c.name)
				failed.Fail()
				continue
			}
			outcome, line := s.line(c, is[0])
			count[outcome]++
			fmt.Println(line)
		}
		fmt.Printf("\n%s in %s\n", summary(count), report.RunTime.Round(time.Second))
	})
}

// summary counts the outcomes, in an order that does not change.
func summary(count map[string]int) string {
	outcomes := []string{"passed", "failed", "skipped", "not applicable", "left out"}
	for outcome := range count {
		if !slices.Contains(outcomes, outcome) {
			outcomes = append(outcomes, outcome)
		}
	}
	slices.Sort(outcomes[5:])
	var parts []string
	for i, outcome := range outcomes {
		if n := count[outcome]; n > 0 || i < 2 {
			parts = append(parts, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	return strings.Join(parts, ", ")
}

// line tells what became of a choice: in a word, and in a line with all that is to be said.
func (s selection) line(c choice, spec types.SpecReport) (outcome, line string) {
	outcome, why := s.without(c)
	took := "      -"
	if outcome == "" {
		outcome, why = spec.State.String(), spec.Failure.Message
		took = fmt.Sprintf("%5.0f s", spec.RunTime.Seconds())
	}
	why, _, _ = strings.Cut(why, "\n")
	line = fmt.Sprintf("%-14s %s  %-28s  %s  %s", outcome, took, c.about, c.name, why)
	return outcome, strings.TrimSpace(line)
}
