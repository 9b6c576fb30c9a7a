package announcement

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interfaces on which service proxies keep the addresses of all Services, on every
// node.
const (
	ipvsInterface   = "kube-ipvs0"    // kube-proxy in IPVS mode
	routerInterface = "kube-dummy-if" // kube-router
)

// nodeAnswers is the message where nodes of the cluster answer for an address that
// nobody claims.
func nodeAnswers(addr netip.Addr, p Probe) string {
	names := p.Nodes
	if len(names) == 0 {
		names = []string{p.Node}
	}
	return fmt.Sprintf("%s for the address (%s) and %s not claim it, so it is not announced here. %s",
		nodesDo(names, "answers", "answer"), p.Holder, oneOrMore(names, "does", "do"),
		WhyNodeAnswers(addr, p.Here))
}

// otherProgram returns the nodes on which another program than Berth answers for the
// address, sorted: nobody else answers, and the speaker of each is heard, and all that it
// claims is known, and it does not claim this address. So it is no second owner of which
// this node has not heard yet. Where that is not certain, there are none.
//
// Who forges the hardware address of a node gains nothing by it: the address is announced
// all the same, and what follows the forged answer comes to a node, which forwards it.
func otherProgram(in Input) []string {
	p := in.Probe
	if p.State != ProbeTaken || p.Node == "" {
		return nil
	}
	for _, name := range p.Nodes {
		s := in.Speakers[name]
		_, claims := in.Claims[name]
		known := s.Heard && (s.Presence == Present || s.Presence == Leaving) && !s.ClaimsUnknown && !claims
		if name != in.Node && !known {
			return nil
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(p.Nodes)))
}

// BesideMessage says that another program answers for an address that this node announces,
// and what to do.
func BesideMessage(addr netip.Addr, p Probe) string {
	return fmt.Sprintf("%s for %s as well (%s), and Berth there does not claim it: "+
		"another program does. Both may, and this node announces nothing unasked until the other is "+
		"gone. %s "+
		"To replace another load balancer: kubectl berth import --take-over lists the steps.",
		nodesDo(p.Nodes, "answers", "answer"), addr, p.Holder, WhyNodeAnswers(addr, p.Here))
}

// strangerAnswers is the message where a host that is no node with a speaker
// answers for an address.
func strangerAnswers(addr netip.Addr, p Probe) string {
	switch {
	case p.Everything.IsValid():
		return fmt.Sprintf("Another host (%s) answers for the address, as for any: "+
			"also for %s, which nobody should have. "+
			"%s Or have addresses announced without asking: --conflict-probe-count=0 of the speakers.",
			p.Holder, p.Everything, ProxyRemedy(addr))
	case len(p.Nodes) > 0:
		return fmt.Sprintf("Another host has the address: %s, perhaps a node without a speaker. "+
			"%s for it too. "+
			"It is not announced until none of them does. %s",
			p.Holder, nodesDo(p.Nodes, "answers", "answer"), WhyNodeAnswers(addr, p.Here))
	case p.Here != "":
		return fmt.Sprintf("Another host has the address: %s. "+
			"It is not announced until that host gives it up. If it is a node without a speaker: %s",
			p.Holder, WhyNodeAnswers(addr, p.Here))
	}
	return fmt.Sprintf("Another host has the address: %s. "+
		"It is not announced until that host gives it up.", p.Holder)
}

// ProxyRemedy says what to do about a host that answers for every address.
func ProxyRemedy(addr netip.Addr) string {
	if addr.Is6() {
		return "Turn NDP proxying off on that router or switch for this network."
	}
	return "Turn proxy ARP off on that router or switch for this network " +
		"(proxy-arp, local-proxy-arp; proxy_arp and proxy_arp_pvlan in Linux)."
}

// WhyNodeAnswers says for which cause nodes answer for an address that is none of
// theirs, as far as it can be known, and what to do. here is the interface of this
// node that has the address too, "" for none.
func WhyNodeAnswers(addr netip.Addr, here string) string {
	switch {
	case here == ipvsInterface && addr.Is4():
		return "Their kernels do: " +
			"kube-proxy in IPVS mode has the address on " + ipvsInterface + " of every node. " +
			"Set strictARP: true in the ipvs section of its configuration, and restart it on all nodes."
	case here == routerInterface && addr.Is4():
		return "Their kernels do: kube-router has the address on " + routerInterface + " of every node. " +
			"Set net.ipv4.conf.all.arp_ignore=1 and net.ipv4.conf.all.arp_announce=2 on all nodes."
	case here != "" && here != ipvsInterface && here != routerInterface:
		return fmt.Sprintf("This node has the address on its interface %s as well, "+
			"so the others may have it on theirs: take it off.", here)
	}
	kernel := "a kernel has it on an interface (ip address shows it there), such as by keepalived or kube-vip"
	if addr.Is4() {
		kernel += ", or by kube-proxy in IPVS mode without strictARP: true, " +
			"or kube-router without net.ipv4.conf.all.arp_ignore=1"
	}
	return "Either " + kernel + "; " +
		"or another load balancer, which is to be ended, announces it from there; " +
		"or that node's speaker is not heard: see MembersReachable of its Speaker object."
}

// nodesDo says that nodes do something, a few of many by name.
func nodesDo(names []string, one, more string) string {
	const most = 5
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) == 1 {
		return "Node " + names[0] + " " + one
	}
	rest := ""
	if n := len(names) - most; n > 0 {
		rest = fmt.Sprintf(" and %d more", n)
	}
	return "Nodes " + strings.Join(names[:min(len(names), most)], ", ") + rest + " " + more
}

func oneOrMore(names []string, one, more string) string {
	if len(names) == 1 {
		return one
	}
	return more
}
