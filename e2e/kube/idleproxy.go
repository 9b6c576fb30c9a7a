package main

import (
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/proxy/healthcheck"
)

// newIdleProxyCommand stands in the place of kube-proxy on nodes that shall have none: it says at
// kube-proxy's health port, in kube-proxy's words, that all rules are written, and writes none.
func newIdleProxyCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "idle-proxy",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			health := healthcheck.NewProxyHealthServer("0.0.0.0:10256", time.Minute, eligibleNode{})
			for _, family := range []v1.IPFamily{v1.IPv4Protocol, v1.IPv6Protocol} {
				health.Updated(family)
			}
			return health.Run(cmd.Context())
		},
	}
}

// eligibleNode is a node that nothing keeps from taking traffic.
type eligibleNode struct{}

func (eligibleNode) Node() *v1.Node { return &v1.Node{} }
