package output

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// none stands in a cell that has nothing.
const none = "<none>"

// table returns an empty table. Columns that begin with "+" are only in wide ones.
func table(columns ...string) *metav1.Table {
	t := &metav1.Table{}
	for _, name := range columns {
		name, wide := strings.CutPrefix(name, "+")
		c := metav1.TableColumnDefinition{Name: name, Type: "string"}
		if wide {
			c.Priority = 1
		}
		t.ColumnDefinitions = append(t.ColumnDefinitions, c)
	}
	return t
}

func add(t *metav1.Table, cells ...any) {
	for i, c := range cells {
		if text, ok := c.(string); ok && text == "" {
			cells[i] = none
		}
	}
	t.Rows = append(t.Rows, metav1.TableRow{Cells: cells})
}

// ago says how long ago something was.
func ago(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return none
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// Pools returns the table of pools: a line for each family.
func Pools(list v1alpha1.PoolList) *metav1.Table {
	t := table("NAME", "FAMILY", "SIZE", "ASSIGNED", "FREE", "RESTING", "EXCLUDED", "USED", "STATUS",
		"+RANGES", "+QUOTA", "+OUT OF RANGE", "+ADVERTISED BY", "+SERVICES")
	for _, p := range list.Items {
		status := p.Reason
		if len(p.Problems) > 0 {
			status = p.Problems[0].Reason
		}
		families := 0
		for _, f := range []struct {
			name string
			size *v1alpha1.PoolSize
		}{{"IPv4", p.IPv4}, {"IPv6", p.IPv6}} {
			s := f.size
			if s == nil {
				continue
			}
			families++
			used := strconv.FormatInt(percent(s.Assigned, s.Size-s.Excluded), 10) + "%"
			add(t, p.Name, f.name, s.Size, s.Assigned, s.Free, s.Resting, s.Excluded, used, status,
				strings.Join(p.Ranges, ","), quota(p.Quota), p.OutOfRange, advertisements(p), len(p.Services))
		}
		if families == 0 {
			add(t, p.Name, none, int64(0), int64(0), int64(0), int64(0), int64(0), "0%", status,
				strings.Join(p.Ranges, ","), quota(p.Quota), p.OutOfRange, advertisements(p), len(p.Services))
		}
	}
	return t
}

// percent returns how many of a hundred n are; of nothing 0.
func percent(n, of int64) int64 {
	if of <= 0 {
		return 0
	}
	return int64(float64(n) / float64(of) * 100)
}

func quota(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func advertisements(p v1alpha1.Pool) string {
	var out []string
	for _, name := range p.L2Advertisements {
		out = append(out, "l2/"+name)
	}
	for _, name := range p.BGPAdvertisements {
		out = append(out, "bgp/"+name)
	}
	return strings.Join(out, ",")
}

// Holdings returns the table of pools with who holds their addresses.
func Holdings(list v1alpha1.PoolList) *metav1.Table {
	t := table("POOL", "SERVICE", "ADDRESSES")
	for _, p := range list.Items {
		for _, h := range p.Services {
			add(t, p.Name, h.Service, strings.Join(h.Addresses, ","))
		}
	}
	return t
}

// Services returns the table of Services: a line for each address.
func Services(list v1alpha1.ServiceList, namespaces bool, now time.Time) *metav1.Table {
	columns := []string{"NAME", "ADDRESS", "POOL", "ANNOUNCED BY", "ENDPOINTS", "STATUS",
		"+SHARED WITH", "+POLICY", "+AGE", "+MESSAGE"}
	if namespaces {
		columns = append([]string{"NAMESPACE"}, columns...)
	}
	t := table(columns...)
	line := func(s v1alpha1.Service, cells ...any) {
		if namespaces {
			cells = append([]any{s.Namespace}, cells...)
		}
		add(t, cells...)
	}
	for _, s := range list.Items {
		endpoints := "?"
		if s.Endpoints != nil {
			endpoints = strconv.Itoa(s.Endpoints.Usable)
		}
		if len(s.Addresses) == 0 {
			line(s, s.Name, none, none, none, endpoints, s.Reason,
				none, s.Policy, ago(s.Created, now), s.Message)
			continue
		}
		for _, a := range s.Addresses {
			status, message := a.Reason, cmp.Or(a.Message, s.Message)
			if s.Reason != string(v1beta1.ReasonAssigned) {
				status, message = s.Reason, s.Message
			}
			line(s, s.Name, a.Address, a.Pool, announcers(a), endpoints, status,
				strings.Join(a.SharedWith, ","), s.Policy, ago(s.Created, now), message)
		}
	}
	return t
}

// announcers names the nodes that announce an address.
func announcers(a v1alpha1.ServiceAddress) string {
	var out []string
	for _, l := range a.Layer2 {
		text := l.Node + "/" + strings.Join(l.Links, "+")
		if l.StandInFor != "" {
			text += " (for " + l.StandInFor + ")"
		}
		out = append(out, text)
	}
	if a.BGPCount > 0 {
		out = append(out, fmt.Sprintf("bgp:%d nodes", a.BGPCount))
	}
	return strings.Join(out, ",")
}

// Nodes returns the table of nodes.
func Nodes(list v1alpha1.NodeList) *metav1.Table {
	t := table("NAME", "STAGE", "OWNED", "BGP", "BFD", "MISSES", "CONFLICTS", "MARKS", "STATUS",
		"+VERSION", "+MEMBER ADDRESS", "+LINKS", "+SEEN AS", "+MESSAGE")
	for _, n := range list.Items {
		owned := strconv.Itoa(n.Owned)
		if n.StandsInFor > 0 {
			owned += fmt.Sprintf("+%d", n.StandsInFor)
		}
		status, message := n.Reason, n.Message
		if len(n.Problems) > 0 {
			status, message = n.Problems[0].Reason, n.Problems[0].Message
		}
		var links []string
		for _, l := range n.Links {
			links = append(links, l.Name)
		}
		add(t, n.Name, n.Stage, owned, sessions(n.BGP), sessions(n.BFD), len(n.Misses), n.Conflicts,
			strings.Join(n.Marks, ","), status, n.Version, n.MemberAddress, strings.Join(links, ","),
			cmp.Or(n.Presence, "Present"), message)
	}
	return t
}

func sessions(s v1alpha1.SessionsState) string { return fmt.Sprintf("%d/%d", s.Up, s.Sessions) }

// Sessions returns the table of sessions.
func Sessions(list v1alpha1.SessionList, now time.Time) *metav1.Table {
	t := table("NODE", "PEER", "REMOTE", "LOCAL AS", "PEER AS", "STATE", "SINCE", "ADVERTISED", "BFD",
		"+FAMILIES", "+BFD DOWNS", "+PROBLEM")
	for _, s := range list.Items {
		bfd, downs := "", ""
		if s.BFD != nil {
			bfd, downs = s.BFD.State, strconv.FormatInt(s.BFD.Downs, 10)
		}
		said := cmp.Or(s.Problem, s.LastError, s.Withheld)
		if said == "" && len(s.Problems) > 0 {
			said = s.Problems[0].Message
		}
		add(t, s.Node, s.Peer, s.RemoteAddress, asn(s.LocalASN), asn(s.PeerASN), s.State, ago(s.Since, now),
			fmt.Sprintf("%d/%d", s.AdvertisedIPv4, s.AdvertisedIPv6), bfd, strings.Join(s.Families, ","),
			downs, said)
	}
	return t
}

func asn(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Routes returns the table of routes.
func Routes(list v1alpha1.RouteList) *metav1.Table {
	t := table("NODE", "PEER", "PREFIX", "SESSION", "SERVICES", "COMMUNITIES",
		"+LOCAL PREF", "+MED", "+PREPEND", "+ADDRESSES")
	for _, r := range list.Items {
		add(t, r.Node, r.Peer, r.Prefix, r.Session, few(r.Services), strings.Join(r.Communities, ","),
			number(r.LocalPref), number(r.MED), r.Prepend, few(r.Addresses))
	}
	return t
}

// few joins words, at most three of them.
func few(words []string) string {
	const most = 3
	if len(words) <= most {
		return strings.Join(words, ",")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ","), len(words)-most)
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}
