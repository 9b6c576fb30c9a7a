package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Faults of the network that leave every cable in: packets are dropped on their way. Heal undoes them for a
// node.

// Block drops everything between a node and others for one port, TCP and UDP, in both directions, as a
// firewall does that nobody thought of. Without others it is everybody. A second call for the port replaces
// the first.
func (n *Node) Block(ctx context.Context, port uint16, others ...string) error {
	if err := n.check(); err != nil {
		return err
	}
	if port == 0 {
		return errors.New("block: no port 0")
	}
	var v4, v6 []string
	for _, other := range others {
		o := n.lab.Node(other)
		if err := o.check(); err != nil {
			return err
		}
		v4 = append(v4, NodeAddresses(o.index()).V4.String())
		v6 = append(v6, NodeAddresses(o.index()).V6.String())
	}
	// Before connection tracking, so that what is open already stops as well.
	lines := []string{"chain in { type filter hook prerouting priority -310;"}
	lines = append(lines, blockRules("saddr", v4, v6, port)...)
	lines = append(lines, "}", "chain out { type filter hook output priority -310;")
	lines = append(lines, blockRules("daddr", v4, v6, port)...)
	lines = append(lines, "}")
	return n.replaceTable(ctx, fmt.Sprintf("inet %s%d", blockPrefix, port), lines)
}

// These start the names of the tables that Heal removes.
const (
	blockPrefix = "lab-block-"
	partPrefix  = "lab-part-"
	leavePrefix = "lab-leave-"
)

// blockRules returns rules that drop what has the port at either end: a connection that a node
// opens has it at the other.
func blockRules(side string, v4, v6 []string, port uint16) []string {
	matches := []string{""}
	if len(v4) > 0 {
		matches = []string{
			fmt.Sprintf("ip %s { %s } ", side, strings.Join(v4, ", ")),
			fmt.Sprintf("ip6 %s { %s } ", side, strings.Join(v6, ", ")),
		}
	}
	var rules []string
	for _, match := range matches {
		for _, end := range []string{"sport", "dport"} {
			rules = append(rules, fmt.Sprintf("%smeta l4proto { tcp, udp } th %s %d drop;", match, end, port))
		}
	}
	return rules
}

// Part drops every frame between two nodes at the switch, broadcasts too. All others reach both, so that the
// cluster is not of one mind who is there.
func (n *Network) Part(ctx context.Context, node, other string) error {
	if err := errors.Join(n.lab.Node(node).check(), n.lab.Node(other).check()); err != nil {
		return err
	}
	if node == other {
		return fmt.Errorf("part %s from itself", node)
	}
	return n.lab.Host(HostSwitch).replaceTable(ctx, "bridge "+partTable(node, other), []string{
		"chain forward { type filter hook forward priority 0;",
		fmt.Sprintf("iifname %q oifname %q drop;", node, other),
		fmt.Sprintf("iifname %q oifname %q drop;", other, node),
		"}",
	})
}

// partTable is the same whichever node is named first.
func partTable(node, other string) string {
	return partPrefix + min(node, other) + "-" + max(node, other)
}

// replaceTable makes an nftables table anew in one step: declaring it first makes deleting it never fail.
func (h *Host) replaceTable(ctx context.Context, table string, body []string) error {
	text := fmt.Sprintf("table %[1]s {}\ndelete table %[1]s\ntable %[1]s {\n%[2]s\n}\n",
		table, strings.Join(body, "\n"))
	_, err := h.execInput(ctx, strings.NewReader(text), "nft", "-f", "-")
	return err
}

// removeTables deletes the tables of a host that match.
func (h *Host) removeTables(ctx context.Context, match func(name string) bool) error {
	out, err := h.Exec(ctx, "nft", "list", "tables")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(out)) {
		// table FAMILY NAME
		if fields := strings.Fields(line); len(fields) == 3 && match(fields[2]) {
			_, err := h.Exec(ctx, "nft", "delete", "table", fields[1], fields[2])
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// mend removes what Block, Part and LeaveVLAN have made for a node.
func (n *Node) mend(ctx context.Context) error {
	return errors.Join(
		n.removeTables(ctx, func(name string) bool { return strings.HasPrefix(name, blockPrefix) }),
		n.lab.Host(HostSwitch).removeTables(ctx, func(name string) bool {
			lans := []string{leaveTable(n.name, ManagementLAN), leaveTable(n.name, ServiceLAN)}
			if slices.Contains(lans, name) {
				return true
			}
			return strings.HasPrefix(name, partPrefix) &&
				(strings.HasSuffix(name, "-"+n.name) || strings.Contains(name, "-"+n.name+"-"))
		}),
	)
}
