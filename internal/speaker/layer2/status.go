package layer2

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

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

	out := v1beta1.SpeakerLayer2{
		Count:         int32(len(announced)),
		ConflictCount: int32(len(conflicts)),
		Conflicts:     capped(conflicts),
		Retained:      retainedStatus(retained),
	}
	for addr, r := range announced {
		if r.StandInFor == "" && !r.HandingOver {
			out.Owned++
		}
		out.Announcements = append(out.Announcements, announcementStatus(addr, r))
	}
	slices.SortFunc(out.Announcements, func(a, b v1beta1.Layer2Announcement) int {
		return netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address))
	})
	out.Addresses = inOneLine(out.Announcements)
	out.Announcements = capped(out.Announcements)
	s.Layer2 = out
	meta.SetStatusCondition(&s.Conditions, clearCondition(conflicts))
}

// StoppedStatus fills in what the Speaker object says of layer 2 while the speaker does not
// run: nothing is announced, and retains tells whether the node retains what it owns.
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
		if r.Claim != nil {
			out[addr] = *r.Claim
		}
	}
	return out
}

// retainedStatus lists claims for the Speaker object.
func retainedStatus(claims map[netip.Addr]announcement.Claim) []v1beta1.Layer2Claim {
	var out []v1beta1.Layer2Claim
	for _, addr := range slices.SortedFunc(maps.Keys(claims), netip.Addr.Compare) {
		out = append(out, v1beta1.Layer2Claim{Address: addr.String(), Generation: int64(claims[addr].Generation)})
	}
	return capped(out)
}

func capped[Row any](rows []Row) []Row { return rows[:min(len(rows), v1beta1.MaxSpeakerAnnouncements)] }

// clearCondition returns the condition that tells whether only the owners answer for their addresses.
func clearCondition(conflicts []v1beta1.Layer2Conflict) metav1.Condition {
	if len(conflicts) == 0 {
		return kube.Condition(v1beta1.ConditionAddressesClear, true, v1beta1.ReasonNoConflicts, "No address conflicts seen by this node.", 0)
	}
	const most = 10
	var told []string
	for _, c := range conflicts[:min(len(conflicts), most)] {
		told = append(told, c.Message)
	}
	if len(conflicts) > most {
		told = append(told, fmt.Sprintf("And %d more, see status.layer2.conflicts.", len(conflicts)-most))
	}
	return kube.Condition(v1beta1.ConditionAddressesClear, false, v1beta1.ReasonConflicts, strings.Join(told, " "), 0)
}

// inOneLine names the first addresses, and says how many more there are.
func inOneLine(all []v1beta1.Layer2Announcement) string {
	const most = 4
	var named []string
	for _, a := range all[:min(len(all), most)] {
		named = append(named, a.Address)
	}
	out := strings.Join(named, ",")
	if more := len(all) - len(named); more > 0 {
		out += fmt.Sprintf(" + %d more", more)
	}
	return out
}

func announcementStatus(addr netip.Addr, r remembered) v1beta1.Layer2Announcement {
	out := v1beta1.Layer2Announcement{
		Address: addr.String(), Services: r.Services, Links: r.Links, StandInFor: r.StandInFor,
		Since: metav1.NewTime(r.since.Truncate(time.Second)),
	}
	if r.Claim != nil {
		out.Generation = int64(r.Claim.Generation)
	}
	return out
}

// Describe implements prometheus.Collector.
func (c *Controller) Describe(out chan<- *prometheus.Desc) { c.metrics.describe(out) }

// Collect implements prometheus.Collector.
func (c *Controller) Collect(out chan<- prometheus.Metric) { c.metrics.collect(out) }
