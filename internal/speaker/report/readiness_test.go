package report

import (
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/notify"
)

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		story               string
		configured, settled bool
		ready               bool
	}{
		{"it has just started", false, false, false},
		{"it knows the other members only", false, true, false},
		{"it knows the configuration only", true, false, false},
		{"it knows both", true, true, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			configured := notify.NewLatch()
			r := NewReadiness(configured)
			if test.configured {
				configured.Set()
			}
			if test.settled {
				r.Settled().Set()
			}
			if missing := r.Missing(); (missing == "") != test.ready {
				t.Errorf("it waits for %q", missing)
			}
		})
	}
}

// TestWhatIsWaitedForIsExplained, as long as it is waited for.
func TestWhatIsWaitedForIsExplained(t *testing.T) {
	configured := notify.NewLatch()
	configured.Set()
	r := NewReadiness(configured)
	if !r.Explain("the port is taken") || r.Explain("the port is taken") {
		t.Error("the same explanation is news twice, or never")
	}
	if got := r.Missing(); !strings.HasSuffix(got, ": the port is taken") {
		t.Errorf("it waits for %q", got)
	}
	r.Settled().Set()
	if got := r.Missing(); got != "" {
		t.Errorf("it has settled and waits for %q", got)
	}
}
