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

// TestAbsentMembersAreListedByName, and no others; of more than the object takes, those that
// may prove that they work must not be left out.
func TestAbsentMembersAreListedByName(t *testing.T) {
	p := presence.Snapshot{Members: map[string]presence.Member{}}
	for n := range v1beta1.MaxSpeakerAnnouncements + 150 {
		s := announcement.Speaker{Presence: announcement.Gone, Reason: v1beta1.ReasonNodeSilent}
		switch {
		case n >= v1beta1.MaxSpeakerAnnouncements+50:
			s = announcement.Speaker{Presence: announcement.Present, Reason: v1beta1.ReasonNodePresent}
		case n >= v1beta1.MaxSpeakerAnnouncements+40:
			s = announcement.Speaker{Presence: announcement.Gone, Reason: v1beta1.ReasonSpeakerNotAlive}
		}
		p.Members[fmt.Sprintf("node%03d", n)] = presence.Member{Speaker: s, Since: start.Add(999)}
	}
	count, got := absentStatus(p)
	if len(got) != v1beta1.MaxSpeakerAnnouncements || count != v1beta1.MaxSpeakerAnnouncements+50 {
		t.Errorf("of %d %d are listed", count, len(got))
	}
	suspected := 0
	for i, f := range got {
		if i > 0 && got[i-1].Name >= f.Name {
			t.Errorf("%s is listed before %s", got[i-1].Name, f.Name)
		}
		if f.Presence == v1beta1.MemberGone && f.Reason == "SpeakerNotAlive" {
			suspected++
		}
		if !f.Since.Time.Equal(start) {
			t.Errorf("%s is so since %s", f.Name, f.Since)
		}
	}
	if suspected != 10 {
		t.Errorf("of 10 that may prove that they work %d are listed", suspected)
	}
}
