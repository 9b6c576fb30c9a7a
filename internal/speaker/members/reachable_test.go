package members

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
)

// TestMembersReachable: a blocked port is seen on the day it is blocked.
func TestMembersReachable(t *testing.T) {
	others := func(alive, unheard, dead int) presence.Snapshot {
		p := presence.Snapshot{Members: map[string]presence.Member{}, Alive: 1 + alive}
		for i := range alive + unheard + dead {
			m := presence.Member{Speaker: announcement.Speaker{
				Presence: announcement.Present,
				Reason:   v1beta1.ReasonNodePresent,
				Heard:    i < alive,
			}}
			switch {
			case i >= alive+unheard:
				m.Presence, m.Reason = announcement.Gone, v1beta1.ReasonNodeSilent
			case i >= alive:
				m.Reason = v1beta1.ReasonNodeRenewing
			}
			p.Members[fmt.Sprintf("n%02d", i)] = m
		}
		return p
	}
	for _, test := range []struct {
		story  string
		p      presence.Snapshot
		reason v1beta1.Reason
		says   string
	}{
		{"it is alone", others(0, 0, 0), v1beta1.ReasonAllMembersReachable, ""},
		{"all are heard", others(3, 0, 0), v1beta1.ReasonAllMembersReachable, ""},
		{"one is dead", others(2, 0, 1), v1beta1.ReasonAllMembersReachable, ""},
		{"all others are dead", others(0, 0, 2), v1beta1.ReasonAllMembersReachable, ""},
		{"none is heard", others(0, 2, 1), v1beta1.ReasonNoMemberReachable, "2 other speakers work, " +
			"and none is heard. See that no firewall or network policy keeps port 7947, TCP and UDP"},
		{"one is not heard", others(2, 1, 0), v1beta1.ReasonSomeMembersUnreachable, "not heard: n02."},
		{"many are not heard", others(1, 12, 0), v1beta1.ReasonSomeMembersUnreachable, "n10 and 2 more."},
	} {
		t.Run(test.story, func(t *testing.T) {
			c := ReachableCondition(nil, test.p, own)
			if c.Reason != string(test.reason) ||
				(c.Status == metav1.ConditionTrue) != (test.reason == v1beta1.ReasonAllMembersReachable) ||
				!strings.Contains(c.Message, test.says) {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// TestTwoFamiliesAreReported: speakers that cannot hear each other for that reason say so,
// and not that a firewall is in the way.
func TestTwoFamiliesAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		six := func(s *v1beta1.SpeakerStatus) { s.MemberAddress = "[2001:db8::2]:7947" }
		w.reads(written("node2", six, speakertest.RenewedAt(time.Now().Add(-time.Hour))),
			written("node3", speakertest.RenewedAt(time.Now().Add(-time.Hour))))
		time.Sleep(8 * time.Second)
		w.reads(written("node2", six, speakertest.RenewedAt(time.Now())),
			written("node3", speakertest.RenewedAt(time.Now())))
		c := ReachableCondition(nil, w.tracker.Current(), own)
		if c.Reason != string(v1beta1.ReasonOtherFamily) ||
			!strings.Contains(c.Message, "those of node2 at IPv6 addresses, such as 2001:db8::2") {
			t.Errorf("the condition is %+v", c)
		}
		w.Publishes("node2") // it has chosen again, and its object lags behind
		w.see()
		c = ReachableCondition(nil, w.tracker.Current(), own)
		if c.Reason != string(v1beta1.ReasonSomeMembersUnreachable) {
			t.Errorf("the condition is %+v", c)
		}
	})
}
