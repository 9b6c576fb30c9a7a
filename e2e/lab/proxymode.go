package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A ProxyMode is how the nodes forward what is sent to Services.
type ProxyMode string

// The modes of kube-proxy, and what stands in its place.
const (
	ProxyNFTables ProxyMode = "nftables"
	ProxyIPTables ProxyMode = "iptables"
	// ProxyIPVS wants a kernel with IPVS and dummy interfaces: see ErrNoIPVS. kube-proxy has strictARP set,
	// as every load balancer that answers ARP requests needs it.
	ProxyIPVS ProxyMode = "ipvs"
	// ProxyNone is a cluster without kube-proxy: what stands in its place says at kube-proxy's health port
	// that the rules are written, and writes none. Nothing that is sent to a Service arrives, not even what
	// pods send to that of the API server: they need its address, see API.Address.
	ProxyNone ProxyMode = "none"
)

// ProxyModes lists all modes, the default one first.
func ProxyModes() []ProxyMode { return []ProxyMode{ProxyNFTables, ProxyIPTables, ProxyIPVS, ProxyNone} }

// Forwards reports whether what is sent to a Service arrives at its pods.
func (m ProxyMode) Forwards() bool { return m != ProxyNone }

// check returns an error that lists the modes if m is none.
func (m ProxyMode) check() error {
	if !slices.Contains(ProxyModes(), m) {
		return fmt.Errorf("kube-proxy mode %q: want one of %s", m, proxyModeList())
	}
	return nil
}

// proxyModeList is for messages.
func proxyModeList() string {
	names := make([]string, len(ProxyModes()))
	for i, mode := range ProxyModes() {
		names[i] = string(mode)
	}
	return strings.Join(names, ", ")
}

// packages returns the Debian packages that kube-proxy needs in this mode, besides what every lab needs.
func (m ProxyMode) packages() []string {
	switch m {
	case ProxyIPTables:
		return []string{"iptables"}
	case ProxyIPVS:
		return []string{"iptables", "ipset"}
	}
	return nil
}

// command returns the program in the multi-call binary that forwards on a node, and its flags.
func (m ProxyMode) command(node, clusterCIDRs string) []string {
	if m == ProxyNone {
		return []string{"idle-proxy"}
	}
	command := []string{
		"kube-proxy",
		"--kubeconfig=/run/lab/kubeconfig/kube-proxy",
		"--hostname-override=" + node,
		"--proxy-mode=" + string(m),
		"--cluster-cidr=" + clusterCIDRs,
		// nf_conntrack_max belongs to the machine and cannot be written from a node: 0 leaves it alone.
		"--conntrack-max-per-core=0",
	}
	if m == ProxyIPVS {
		command = append(command, "--ipvs-strict-arp=true")
	}
	return command
}

// ErrNoIPVS is wrapped by the error of Up if the lab shall have kube-proxy in IPVS mode and the kernel of
// this machine cannot do it.
var ErrNoIPVS = errors.New("the kernel of this machine cannot have kube-proxy in IPVS mode")

// checkKernel returns an error that wraps ErrNoIPVS if kube-proxy cannot work in this mode. Modules that are
// there but not loaded are loaded.
func (m ProxyMode) checkKernel(ctx context.Context) error {
	if m != ProxyIPVS {
		return nil
	}
	// Where they are part of the kernel, or missing, it fails: what counts is what is there afterwards.
	_ = run(ctx, "modprobe", "--all", "ip_vs", "ip_vs_rr", "dummy")
	return checkIPVS("/proc", "/sys")
}

// checkIPVS looks in these mounts for what a kernel shows that has IPVS and dummy interfaces. kube-proxy
// keeps the addresses of all Services on one of the latter.
func checkIPVS(proc, sys string) error {
	for _, need := range []struct{ file, feature string }{
		{filepath.Join(proc, "net", "ip_vs"), "IPVS (CONFIG_IP_VS)"},
		{filepath.Join(sys, "module", "dummy"), "dummy interfaces (CONFIG_DUMMY)"},
	} {
		if _, err := os.Stat(need.file); err != nil {
			return fmt.Errorf("%w: it has no %s, %s is missing; take %s or %s",
				ErrNoIPVS, need.feature, need.file, ProxyNFTables, ProxyIPTables)
		}
	}
	return nil
}
