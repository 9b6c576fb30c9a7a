package importing

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// kubeVIPAsks are the annotations of Services of kube-vip.
var kubeVIPAsks = asks{
	addresses: []string{"kube-vip.io/loadbalancerIPs"},
	prefixes:  []string{"kube-vip.io/"},
	known: []string{
		"kube-vip.io/vipHost", "kube-vip.io/hwaddr", "kube-vip.io/requestedIP", "kube-vip.io/active-endpoint",
		"kube-vip.io/active-endpoint-ipv6", "kube-vip.io/leaseName", "kube-vip.io/forcePerServiceElection",
		"kube-vip.io/egress-nftables-table",
	},
	without: map[string]string{
		"kube-vip.io/egress":               "Berth does not change the source of outgoing connections.",
		"kube-vip.io/ignore":               "Berth leaves alone only Services of another loadBalancerClass.",
		"kube-vip.io/serviceInterface":     kubeVIPInterface,
		"kube-vip.io/serviceVLAN":          kubeVIPInterface,
		"kube-vip.io/loadbalancerHostname": "Berth asks no DHCP server.",
		"kube-vip.io/ddns":                 "Berth tells no DNS server.",
		"kube-vip.io/forwardUPNP":          "Berth configures no router by UPnP.",
		"kube-vip.io/rp_filter":            "Berth sets no kernel parameters.",
	},
}

// kubeVIPInterface says what takes the place of an interface that a Service names.
const kubeVIPInterface = "Berth takes network interfaces from an L2Advertisement, which may select Services."

// kubeVIP is kube-vip, with the addresses of its cloud provider.
var kubeVIP = Source{
	Name:      "kube-vip",
	Title:     "kube-vip",
	Namespace: "kube-system",
	Kinds: []snapshot.Foreign{
		{Versions: []string{"v1"}, Resource: "configmaps", Kind: "ConfigMap", Name: "kubevip", Own: true},
		{Group: "apps", Versions: []string{"v1"}, Resource: "daemonsets", Kind: "DaemonSet", Own: true},
		{Versions: []string{"v1"}, Resource: "pods", Kind: "Pod", Own: true}, // static ones
	},
	convert: func(c *conversion) { (&kubeVIPConversion{conversion: c}).convert() },
	service: kubeVIPAsks.service,
	classes: []string{"", "kube-vip.io/kube-vip-class"},
	noTakeOver: "it has the addresses on interfaces of the nodes, and may hold that of the control plane. " +
		"See docs/install.md.",
}

// kubeVIPConversion converts what kube-vip and its cloud provider are configured with.
type kubeVIPConversion struct {
	*conversion
	settings map[string]string // of the first kube-vip that handles Services
	from     v1alpha1.Ref
	pools    []string
	// interfaces are those of pools that name some, by pool.
	interfaces map[string]string
}

func (c *kubeVIPConversion) convert() {
	c.interfaces = map[string]string{}
	c.readSettings()
	found := false
	c.each("", "ConfigMap", func(o *unstructured.Unstructured) {
		if o.GetName() == "kubevip" {
			c.count(o)
			found = true
			c.configMap(o)
		}
	})
	if !found {
		c.poolOfServices()
	}
	c.announce()
}

// readSettings finds the variables of kube-vip.
func (c *kubeVIPConversion) readSettings() {
	for _, p := range c.containers() {
		if !strings.Contains(p.Image, "kube-vip") || strings.Contains(p.Image, "cloud-provider") {
			continue
		}
		settings := map[string]string{}
		for _, e := range p.Env {
			settings[e.Name] = e.Value
			if e.ValueFrom != nil && e.ValueFrom.FieldRef == nil {
				c.note(v1alpha1.ImportToDo, p.ref, e.Name, "Its value stands elsewhere, and is not read "+
					"here.")
			}
		}
		switch {
		case settings["svc_enable"] != "true" && p.flag("services") == "":
			c.note(v1alpha1.ImportNoEquivalent, p.ref, "", "This kube-vip is for the control plane's "+
				"address only: leave it. Berth does not replace it.")
		case c.settings == nil:
			c.settings, c.from = settings, p.ref
			c.found["kube-vip"]++
			c.tellSettings()
		case !maps.Equal(c.settings, settings):
			c.note(v1alpha1.ImportDiffers, p.ref, "", fmt.Sprintf("It has other settings than %s: those of "+
				"the first count.", c.from))
		}
	}
}

// kubeVIPWithout are the variables of kube-vip that Berth has nothing for.
var kubeVIPWithout = map[string]string{
	"cp_enable": "Berth has no address for the control plane: leave a kube-vip with svc_enable=false for " +
		"that.",
	"vip_wireguard":           "Berth has no WireGuard mode.",
	"vip_routingtable":        "Berth puts no routes into the kernel: it speaks BGP itself.",
	"zebra_enable":            "Berth does not talk to zebra.",
	"enable_upnp":             "Berth configures no router by UPnP.",
	"egress_withnftables":     "Berth does not change the source of outgoing connections.",
	"mirror_dest_interface":   "Berth mirrors no traffic.",
	"enable_service_security": "Berth filters no traffic: use a firewall on the nodes.",
	"lb_enable":               "Berth balances nothing itself: kube-proxy does.",
}

// kubeVIPKnown are the variables of kube-vip that are converted, or mean nothing for Berth.
var kubeVIPKnown = []string{
	"address", "annotation", "backend_health_check_interval", "bgp_as", "bgp_enable", "bgp_hold_time",
	"bgp_keepalive_interval", "bgp_multihop", "bgp_peeraddress", "bgp_peeras", "bgp_peerpass", "bgp_peers",
	"bgp_routerid", "bgp_routerinterface", "bgp_sourceif", "bgp_sourceip", "cp_detect", "cp_namespace",
	"disable_service_updates", "dns_mode", "egress_clean", "egress_podcidr", "egress_servicecidr",
	"enable_endpoints", "enable_node_labeling", "health_check_port", "iptables_backend", "k8s_config_file",
	"kubernetes_addr", "lb_class_legacy_handling", "lb_class_name", "lb_class_only", "lb_fwdmethod",
	"lb_port", "mpbgp_ipv4", "mpbgp_ipv6", "mpbgp_nexthop", "port", "prometheus_server",
	"svc_election", "svc_enable",
	"svc_leasename", "svc_namespace", "vip_address", "vip_arp", "vip_arpRate", "vip_cidr",
	"vip_cleanroutingtable", "vip_ddns", "vip_interface", "vip_interfaceloglobal", "vip_leaderelection",
	"vip_leaseannotations", "vip_leaseduration", "vip_leasename", "vip_loglevel", "vip_nodename",
	"vip_preserve_on_leadership_loss", "vip_renewdeadline", "vip_retryperiod", "vip_routingprotocol",
	"vip_routingtableid", "vip_routingtabletype", "vip_servicesinterface", "vip_singlenode",
	"vip_startleader", "vip_subnet", "zebra_software_name", "zebra_url", "zebra_version",
}

// tellSettings tells which variables do not carry over.
func (c *kubeVIPConversion) tellSettings() {
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		value := c.settings[name]
		if text := kubeVIPWithout[name]; text != "" {
			if value == "true" || name == "mirror_dest_interface" && value != "" {
				c.note(v1alpha1.ImportNoEquivalent, c.from, name, text)
			}
			continue
		}
		if !slices.Contains(kubeVIPKnown, name) && strings.ToLower(name) == name {
			c.note(v1alpha1.ImportUnknownField, c.from, name, "This program does not know the variable.")
		}
	}
	if c.settings["lb_class_only"] == "true" {
		class := cmp.Or(c.settings["lb_class_name"], "kube-vip.io/kube-vip-class")
		c.classes = []string{class}
		c.note(v1alpha1.ImportToDo, c.from, "lb_class_only", fmt.Sprintf("kube-vip handles Services of the "+
			"class %s: have Berth handle them, with BERTH_LOAD_BALANCER_CLASS=%s in its controller and its "+
			"speaker.",
			class, class))
	}
}

// configMap converts the addresses of the cloud provider.
func (c *kubeVIPConversion) configMap(o *unstructured.Unstructured) {
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		c.note(v1alpha1.ImportRefused, ref(o), "data", "It cannot be read: "+err.Error()+".")
		return
	}
	from := ref(o)
	where := map[string][]string{} // entries of a namespace, or of "global"
	exclude := map[string][]netipx.IPRange{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		what, namespace, _ := strings.Cut(key, "-")
		value := data[key]
		switch {
		case key == "search-order":
			if value == "desc" {
				c.note(v1alpha1.ImportDiffers, from, key, "Berth gives out the lowest free address first.")
			}
		case key == "skip-end-ips-in-cidr":
		case (what == "cidr" || what == "range") && namespace != "":
			entries := c.kubeVIPEntries(from, key, value)
			where[namespace] = append(where[namespace], entries...)
			if what == "cidr" && data["skip-end-ips-in-cidr"] == "true" {
				exclude[namespace] = append(exclude[namespace], ends(entries, true)...)
			}
		case what == "interface" && namespace != "":
			c.interfaces[namespace] = value
		case strings.HasPrefix(key, "allow-share-"):
			if value == "true" {
				c.note(v1alpha1.ImportNoEquivalent, from, key, "Berth has Services share an address only if "+
					"they have the same value of the annotation "+v1beta1.AnnotationAllowSharedIP+".")
			}
		default:
			c.note(v1alpha1.ImportUnknownField, from, "data."+key,
				"This program does not know the key, and leaves it out.")
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(where)) {
		if len(where[namespace]) == 0 {
			continue // all of it asks DHCP, which was told
		}
		c.namespacePool(from, namespace, where[namespace], exclude[namespace])
	}
}

// kubeVIPEntries splits a list of CIDRs or ranges; one of all zeros asks DHCP.
func (c *kubeVIPConversion) kubeVIPEntries(from v1alpha1.Ref, key, value string) []string {
	var out []string
	for _, text := range strings.Split(value, ",") {
		switch text = strings.TrimSpace(text); {
		case text == "":
		case strings.HasPrefix(text, "0.0.0.0") || strings.HasPrefix(text, "::/"):
			c.note(v1alpha1.ImportNoEquivalent, from, "data."+key, "Berth asks no DHCP server for addresses.")
		default:
			out = append(out, text)
		}
	}
	return out
}

// ends returns the first and the last address of each CIDR that has others too, of IPv4 only
// if that is asked for.
func ends(entries []string, only4 bool) []netipx.IPRange {
	var out []netipx.IPRange
	for _, text := range entries {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || p.Bits() >= p.Addr().BitLen()-1 || only4 && !p.Addr().Is4() {
			continue
		}
		p = p.Masked()
		out = append(out, netipx.IPRangeFrom(p.Addr(), p.Addr()), netipx.IPRangeFrom(last(p), last(p)))
	}
	return out
}

// namespacePool adds the pool of a namespace, or of all.
func (c *kubeVIPConversion) namespacePool(
	from v1alpha1.Ref, namespace string, entries []string, exclude []netipx.IPRange,
) {
	var spec v1beta1.IPAddressPoolSpec
	if namespace != "global" {
		spec.ServiceAllocation = &v1beta1.ServiceAllocation{Namespaces: []string{namespace}}
		c.note(v1alpha1.ImportDiffers, from, "", "With kube-vip a Service of a namespace with addresses of "+
			"its own waits if they are all taken. With Berth it gets one of a pool for all, if there is any.")
	}
	names := c.addPool(pool{
		from:      from,
		name:      namespace,
		wanted:    "kube-vip-" + namespace,
		field:     "data: cidr-" + namespace + ", range-" + namespace,
		addresses: entries,
		exclude:   exclude,
		spec:      spec,
	})
	c.pools = append(c.pools, names...)
	for _, name := range names {
		if text := cmp.Or(c.interfaces[namespace], c.interfaces["global"]); text != "" {
			c.interfaces["pool:"+name] = text
		}
	}
}

// poolOfServices adds a pool with the addresses that Services have: without a cloud provider
// users give each Service its own.
func (c *kubeVIPConversion) poolOfServices() {
	var addresses []string
	for i := range c.in.Services {
		s := &c.in.Services[i]
		if !c.handles(s) {
			continue
		}
		for _, addr := range assignment.StatusAddresses(s) {
			entry := netip.PrefixFrom(addr, addr.BitLen()).String()
			if _, err := config.ParseRange(entry); err == nil && !slices.Contains(addresses, entry) {
				addresses = append(addresses, entry)
			}
		}
	}
	if len(addresses) == 0 {
		return
	}
	from := v1alpha1.Ref{Kind: "configmap", Namespace: c.in.Namespace, Name: "kubevip"}
	c.note(v1alpha1.ImportDiffers, from, "", "There is no such ConfigMap: the pool has the addresses that "+
		"Services have now, and gives them only to those that ask for one.")
	c.pools = c.addPool(pool{
		from:      from,
		name:      "kube-vip",
		field:     "status of Services",
		addresses: without(addresses, nil),
		spec:      v1beta1.IPAddressPoolSpec{AutoAssign: new(bool)},
	})
}

// announce adds what announces the pools.
func (c *kubeVIPConversion) announce() {
	bgp := c.settings["bgp_enable"] == "true"
	if bgp {
		c.peers()
		if len(c.pools) > 0 {
			c.addBGP(c.from, "kube-vip", v1beta1.BGPAdvertisementSpec{IPAddressPools: c.pools})
		}
	}
	if bgp && c.settings["vip_arp"] != "true" || len(c.pools) == 0 {
		return
	}
	from := c.from
	if c.settings == nil {
		from = v1alpha1.Ref{Kind: "configmap", Namespace: c.in.Namespace, Name: "kubevip"}
		c.note(v1alpha1.ImportDiffers, from, "", "No kube-vip was found that handles Services: its "+
			"addresses are taken for some that it announces by ARP and NDP.")
	}
	usual := cmp.Or(c.settings["vip_servicesinterface"], c.settings["vip_interface"])
	byInterface := map[string][]string{}
	for _, name := range c.pools {
		text := cmp.Or(c.interfaces["pool:"+name], usual)
		byInterface[text] = append(byInterface[text], name)
	}
	for _, text := range slices.Sorted(maps.Keys(byInterface)) {
		spec := v1beta1.L2AdvertisementSpec{IPAddressPools: byInterface[text]}
		if text != "" && text != "auto" {
			spec.Interfaces = strings.Split(text, ",")
		}
		name := "kube-vip"
		if len(byInterface) > 1 && text != "" {
			name += "-" + text
		}
		c.addL2(from, name, spec)
	}
	c.note(v1alpha1.ImportDiffers, from, "vip_arpRate", "kube-vip announces every address every three "+
		"seconds. Berth does when it moves, and every 90s: see spec.announcement.")
}

// peers adds the routers that variables name.
func (c *kubeVIPConversion) peers() {
	texts := strings.Split(c.settings["bgp_peers"], ",")
	if c.settings["bgp_peers"] == "" && c.settings["bgp_peeraddress"] != "" {
		address := c.settings["bgp_peeraddress"]
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		texts = []string{strings.Join([]string{
			address, c.settings["bgp_peeras"], c.settings["bgp_peerpass"], c.settings["bgp_multihop"],
		}, ":")}
	}
	for i, text := range texts {
		if text == "" {
			continue
		}
		field := fmt.Sprintf("bgp_peers[%d]", i)
		spec, options, err := kubeVIPPeer(text)
		if err != nil {
			c.note(v1alpha1.ImportRefused, c.from, field, "The peer is left out: "+err.Error()+".")
			continue
		}
		c.peerSettings(&spec)
		if options.multiProtocol || c.settings["mpbgp_nexthop"] != "" {
			spec.DualStackAddressFamily = true
			c.note(v1alpha1.ImportDiffers, c.from, "mpbgp_nexthop", "Berth's next hops are the node's "+
				"addresses, of both families.")
		}
		name := cmp.Or(spec.Interface, spec.PeerAddress)
		if options.bfd != nil {
			spec.BFDProfile = c.addBFD(c.from, name, *options.bfd)
		}
		c.addPeer(c.from, name, spec)
	}
}

// peerSettings sets what variables say of all peers.
func (c *kubeVIPConversion) peerSettings(spec *v1beta1.BGPPeerSpec) {
	spec.MyASN, _ = strconv.ParseInt(c.settings["bgp_as"], 10, 64)
	spec.RouterID, spec.SourceAddress = c.settings["bgp_routerid"], c.settings["bgp_sourceip"]
	for name, into := range map[string]**metav1.Duration{
		"bgp_hold_time":          &spec.HoldTime,
		"bgp_keepalive_interval": &spec.KeepaliveTime,
	} {
		if n, err := strconv.ParseUint(c.settings[name], 10, 16); err == nil && n > 0 {
			*into = &metav1.Duration{Duration: time.Duration(n) * time.Second}
		}
	}
	if spec.HoldTime == nil {
		c.note(v1alpha1.ImportDiffers, c.from, "bgp_hold_time", "None is given: Berth takes 90s, kube-vip "+
			"30s. The lower of both sides' counts.")
	}
	c.timers(c.from, spec, false)
	for _, name := range []string{"bgp_sourceif", "bgp_routerinterface"} {
		if c.settings[name] != "" {
			c.note(v1alpha1.ImportDiffers, c.from, name, "Berth takes addresses by the node's routes, or "+
				"what spec.perNode of the BGPPeer names.")
		}
	}
	if _, perNode := c.settings["bgp_routerid"]; spec.RouterID == "" && perNode {
		c.note(v1alpha1.ImportDiffers, c.from, "bgp_routerid", "It is made from the node: Berth takes the "+
			"node's first IPv4 address.")
	}
}
