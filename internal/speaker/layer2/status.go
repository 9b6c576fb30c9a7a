package layer2

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
)

// Status fills in what the Speaker object says of layer 2.
func (c *Controller) Status(s *v1beta1.SpeakerStatus) {
	conflicts, announced := c.conflicts.list(), c.view.memory.announced()
	retained := c.claims()
	maps.DeleteFunc(retained, func(addr netip.Addr, _ announcement.Claim) bool {
		r, listed := announced[addr]
		return listed && r.Claim != nil
	})

	addrs := slices.SortedFunc(maps.Keys(announced), netip.Addr.Compare)
	out := v1beta1.SpeakerLayer2{
		Count:         int32(len(announced)),
		Addresses:     inOneLine(addrs),
		Retained:      retainedStatus(retained),
		ConflictCount: int32(len(conflicts)),
		Conflicts:     conflictsStatus(conflicts),
	}
	for _, r := range announced {
		if owns(r.Decision) && !r.HandingOver {
			out.Owned++
		}
	}
	for _, addr := range listed(addrs, netip.Addr.Compare) {
		out.Announcements = append(out.Announcements, announcementStatus(addr, announced[addr]))
	}
	s.Layer2 = out
	meta.SetStatusCondition(&s.Conditions, clearCondition(conflicts))
}

// listed returns those rows of a list that the Speaker object has room for: the first.
func listed[Row any](rows []Row, compare func(a, b Row) int) []Row {
	return kube.WorstFirst(rows, v1beta1.MaxSpeakerAnnouncements, nil, compare)
}

// StoppedStatus fills in what the Speaker object says of layer 2 while the speaker does not
// run: nothing is announced, and retains says whether the node retains what it owns.
func (c *Controller) StoppedStatus(s *v1beta1.SpeakerStatus, retains bool) {
	s.Layer2 = v1beta1.SpeakerLayer2{}
	if retains {
		s.Layer2.Retained = retainedStatus(c.claims())
	}
	meta.SetStatusCondition(&s.Conditions, clearCondition(nil))
}

// claims returns what this node claims: until it has settled, what the speaker before this
// one claimed.
func (c *Controller) claims() map[netip.Addr]announcement.Claim {
	if !c.c.Settled.IsSet() {
		return maps.Clone(c.c.Before)
	}
	out := map[netip.Addr]announcement.Claim{}
	for addr, r := range c.view.memory.all() {
		if r.Claim != nil && !r.Claim.Lingers {
			out[addr] = *r.Claim
		}
	}
	return out
}

// retainedStatus returns claims as the API has them, at most as many as the Speaker object
// has room for.
func retainedStatus(claims map[netip.Addr]announcement.Claim) []v1beta1.Layer2Claim {
	var out []v1beta1.Layer2Claim
	for _, addr := range listed(slices.Collect(maps.Keys(claims)), netip.Addr.Compare) {
		out = append(out, v1beta1.Layer2Claim{
			Address:    addr.String(),
			Generation: int64(claims[addr].Generation),
		})
	}
	return out
}

// announcementStatus returns what is remembered of an announced address as the API has it.
func announcementStatus(addr netip.Addr, r remembered) v1beta1.Layer2Announcement {
	out := v1beta1.Layer2Announcement{
		Address:    addr.String(),
		Services:   r.Services,
		Links:      r.Links,
		Since:      kube.Time(r.since),
		StandInFor: r.StandInFor,
		LingersFor: r.LingersFor,
		Former:     r.Former,
		Until:      kube.Time(r.Until),
	}
	if r.Claim != nil && !r.Claim.Lingers {
		out.Generation = int64(r.Claim.Generation)
	}
	return out
}

// conflictsStatus returns conflicts as the API has them, at most as many as the Speaker
// object has room for.
func conflictsStatus(all []conflict) []v1beta1.Layer2Conflict {
	var out []v1beta1.Layer2Conflict
	for _, c := range listed(all, conflict.compare) {
		out = append(out, v1beta1.Layer2Conflict{
			Address:    c.addr.String(),
			Link:       c.link,
			MACAddress: c.other.mac.String(),
			Kind:       c.kind,
			Owner:      c.owner,
			Since:      kube.Time(c.since),
			Message:    c.message,
		})
	}
	return out
}

// clearCondition returns the condition that says whether only the owners answer for their
// addresses.
func clearCondition(conflicts []conflict) metav1.Condition {
	if len(conflicts) == 0 {
		return kube.Condition(v1beta1.ConditionAddressesClear, true, v1beta1.ReasonNoConflicts,
			"No address conflicts seen by this node.", 0)
	}
	const most = 10
	var messages []string
	for _, c := range conflicts[:min(len(conflicts), most)] {
		messages = append(messages, c.message)
	}
	if more := len(conflicts) - len(messages); more > 0 {
		messages = append(messages, fmt.Sprintf("And %d more, see status.layer2.conflicts.", more))
	}
	return kube.Condition(v1beta1.ConditionAddressesClear, false, v1beta1.ReasonConflicts,
		strings.Join(messages, " "), 0)
}

// inOneLine returns the first addresses, and how many more there are, in one line.
func inOneLine(all []netip.Addr) string {
	const most = 4
	var named []string
	for _, addr := range all[:min(len(all), most)] {
		named = append(named, addr.String())
	}
	out := strings.Join(named, ",")
	if more := len(all) - len(named); more > 0 {
		out += fmt.Sprintf(" + %d more", more)
	}
	return out
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(out chan<- *prometheus.Desc) { c.metrics.describe(out) }

// Collect implements prometheus.Collector.
func (c *Controller) Collect(out chan<- prometheus.Metric) { c.metrics.collect(out) }
