package report

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// start is when stories begin.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestMembersAreListedByNameAndThoseThatAreMissingFirst: of more than the
// object takes, those that somebody has to look after must not be left out.
func TestMembersAreListedByNameAndThoseThatAreMissingFirst(t *testing.T) {
	p := presence.Snapshot{Members: map[string]presence.Member{}}
	for n := range v1beta1.MaxSpeakerAnnouncements + 50 {
		s := announcement.Speaker{Presence: announcement.Present, Reason: v1beta1.ReasonNodePresent}
		if n >= v1beta1.MaxSpeakerAnnouncements+40 {
			s = announcement.Speaker{Presence: announcement.Gone, Reason: v1beta1.ReasonNodeSilent}
		}
		p.Members[fmt.Sprintf("node%03d", n)] = presence.Member{Speaker: s, Since: start.Add(999)}
	}
	got := memberStatus(p)
	if len(got) != v1beta1.MaxSpeakerAnnouncements {
		t.Errorf("%d are listed", len(got))
	}
	gone := 0
	for i, f := range got {
		if i > 0 && got[i-1].Name >= f.Name {
			t.Errorf("%s is listed before %s", got[i-1].Name, f.Name)
		}
		if f.Presence == v1beta1.FellowGone && f.Reason == "NodeSilent" {
			gone++
		}
		if !f.Since.Time.Equal(start) {
			t.Errorf("%s is so since %s", f.Name, f.Since)
		}
	}
	if gone != 10 {
		t.Errorf("of 10 that are gone %d are listed", gone)
	}
}
