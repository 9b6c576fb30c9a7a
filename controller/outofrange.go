package main

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
)

// mostOutOfRange is how many addresses that a pool no longer contains its condition
// names, with the Services that hold them.
const mostOutOfRange = 5

// holdersOf names addresses and the Services that hold them, the first of many. The
// caller holds the lock.
func (s *state) holdersOf(addrs []netip.Addr) string {
	var out []string
	for i, addr := range addrs {
		if i == mostOutOfRange {
			out = append(out, fmt.Sprintf("and %d more", len(addrs)-i))
			break
		}
		text := addr.String()
		switch holders := s.addresses.Holders(addr); len(holders) {
		case 0:
		case 1:
			text += fmt.Sprintf(" (%s)", holders[0])
		default:
			text += fmt.Sprintf(" (%s and %d more)", holders[0], len(holders)-1)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
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
	meta.SetStatusCondition(&s.Conditions, kube.Condition(v1beta1.ConditionOutOfRange, true, v1beta1.ReasonHeldOutside, fmt.Sprintf(
		"Services hold %d %s that the pool no longer contains: %s. They keep them until they give them back; "+
			"set onShrink to Move to have them moved.", count, addresses, held), 0))
}
