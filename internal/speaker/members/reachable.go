package members

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/presence"
)

// mostNamed is how many speakers a message names at most.
const mostNamed = 10

// ReachableCondition returns the condition MembersReachable of the speaker at own. why is
// the reason that it does not take part in the membership; nil if it does.
func ReachableCondition(why *Problem, s presence.Snapshot, own netip.AddrPort) metav1.Condition {
	if why == nil {
		why = unreachable(s, own)
	}
	if why == nil {
		return kube.Condition(v1beta1.ConditionMembersReachable, true, v1beta1.ReasonAllMembersReachable,
			"Every other speaker that works is heard.", 0)
	}
	return kube.Condition(v1beta1.ConditionMembersReachable, false, why.Reason, why.Message, 0)
}

// unreachable returns why a member does not hear all other speakers; nil if it does.
func unreachable(s presence.Snapshot, own netip.AddrPort) *Problem {
	unheard := s.Unheard()
	if len(unheard) == 0 {
		return nil
	}
	if other := otherFamily(s, unheard, own.Addr()); len(other) > 0 {
		return &Problem{v1beta1.ReasonOtherFamily, familyMessage(s, other, own)}
	}
	help := fmt.Sprintf("See that no firewall or network policy keeps port %d, TCP and UDP, "+
		"from getting through between the nodes. Until then they know of each other by the API server only.",
		own.Port())
	if s.Alive <= 1 {
		return &Problem{v1beta1.ReasonNoMemberReachable, fmt.Sprintf(
			"According to the API server %d other speakers work, and none is heard. %s", len(unheard), help)}
	}
	return &Problem{v1beta1.ReasonSomeMembersUnreachable, fmt.Sprintf(
		"These speakers work, according to the API server, and are not heard: %s. %s",
		namesOf(unheard), help)}
}

// namesOf names the first nodes of a list, and how many more there are.
func namesOf(nodes []string) string {
	names := strings.Join(nodes[:min(len(nodes), mostNamed)], ", ")
	if more := len(nodes) - mostNamed; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return names
}

// otherFamily returns those of the unheard speakers that are reached at addresses of the
// other family than this one.
func otherFamily(s presence.Snapshot, unheard []string, own netip.Addr) []string {
	return slices.DeleteFunc(slices.Clone(unheard), func(name string) bool {
		peer := s.Members[name].Peer
		return !peer.IsValid() || peer.Is4() == own.Is4()
	})
}

// familyMessage returns the message for other speakers that use another IP family.
func familyMessage(s presence.Snapshot, other []string, own netip.AddrPort) string {
	peer := s.Members[other[0]].Peer
	return fmt.Sprintf("This speaker is reached at %s, and those of %s at %s addresses, such as %s: "+
		"the two kinds cannot hear each other. "+
		"See that all nodes have an InternalIP of one family "+
		"(kubectl get nodes -o wide; kubelet --node-ip), "+
		"and that --member-address is status.hostIPs, not status.hostIP. "+
		"Then start all speakers anew: "+
		"kubectl -n NAMESPACE rollout restart daemonset berth-speaker. "+
		"Until then they know of each other by the API server only.",
		own, namesOf(other), familyName(peer), peer)
}
