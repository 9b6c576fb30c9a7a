// Command kubetest is those of Kubernetes' own end-to-end tests that concern a load balancer, in one file. It
// takes the flags of Kubernetes' e2e.test, and runs what choices.go says unless --ginkgo.focus says
// otherwise. As `kubetest image` it prints the reference of the image that the tests' pods run, and as
// `kubetest names ADDRESS KUBECONFIG` it is the DNS of the cluster, which answers with Services only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init" // what failed is told with its pods and Events
	"k8s.io/kubernetes/test/e2e/framework/node"
	_ "k8s.io/kubernetes/test/e2e/network" // the tests
	"k8s.io/kubernetes/test/utils/image"
)

// failures is told by Ginkgo and by the report that something failed.
type failures struct{ any bool }

func (f *failures) Fail() { f.any = true }

var failed failures

// errUsage tells how the commands besides the tests are called.
var errUsage = errors.New("want: kubetest image, or kubetest names ADDRESS KUBECONFIG")

// The framework wants to know of the cluster what e2e.test finds out before the first test.
var _ = ginkgo.BeforeSuite(func(ctx context.Context) {
	client, err := framework.LoadClientset()
	framework.ExpectNoError(err, "load the kubeconfig")
	kubernetes, err := client.CoreV1().Services(metav1.NamespaceDefault).
		Get(ctx, "kubernetes", metav1.GetOptions{})
	framework.ExpectNoError(err, "read the Service by which pods reach the API server")
	framework.TestContext.IPFamily = familyOf(kubernetes.Spec.ClusterIP)
	nodes, err := node.GetReadySchedulableNodes(ctx, client)
	framework.ExpectNoError(err, "list the nodes")
	framework.TestContext.CloudConfig.NumNodes = len(nodes.Items)
})

// familyOf returns the framework's word for the family of an address.
func familyOf(ip string) string {
	if addr, err := netip.ParseAddr(ip); err == nil && addr.Is6() {
		return "ipv6"
	}
	return "ipv4"
}

func main() {
	if done, err := command(os.Args[1:]); done {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var s selection
	flag.StringVar(&s.announcedBy, "announced-by", byLayer2, "how addresses are announced: layer2 or bgp")
	flag.StringVar(&s.families, "families", "ipv4,ipv6",
		"the families of the nodes' addresses: ipv4, ipv6 or both")
	flag.BoolVar(&s.long, "long", false, "also the tests that take ten minutes and more")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if err := s.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	gomega.RegisterFailHandler(framework.Fail)
	asked, _ := ginkgo.GinkgoConfiguration()
	suite, reporter := framework.CreateGinkgoConfig()
	suite, chosen := s.applied(asked, suite)
	if chosen {
		s.reportChoices()
	}
	ginkgo.RunSpecs(&failed, "Kubernetes' tests of load balancers", suite, reporter)
	if failed.any {
		os.Exit(1)
	}
}

// command does what is asked of the program besides running tests, and reports whether anything was.
func command(args []string) (done bool, err error) {
	switch {
	case len(args) == 0 || args[0] != "image" && args[0] != "names":
		return false, nil
	case args[0] == "image" && len(args) == 1:
		fmt.Println(image.GetE2EImage(image.Agnhost))
		return true, nil
	case args[0] == "names" && len(args) == 3:
		return true, serveNames(args[1], args[2])
	}
	return true, errUsage
}
