package bgp

import (
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/bgp"
)

// TestNotificationOfARouterIsReported: what a router said stays beside what attempts fail
// with afterwards, and is written when it changes and not else; what is left out for a
// router is told while there is a session.
func TestNotificationOfARouterIsReported(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", nil))
	w.planned()
	const word = `cease: administrative shutdown ("till noon")`
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	failing := func(seconds int, why string) bgp.Session {
		return bgp.Session{
			Peer: "tor", State: bgp.SessionConnecting, Since: at(0), LastError: why, LastErrorAt: at(seconds),
			Notification: word, NotificationAt: at(1),
		}
	}
	up := failing(30, "connection refused")
	up.State, up.Omitted = bgp.SessionEstablished, "FQDN, Graceful Restart"
	for _, step := range []struct {
		story   string
		now     bgp.Session
		omitted []string
		told    bool
	}{
		{"the router refuses a session", failing(1, "the router says: "+word), nil, true},
		{"nobody listens then", failing(2, "connection refused"), nil, true},
		{"for long", failing(20, "connection refused"), nil, false},
		{"it is up, with less", up, []string{"FQDN", "Graceful Restart"}, true},
	} {
		w.isStale()
		w.bgp.says(step.now)
		w.routes.follow()
		got := w.sessions.object().Sessions[0]
		if got.LastNotification != word || !got.LastNotificationTime.Equal(new(kube.Time(at(1)))) ||
			!slices.Equal(got.OmittedCapabilities, step.omitted) || w.isStale() != step.told {
			t.Errorf("%s: %+v", step.story, got)
		}
	}
}
