package announcer

import (
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// TestApplied: what was set is answered when it has been waited for, also right after another pass, which
// the next one has to keep its distance from. A link that is not there is not waited for.
func TestApplied(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		if !a.Applied(0) {
			t.Error("nothing was set, and is not in force")
		}
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		if !a.Applied(time.Second) || !s.opened(t).ask(arpRequest(t, client4, vip4)) {
			t.Error("the first address is not answered")
		}
		other := vip4.Next()
		a.Set(other, on("eth0"))
		if a.Applied(coalesce / 2) {
			t.Error("a second pass comes at once")
		}
		if !a.Applied(coalesce) || !s.opened(t).ask(arpRequest(t, client4, other)) {
			t.Error("the second address is not answered")
		}
		a.Set(other, on("eth7"))
		if !a.Applied(time.Second) {
			t.Error("a link that is missing is waited for")
		}
	})
}

// TestAppliedDoesNotWaitForEver: nobody applies what is set while the announcer does not run.
func TestAppliedDoesNotWaitForEver(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a.Set(vip4, on("eth0"))
	if a.Applied(time.Millisecond) {
		t.Error("it is in force, and nothing runs")
	}
}
