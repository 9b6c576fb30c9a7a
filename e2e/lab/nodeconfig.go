package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// nodeScript is process 1 of every node.
//
//go:embed node.sh
var nodeScript []byte

// Paths below /run/lab are inside a node, where that is the lab's directory.
const (
	containerdConfig = `version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
]

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[1]q
  restrict_oom_score_adj = true # containers may not get a lower score than containerd has
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[2]q
    conf_dir = %[3]q
`

	cniConfig = `{
  "cniVersion": "0.4.0",
  "name": "lab",
  "plugins": [{
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": true,
    "ipam": {
      "type": "host-local",
      "ranges": [%[1]s],
      "routes": [%[2]s]
    }
  }]
}
`

	// The kubelet keeps containers in a branch of the control groups that belongs to the node, so that those
	// of a crash can be swept away: a kubelet that finds them waits seconds for each. Disk pressure means
	// nothing here.
	kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: /run/lab/pki/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
cgroupRoot: /%[1]s
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
imageGCHighThresholdPercent: 100
evictionHard: {imagefs.available: "0%%", nodefs.available: "0%%", memory.available: "0%%"}
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 10s
nodeLeaseDurationSeconds: %[2]d
resolvConf: ""
%[3]svolumePluginDir: /var/lib/kubelet/volume-plugins
`
)

// makeFiles writes the configuration of the node and makes the directories that are its disk and its mount
// points.
func (n *Node) makeFiles() error {
	for _, dir := range []string{"cgroup", "run", "etc/cni", "var/lib", "var/log"} {
		if err := os.MkdirAll(n.lab.path("nodes", n.name, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(n.lab.path("logs", n.name), 0o755); err != nil {
		return err
	}
	pods4, pods6 := podSubnets(n.index())
	families := n.lab.options.Families
	ranges := families.list(fmt.Sprintf(`[{"subnet": %q}]`, pods4), fmt.Sprintf(`[{"subnet": %q}]`, pods6))
	routes := families.list(`{"dst": "0.0.0.0/0"}`, `{"dst": "::/0"}`)
	etc := n.lab.path("nodes", n.name, "etc")
	insideCNI := "/run/lab/nodes/" + n.name + "/etc/cni"
	return errors.Join(
		writeFile(filepath.Join(etc, "containerd.toml"),
			fmt.Appendf(nil, containerdConfig, pauseRef, cniPlugins, insideCNI), 0o644),
		writeFile(filepath.Join(etc, "kubelet.yaml"),
			fmt.Appendf(nil, kubeletConfig, cgroupOf(n.lab.options.Name, n.name), nodeLease,
				dnsConfig(n.lab.options.DNS)), 0o644),
		n.writeIPs(families),
		writeFile(filepath.Join(etc, "cni", "lab.conflist"),
			fmt.Appendf(nil, cniConfig, ranges, routes), 0o644),
	)
}

// dnsConfig returns the lines of a kubelet's configuration that tell pods where the DNS is, if there is one.
func dnsConfig(dns netip.Addr) string {
	if !dns.IsValid() {
		return ""
	}
	return fmt.Sprintf("clusterDNS: [%q]\nclusterDomain: cluster.local\n", dns)
}

// writeIPs writes which addresses the kubelet of the node reports, and in which order, when it starts.
func (n *Node) writeIPs(families Families) error {
	a := NodeAddresses(n.index())
	ips := families.list(a.V4.String(), a.V6.String())
	return writeFile(n.lab.path("nodes", n.name, "etc", "node-ips"), []byte(ips), 0o644)
}
