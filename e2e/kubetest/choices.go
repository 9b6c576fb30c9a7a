package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// A choice is one of Kubernetes' tests, by words of its name that no other has. If it is left out, without
// says what is not there.
type choice struct{ name, without string }

const (
	lacksFinalizer = "a finalizer is for what a cloud has to remove; Berth has nothing to remove"
	lacksDNS       = "asks for Services by name, and the cluster has no DNS"
)

// choices lists all tests of load balancers, and those of Services that concern one.
var choices = []choice{
	{"should be able to change the type and ports of a TCP service", ""},
	{"should be able to change the type and ports of a UDP service", ""},
	{"should only allow access from service loadbalancer source ranges", ""},
	{"should have session affinity work for LoadBalancer service with Local traffic policy", ""},
	{"should be able to switch session affinity for LoadBalancer service with Local traffic policy", ""},
	{"should have session affinity work for LoadBalancer service with Cluster traffic policy", ""},
	{"should be able to switch session affinity for LoadBalancer service with Cluster traffic policy", ""},
	{"should handle load balancer cleanup finalizer for service", lacksFinalizer},
	{"should be able to create LoadBalancer Service without NodePort and change it", ""},
	{"when server pod cycles for a LoadBalancer service on different nodes", ""},
	{"when server pod cycles for a LoadBalancer service on the same nodes", ""},
	{"should not have connectivity disruption during rolling update with externalTrafficPolicy=Cluster", ""},
	{"should not have connectivity disruption during rolling update with externalTrafficPolicy=Local", ""},
	{"should work for type=LoadBalancer", ""},
	{"should only target nodes with endpoints", ""},
	{"should target all nodes with endpoints", ""},
	{"LoadBalancer] [Slow] should work from pods", ""},
	{"should fail health check node port if there are only terminating endpoints", ""},
	{"should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes", ""},
	{"should support externalTrafficPolicy=Local for type=NodePort", ""},
	{"when there are no ready endpoints with externallTrafficPolicy=Cluster", ""},
	{"when there are no ready endpoints with externalTrafficPolicy=Local", ""},
	{"should complete a service status lifecycle", ""},
	{"on same port and different protocol for internal traffic on Type LoadBalancer", lacksDNS},
}

// chosen returns the expressions by which Ginkgo finds the tests that are run.
func chosen() []string {
	var out []string
	for _, c := range choices {
		if c.without == "" {
			out = append(out, regexp.QuoteMeta(c.name))
		}
	}
	return out
}

// reportChoices has a table printed when all tests have ended: what became of each, or why it was left out. A
// choice that is not the name of exactly one test is a failure.
func reportChoices() {
	ginkgo.ReportAfterSuite("a line for each choice", func(report ginkgo.Report) {
		fmt.Println()
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
			fmt.Println(line(c, is[0]))
		}
	})
}

// line tells what became of a choice.
func line(c choice, spec types.SpecReport) string {
	outcome, why := spec.State.String(), spec.Failure.Message
	if c.without != "" {
		outcome, why = "not applicable", c.without
	}
	why, _, _ = strings.Cut(why, "\n")
	took := spec.RunTime.Seconds()
	return strings.TrimSpace(fmt.Sprintf("%-15s %6.1f s  %s  %s", outcome, took, c.name, why))
}
