package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// start is when stories begin.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestAbsentMembersAreListedByName; of more than the object takes, those that
// may prove that they work must not be left out.
func TestAbsentMembersAreListedByName(t *testing.T) {
	const most = v1beta1.MaxSpeakerAnnouncements
	var all []presence.Absent
	for n := range most + 50 {
		a := presence.Absent{
			Node:     fmt.Sprintf("node%03d", n),
			Presence: announcement.Gone,
			Reason:   v1beta1.ReasonNodeSilent,
			Since:    start.Add(999),
		}
		if n >= most+40 {
			a.Reason = v1beta1.ReasonSpeakerNotAlive
		}
		all = append(all, a)
	}
	count, got := absentStatus(all)
	if len(got) != most || count != most+50 {
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

// TestWritesAreLoggedWhenTheyChange: the first that fails, and the first that succeeds after it.
func TestWritesAreLoggedWhenTheyChange(t *testing.T) {
	refused := errors.New("refused")
	var log strings.Builder
	o := New(Config{Node: "node1", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, step := range []struct {
		story string
		err   error
		logs  string
	}{
		{"the first succeeds", nil, ""},
		{"another is given up, for the speaker stops", fmt.Errorf("update: %w", context.Canceled), ""},
		{"the last one succeeds", nil, ""},
		{"one fails", refused, "cannot write the Speaker object"},
		{"the next fails as well", refused, ""},
		{"one succeeds", nil, "can be written again"},
	} {
		log.Reset()
		o.wrote(step.err)
		if (log.Len() > 0) != (step.logs != "") || !strings.Contains(log.String(), step.logs) {
			t.Errorf("%s: logged is %q, want %q", step.story, log.String(), step.logs)
		}
	}
	if got := o.failures.Load(); got != 2 {
		t.Errorf("%d failures are counted", got)
	}
}
