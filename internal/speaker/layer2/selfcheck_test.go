package layer2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// checks has node1 check what members announce.
func (w *world) checks() (*selfCheck, *segment) {
	s := &segment{}
	return &selfCheck{
		proxyHosts: w.proxyHosts(s),
		view:       w.c.view,
		prober:     s,
		conflicts:  w.conflicts,
		status:     w.Status,
		log:        slog.New(slog.DiscardHandler),
		interval:   time.Minute,
	}, s
}

// memberOwns is a world in which node2 owns address and node1 checks that.
func memberOwns(t *testing.T) *world {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=5")
	w.look()
	w.Did("192.0.2.10", true)
	return w
}

// judged is what is wrong when these answer for an address that node2 owns.
func (w *world) judged(a answers) *conflict {
	ch := check{addressOn: addressOn{address, "eth0"}, owner: "node2", mac: net6(2)}
	a.other = w.c.view.host(ch.wrong(a.macs, w.tracker.NodeOf))
	return ch.judge(a, start)
}

func TestJudgeAnswers(t *testing.T) {
	owner, third, stranger := net6(2), net6(3), net6(9)
	for _, test := range []struct {
		story   string
		holders []net.HardwareAddr
		kind    v1beta1.ConflictKind
		mac     string
		says    string // in its message
	}{
		{"the owner", []net.HardwareAddr{owner}, "", "", ""},
		{"nobody", nil, v1beta1.ConflictUnanswered, "",
			"Nobody answers for 192.0.2.10, which node node2 announces"},
		{"a stranger beside the owner", []net.HardwareAddr{owner, stranger}, v1beta1.ConflictDuplicate,
			stranger.String(), "Another host (02:00:00:00:00:09)"},
		{"a member beside the owner", []net.HardwareAddr{owner, third}, v1beta1.ConflictOtherNode,
			third.String(), "Node node3 (02:00:00:00:00:03) answers for 192.0.2.10 beside node node2"},
		{"a member and a stranger beside the owner", []net.HardwareAddr{owner, third, stranger},
			v1beta1.ConflictDuplicate, stranger.String(), "Another host (02:00:00:00:00:09)"},
		{"a member and a stranger in its place", []net.HardwareAddr{third, stranger},
			v1beta1.ConflictForeignHost, stranger.String(), "Another host (02:00:00:00:00:09)"},
		{"a stranger alone", []net.HardwareAddr{stranger}, v1beta1.ConflictForeignHost, stranger.String(),
			"Another host (02:00:00:00:00:09)"},
		{"a member alone", []net.HardwareAddr{third}, v1beta1.ConflictOtherNode, third.String(),
			"Node node3 (02:00:00:00:00:03)"},
		{"this node", []net.HardwareAddr{net6(1)}, v1beta1.ConflictOtherNode, net6(1).String(), "Node node1"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			w.Publishes("node2")
			w.Publishes("node3")
			w.see()
			got := w.judged(answers{macs: test.holders})
			if test.kind == "" {
				if got != nil {
					t.Errorf("got %+v", got)
				}
				return
			}
			if got == nil {
				t.Fatal("nothing is wrong")
			}
			if got.kind != test.kind || got.other.mac.String() != test.mac || got.owner != "node2" {
				t.Errorf("got %+v", got)
			}
			if got.addressOn != (addressOn{address, "eth0"}) || !got.since.Equal(start) {
				t.Errorf("got %+v", got)
			}
			if !strings.Contains(got.message, test.says) {
				t.Errorf("the message is %q, want %q in it", got.message, test.says)
			}
		})
	}
}

// TestWhyAnotherAnswers: the message says it, with what to do.
func TestWhyAnotherAnswers(t *testing.T) {
	control := netip.MustParseAddr("192.0.2.77")
	for _, test := range []struct {
		story   string
		holders []net.HardwareAddr
		why     answers
		says    string
	}{
		{"a node, in IPVS mode", []net.HardwareAddr{net6(2), net6(3)}, answers{here: "kube-ipvs0"},
			"strictARP: true"},
		{"a node, nothing more is known", []net.HardwareAddr{net6(2), net6(3)}, answers{}, "keepalived"},
		{"a router with proxy ARP", []net.HardwareAddr{net6(2), net6(9)}, answers{everything: control},
			"for any address, also for 192.0.2.77"},
		{"the owner's own bond", []net.HardwareAddr{net6(9)}, answers{balances: true}, "balance-alb"},
		{"nobody", nil, answers{}, "promiscuous"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			w.Publishes("node2")
			w.Publishes("node3")
			w.see()
			test.why.macs = test.holders
			got := w.judged(test.why)
			if got == nil || !strings.Contains(got.message, test.says) {
				t.Errorf("%q is not in %+v", test.says, got)
			}
		})
	}
}

// TestAddressesOfPresentMembersAreChecked: addresses of members that are present, by one
// speaker that is on their LAN.
func TestAddressesOfPresentMembersAreChecked(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*world)
		want   int
	}{
		{"a member owns it", func(*world) {}, 1},
		{"the member restarts", func(w *world) {
			w.Publishes("node2", "claim/192.0.2.10=5", "stage=restarting")
		}, 0},
		{"the member is to own it, and does not announce it yet", func(w *world) {
			w.Publishes("node2")
			clustertest.Change(t, w.api, "node1", &corev1.Node{}, func(n *corev1.Node) {
				n.Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
			})
		}, 0},
		{"this node owns it", func(w *world) { w.died("node2", false) }, 0},
		{"this node is on another LAN", func(w *world) {
			w.Local = []links.Link{link("eth0", "198.51.100.1/24")}
		}, 0},
		{"this node leaves", func(w *world) { w.tracker.SetStage(announcement.StageLeaving) }, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := memberOwns(t)
			c, _ := w.checks()
			// What was found before does not stay for ever.
			at := addressOn{address, "eth0"}
			w.conflicts.record(at, &conflict{addressOn: at, kind: v1beta1.ConflictUnanswered, owner: "node2"})
			test.change(w)
			w.look()
			w.IsStale()
			checks := c.checks()
			if len(checks) != test.want {
				t.Fatalf("to check are %+v", checks)
			}
			for _, ch := range checks {
				if ch.addressOn != at || ch.owner != "node2" || ch.mac.String() != net6(2).String() {
					t.Errorf("to check is %+v", ch)
				}
			}
			if left := len(w.conflicts.list()); left != test.want || w.IsStale() != (test.want == 0) {
				t.Errorf("%d conflicts are left", left)
			}
		})
	}
}

// TestEveryAddressIsCheckedByOneSpeaker, and not by its owner.
func TestEveryAddressIsCheckedByOneSpeaker(t *testing.T) {
	checked := 0
	for _, self := range []string{"node1", "node2", "node3"} {
		objects := append(service("web"), node("node1"), node("node2"), node("node3"), node("node4"))
		w := newWorldOf(t, self, objects...)
		w.Others = map[string]membership.Member{}
		for _, name := range []string{"node1", "node2", "node3"} {
			w.Publishes(name)
		}
		w.Publishes("node4", "claim/192.0.2.10=5")
		delete(w.Others, self)
		w.look()
		c, _ := w.checks()
		checked += len(c.checks())
	}
	if checked != 1 {
		t.Errorf("%d speakers check it", checked)
	}
}

// TestConflictIsReportedWhenFoundTwice: what is wrong is reported when it is found twice.
func TestConflictIsReportedWhenFoundTwice(t *testing.T) {
	dead := []net.HardwareAddr(nil)
	right := []net.HardwareAddr{net6(2)}
	away := errors.New("away")
	for _, test := range []struct {
		story     string
		first     []net.HardwareAddr
		meanwhile func(*world, *segment)
		questions int
		events    int
		found     v1beta1.ConflictKind
	}{
		{"all is right", right, nil, 1, 0, ""},
		{"nobody answers", dead, nil, 2, 1, v1beta1.ConflictUnanswered},
		{"it was just moving", dead, func(_ *world, s *segment) { s.has(right...) }, 2, 0, ""},
		{"nobody answered, and then a stranger", dead, func(_ *world, s *segment) { s.has(net6(9)) }, 2, 1,
			v1beta1.ConflictForeignHost},
		{"the LAN cannot be asked again", dead, func(_ *world, s *segment) { s.breaks(away) }, 2, 0, ""},
		{"its owner claims it anew", dead,
			func(w *world, _ *segment) { w.Publishes("node2", "claim/192.0.2.10=6"); w.look() }, 2, 0, ""},
		{"its owner dies", dead, func(w *world, _ *segment) {
			w.died("node2", false)
			w.look()
			w.Emitted = nil
		}, 2, 0, ""},
		{"its owner's speaker dies, and no address was reconciled yet", dead,
			func(w *world, _ *segment) { w.died("node2", true); w.see() }, 2, 0, ""},
		{"it is another node's by now", dead, func(w *world, _ *segment) {
			w.Publishes("node3", "claim/192.0.2.10=6")
			if err := w.api.Create(w.t.Context(), node("node3")); err != nil {
				w.t.Error(err)
			}
			w.look()
		}, 2, 0, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := memberOwns(t)
				c, lan := w.checks()
				lan.has(test.first...)
				done := make(chan struct{})
				go func() {
					defer close(done)
					c.round(t.Context())
				}()
				lan.after(time.Second)
				if len(w.conflicts.list()) > 0 || len(w.Emitted) > 0 {
					t.Errorf("what was found once is reported: %v", w.conflicts.list())
				}
				if test.meanwhile != nil {
					test.meanwhile(w, lan)
				}
				lan.after(time.Hour)
				<-done
				kind := v1beta1.ConflictKind("")
				if list := w.conflicts.list(); len(list) > 0 {
					kind = list[0].kind
				}
				if kind != test.found || len(w.Emitted) != test.events {
					t.Errorf("found %q, want %q; Events %q", kind, test.found, w.Emitted)
				}
				if lan.questions() != test.questions {
					t.Errorf("asked %d times, want %d", lan.questions(), test.questions)
				}
			})
		})
	}
}

// TestConflictFoundByChecksEnds: it is reported once, and forgotten when the owner
// answers.
func TestConflictFoundByChecksEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := memberOwns(t)
		c, lan := w.checks()
		for range 3 {
			c.round(t.Context())
		}
		if len(w.Emitted) != 1 || w.Emitted[0] != "web Warning AddressUnanswered" || !w.IsStale() {
			t.Errorf("emitted %q", w.Emitted)
		}
		lan.has(net6(2))
		c.round(t.Context())
		if list := w.conflicts.list(); len(list) > 0 || !w.IsStale() {
			t.Errorf("there are %v", list)
		}
		if counted := w.conflicts.counted(); len(counted) != 1 || counted[v1beta1.ConflictUnanswered] != 1 {
			t.Errorf("counted are %v", counted)
		}
	})
}

func TestChecksComeAgainAndAgainUntilTheEnd(t *testing.T) {
	for _, test := range []struct {
		story       string
		interval    time.Duration
		least, most int // in an hour
	}{
		{"every minute, more or less", time.Minute, 48, 80},
		{"never", 0, 0, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := memberOwns(t)
				c, lan := w.checks()
				c.interval = test.interval
				lan.has(net6(2))
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				if err := c.run(ctx); err != nil {
					t.Error(err)
				}
				if n := lan.questions(); n < test.least || n > test.most {
					t.Errorf("checked %d times in an hour", n)
				}
			})
		})
	}
}
