// Command kube is Kubernetes in one file: the components of a cluster, kubectl and an etcd server, chosen by
// the first argument or by the name under which the file is called. The lab runs every process of its cluster
// from it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the API clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// A program is one of the commands in this file: its name, and what runs it until it ends and gives its exit
// status.
type program struct {
	name string
	run  func() int
}

// programs lists what the file contains. A command is constructed only when it is the one to run, because
// constructing one registers flags, metrics and feature gates that belong to the whole process.
var programs = []program{
	{"etcd", func() int { return cli.Run(newEtcdCommand()) }},
	{"kube-apiserver", func() int { return cli.Run(apiserver.NewAPIServerCommand()) }},
	{"kube-controller-manager",
		func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) }},
	{"kube-scheduler", func() int { return cli.Run(scheduler.NewSchedulerCommand()) }},
	{"kube-proxy", func() int { return cli.Run(proxy.NewProxyCommand()) }},
	{"idle-proxy", func() int { return cli.Run(newIdleProxyCommand()) }},
	{"kubelet", func() int { return cli.Run(newKubeletCommand()) }},
	{"kubectl", runKubectl},
}

func newKubeletCommand() *cobra.Command {
	return kubelet.NewKubeletCommand(context.Background())
}

// runKubectl reports errors the way kubectl does, which is not how the servers do it.
func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // prints it and exits
	}
	return 0
}

func main() {
	find := func(name string) int {
		return slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	}
	i := find(filepath.Base(os.Args[0]))
	if i < 0 && len(os.Args) > 1 {
		if i = find(os.Args[1]); i >= 0 {
			os.Args = os.Args[1:]
		}
	}
	if i < 0 {
		names := make([]string, len(programs))
		for j, p := range programs {
			names[j] = p.name
		}
		fmt.Fprintf(os.Stderr, "usage: kube PROGRAM [flags], where PROGRAM is one of: %s\n",
			strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(programs[i].run())
}
