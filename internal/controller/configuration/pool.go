package configuration

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// fill writes counts into the status of a pool.
func fill(s *v1beta1.IPAddressPoolStatus, c state.PoolCounts) {
	s.AssignedIPv4, s.AssignedIPv6, s.Assigned = c.Assigned4, c.Assigned6, c.Assigned4+c.Assigned6
	s.AvailableIPv4, s.AvailableIPv6 = c.Available4, c.Available6
	s.RestingIPv4, s.RestingIPv6 = c.Resting4, c.Resting6
	s.ExcludedIPv4, s.ExcludedIPv6 = c.Excluded4, c.Excluded6
	setNodeAddresses(s, c)
	s.OutOfRange, s.OutOfRangeCount = nil, int64(len(c.Outside))
	for _, r := range c.OutsideRanges {
		s.OutOfRange = append(s.OutOfRange, config.RangeText(r))
	}
	setOutOfRange(s, len(c.Outside), c.OutsideHolders)
}

// setNodeAddresses sets the condition that says which addresses of a pool nodes have.
func setNodeAddresses(s *v1beta1.IPAddressPoolStatus, c state.PoolCounts) {
	if c.OfNodes == "" {
		meta.RemoveStatusCondition(&s.Conditions, v1beta1.ConditionNodeAddresses)
		return
	}
	reason := v1beta1.ReasonNotAssignable
	what := "are not given out, but Services that have one of them keep it"
	if c.GivesOfNodes {
		reason, what = v1beta1.ReasonAssignable, "are given out and announced by nobody (allowNodeAddresses)"
	}
	meta.SetStatusCondition(&s.Conditions, kube.Condition(v1beta1.ConditionNodeAddresses, true, reason,
		fmt.Sprintf("Nodes have addresses of the pool, which %s: %s.", what, c.OfNodes), 0))
}

// setOutOfRange writes the condition that says which addresses Services hold although
// the pool no longer contains them.
func setOutOfRange(s *v1beta1.IPAddressPoolStatus, count int, held string) {
	if count == 0 {
		meta.RemoveStatusCondition(&s.Conditions, v1beta1.ConditionOutOfRange)
		return
	}
	addresses := "addresses"
	if count == 1 {
		addresses = "address"
	}
	message := fmt.Sprintf("Services hold %d %s that the pool no longer contains: %s. They keep them until "+
		"they give them back; set onShrink to Move to have them moved.", count, addresses, held)
	meta.SetStatusCondition(&s.Conditions, kube.Condition(
		v1beta1.ConditionOutOfRange, true, v1beta1.ReasonHeldOutside, message, 0))
}
