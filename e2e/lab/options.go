package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Options say what lab to bring up. The zero value is a lab of three nodes called berth.
type Options struct {
	// Name tells labs apart: it starts the names of the network namespaces and is the name of the state
	// directory and of the cgroups. At most 20 lower-case letters, digits and dashes; default "berth".
	Name string
	// Nodes is the number of nodes, 1 to MaxNodes; default 3.
	Nodes int
	// ProxyMode is the mode of kube-proxy, ProxyNFTables by default, or ProxyNone for a cluster without it.
	ProxyMode ProxyMode
	// ServiceLAN gives every node, the client and the stranger a second interface, svc0, on a network of its
	// own: see LAN.
	ServiceLAN bool
	// Families are the IP families of the cluster, DualStack by default: of its Services and pods, the first
	// one being that which Services get that ask for none; and of all hosts. A host of a lab of one family
	// has no address of the other.
	Families Families
	// NodeGrace is how long a node may be silent before Kubernetes calls it NotReady; default 8 s, at least 5
	// s. On a machine with little CPU to spare a short time makes healthy nodes flap: 30 s suits tests that
	// do not wait for it.
	NodeGrace time.Duration
	// DNS is where pods ask for names. The domain of Services is cluster.local. The lab runs no DNS, and by
	// default pods ask nobody.
	DNS netip.Addr
	// KubernetesBinary is a multi-call binary to run instead of the one built from e2e/kube.
	KubernetesBinary string
	// APIServerFlags are added to the flags of the API server, for example "--audit-log-path=…".
	APIServerFlags []string
	// Images are docker-archives to load into every node, besides the pause and the web image.
	Images []string
	// Progress is told what is done and when; nil means silence. It is not kept when the lab is opened again.
	Progress io.Writer `json:"-"`
}

// DefaultName is the name of a lab that was given none.
const DefaultName = "berth"

const (
	defaultNodes     = 3
	defaultProxyMode = ProxyNFTables
	defaultNodeGrace = 8 * time.Second
	// nodeLease is how long a kubelet's lease is valid, in seconds. It renews it four times in that time.
	nodeLease    = 4
	minNodeGrace = (nodeLease + 1) * time.Second
)

// validName keeps the longest namespace, NAME-router, and the longest cgroup path short, and leaves no room
// for a path.
var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

func (o Options) withDefaults() (Options, error) {
	o.Name = cmp.Or(o.Name, DefaultName)
	o.Nodes = cmp.Or(o.Nodes, defaultNodes)
	o.ProxyMode = cmp.Or(o.ProxyMode, defaultProxyMode)
	o.Families = cmp.Or(o.Families, DualStack)
	o.NodeGrace = cmp.Or(o.NodeGrace, defaultNodeGrace)
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	switch {
	case !validName.MatchString(o.Name):
		return o, fmt.Errorf(
			"lab name %q: want at most 20 lower-case letters, digits and dashes, a letter first",
			o.Name,
		)
	case o.Nodes < 1 || o.Nodes > MaxNodes:
		return o, fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, MaxNodes)
	case o.NodeGrace < minNodeGrace:
		return o, fmt.Errorf(
			"node grace %s: want at least %s, the kubelets renew their leases too slowly for less",
			o.NodeGrace, minNodeGrace,
		)
	}
	return o, errors.Join(o.ProxyMode.check(), o.Families.check())
}

// stateRoot is the directory that holds one directory for each lab: $BERTH_LAB_DIR, or /var/lib/berth-lab.
func stateRoot() (string, error) {
	return filepath.Abs(cmp.Or(os.Getenv("BERTH_LAB_DIR"), "/var/lib/berth-lab"))
}

// cacheRoot holds what takes long to build: $XDG_CACHE_HOME/berth-lab, or ~/.cache/berth-lab.
func cacheRoot() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for the cache: %w", err)
	}
	return filepath.Join(dir, "berth-lab"), nil
}
