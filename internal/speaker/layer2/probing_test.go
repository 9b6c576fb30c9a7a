package layer2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// segment is the LAN that is asked for addresses.
type segment struct {
	mu      sync.Mutex
	holders map[string][]net.HardwareAddr // of every address, by the link they are asked on
	probers map[string][]net.HardwareAddr // who asks for it too, in the same way
	broken  map[string]error              // by link
	// behind are those on eth0 that hear only what a host asks, everything is one that
	// answers for all addresses when a host asks.
	behind     []net.HardwareAddr
	everything net.HardwareAddr
	unsourced  bool // there is no address to ask from
	asked      []prober.Question
}

// Ask makes the segment a prober. Like it, it takes its time.
func (s *segment) Ask(ctx context.Context, q prober.Question) (prober.Found, error) {
	s.mu.Lock()
	s.asked = append(s.asked, q)
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return prober.Found{}, ctx.Err()
	case <-time.After(time.Duration(q.Count) * q.Interval):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := prober.Found{Unsourced: q.AsHost && s.unsourced}
	if q.Addr == address {
		out.Holders, out.Probers = slices.Clone(s.holders[q.Link]), slices.Clone(s.probers[q.Link])
	}
	if q.AsHost && !s.unsourced {
		if q.Addr == address {
			out.Holders = append(out.Holders, s.behind...)
		}
		if s.everything != nil {
			out.Holders = append(out.Holders, s.everything)
		}
	}
	return out, s.broken[q.Link]
}

// has says who has the address on eth0.
func (s *segment) has(holders ...net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holders = map[string][]net.HardwareAddr{"eth0": holders}
}

// want says who asks for the address on eth0 too.
func (s *segment) want(probers ...net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probers = map[string][]net.HardwareAddr{"eth0": probers}
}

// breaks says with which error eth0 cannot be asked; nil for none.
func (s *segment) breaks(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = map[string]error{"eth0": err}
}

// questions is how often it was asked for the address, the last question of a round
// not counted.
func (s *segment) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.asked {
		if q.Addr == address && (q.Count > 1 || !q.AsHost) {
			n++
		}
	}
	return n
}

// controls are the other addresses that it was asked for.
func (s *segment) controls() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.Addr
	for _, q := range s.asked {
		if q.Addr != address {
			out = append(out, q.Addr)
		}
	}
	return out
}

// atOnce has an address reconciled without a queue.
type atOnce func(netip.Addr)

// Requeue implements Requeuer.
func (f atOnce) Requeue(addr netip.Addr) { f(addr) }

// RequeueAll implements Requeuer.
func (f atOnce) RequeueAll() uint64 { return 0 }

// Stats implements Prober.
func (*segment) Stats() prober.Stats { return prober.Stats{} }

// asks has node1 probe a segment before it announces. Each round takes 300 ms.
func (w *world) asks() (*probing, *segment) {
	s := &segment{}
	ctx, stop := context.WithCancel(w.t.Context())
	a := &probing{
		prober:     s,
		proxyHosts: w.proxyHosts(s),
		view:       w.c.view,
		log:        slog.New(slog.DiscardHandler),
		count:      3,
		interval:   100 * time.Millisecond,
		ctx:        ctx,
		queue: atOnce(func(addr netip.Addr) {
			if addr != address {
				w.t.Errorf("%s is reconciled", addr)
			}
			w.look()
		}),
	}
	w.c.view.probes, w.c.asking = true, a
	w.t.Cleanup(func() {
		stop()
		a.pending.Wait()
	})
	return a, s
}

// proxyHosts asks a segment for addresses that nobody should have.
func (w *world) proxyHosts(s *segment) *proxyFinder {
	return &proxyFinder{prober: s, view: w.c.view, known: map[hostOn]*control{}}
}

// after lets time go by and all that is due happen. What the test did before
// happens before what those do who get an answer after.
func (s *segment) after(d time.Duration) {
	s.questions()
	time.Sleep(d)
	synctest.Wait()
}

func TestFreeAddressIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		w.look()
		w.Did("192.0.2.10", true)
		lan.after(299 * time.Millisecond)
		if len(w.Given) > 0 {
			t.Errorf("the announcer was given %q before the LAN could answer", w.Given)
		}
		lan.after(time.Millisecond)
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		if want := []prober.Question{
			{Addr: address, Link: "eth0", Count: 2, Interval: 100 * time.Millisecond},
			{Addr: address, Link: "eth0", Count: 1, Interval: 100 * time.Millisecond, AsHost: true},
		}; !slices.Equal(lan.asked, want) {
			t.Errorf("asked %v", lan.asked)
		}
		lan.after(time.Hour)
		if lan.questions() != 1 {
			t.Errorf("asked %d times", lan.questions())
		}
		if got, _ := w.memory.took(address); got.cause != v1beta1.CauseFirst {
			t.Errorf("the cause is %q", got.cause)
		}
	})
}

// TestTakenAddressIsAskedForAgain: its Service is told once.
func TestTakenAddressIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		lan.has(net6(9))
		w.look()
		w.Did("192.0.2.10", true)
		lan.after(400 * time.Millisecond) // it is asked whether the host answers for every address
		w.Did("192.0.2.10", true, "web Warning Conflict")
		if got := w.memory.of(address).probe.Holder; got.String() != net6(9).String() {
			t.Errorf("%s has it", got)
		}

		lan.after(askAgain - time.Millisecond)
		if lan.questions() != 1 || len(lan.controls()) != controlCount {
			t.Errorf("asked %d times", lan.questions())
		}
		lan.after(201 * time.Millisecond)
		w.Did("192.0.2.10", false)

		lan.has()
		lan.after(askAgain + 300*time.Millisecond)
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		if lan.questions() != 3 || len(lan.controls()) != controlCount {
			t.Errorf("asked %d times, and for %v", lan.questions(), lan.controls())
		}
	})
}

// TestHostsBehindSuppression: who hears no probe hears the last question.
func TestHostsBehindSuppression(t *testing.T) {
	for _, test := range []struct {
		story string
		given func(*segment)
		event string
		says  string
	}{
		{"nobody", func(*segment) {}, "web Normal Announcing", ""},
		{"nobody, and this node has no address to ask from", func(s *segment) { s.unsourced = true },
			"web Normal Announcing",
			"Whether a host behind a switch that suppresses ARP or NDP has it is not known"},
		{"a host", func(s *segment) { s.behind = []net.HardwareAddr{net6(9)} }, "web Warning Conflict",
			"Another host has the address: 02:00:00:00:00:09."},
		{"a member", func(s *segment) { s.behind = []net.HardwareAddr{net6(2)} }, "web Normal Announcing",
			""},
		{"a router that answers for every address, and no probe", func(s *segment) { s.everything = net6(9) },
			"web Normal Announcing", ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), node("node1"))...)
				w.Publishes("node2")
				_, lan := w.asks()
				test.given(lan)
				w.look()
				lan.after(9 * time.Second)
				if len(w.Emitted) != 1 || w.Emitted[0] != test.event {
					t.Errorf("emitted %q, want %q", w.Emitted, test.event)
				}
				if got := w.memory.of(address).Message; !strings.Contains(got, test.says) ||
					!strings.Contains(w.Notes[0], test.says) {
					t.Errorf("the message is %q, the Event %q", got, w.Notes[0])
				}
			})
		})
	}
}

// TestAHostThatAnswersForEveryAddress is told as such, with the way out, also where
// it answers for many at once: it is asked about once.
func TestAHostThatAnswersForEveryAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		a, lan := w.asks()
		lan.has(net6(9))
		lan.everything = net6(9)
		w.look()
		lan.after(time.Second)
		w.Did("192.0.2.10", true, "web Warning Conflict")
		r := w.memory.of(address)
		for _, part := range []string{
			"02:00:00:00:00:09", r.probe.Everything.String(), "proxy ARP", "--conflict-probe-count=0",
		} {
			if !strings.Contains(r.Message, part) {
				t.Errorf("%q is not in the message %q", part, r.Message)
			}
		}
		if list := w.conflicts.list(); len(list) != 1 || !strings.Contains(list[0].message, r.Message) {
			t.Errorf("the conflicts are %+v", list)
		}
		if e := r.probe.Everything; !netip.MustParsePrefix("192.0.2.0/24").Contains(e) || e == address {
			t.Errorf("asked for %s", r.probe.Everything)
		}
		var asked sync.WaitGroup
		for range 100 {
			asked.Go(func() { a.proxyHosts.answers(t.Context(), address, []string{"eth0"}, net6(9)) })
		}
		asked.Wait()
		if got := lan.controls(); len(got) != controlCount {
			t.Errorf("asked for %v", got)
		}
	})
}

// TestHostsThatAnswerForAllAreBoundedAndForgotten: one host can make up others, and what is
// known of a host holds for a while, and not where it could not be asked.
func TestHostsThatAnswerForAllAreBoundedAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node("node1"))
		lan := &segment{everything: net6(9)}
		finder := w.proxyHosts(lan)
		answers := func(story string, mac net.HardwareAddr, want bool) {
			t.Helper()
			if got := finder.answers(t.Context(), address, []string{"eth0"}, mac); got.IsValid() != want {
				t.Errorf("%s: answers for %q as well", story, got)
			}
		}
		lan.breaks(prober.ErrLinkUnusable)
		answers("the link cannot be asked", net6(9), false)
		lan.breaks(nil)
		answers("the failure is not taken for an answer", net6(9), true)
		for n := range 2 * controlHosts {
			answers("another host", net.HardwareAddr{2, 0, 0, 1, byte(n >> 8), byte(n)}, false)
		}
		if n := len(finder.known); n != controlHosts {
			t.Errorf("%d hosts are known", n)
		}
		lan.everything = nil
		answers("it was set right, which is not known yet", net6(9), true)
		time.Sleep(controlMemory)
		answers("it was set right", net6(9), false)
	})
}

// TestNodesThatAnswerAreNamed: all are named, with the likely cause and what to do.
func TestNodesThatAnswerAreNamed(t *testing.T) {
	for _, test := range []struct {
		story string
		here  string // the interface of this node that has the address
		holds []net.HardwareAddr
		event string
		says  []string
	}{
		{"kube-proxy in IPVS mode", "kube-ipvs0", []net.HardwareAddr{net6(2), net6(3)},
			"web Warning AddressOtherNode",
			[]string{"Nodes node2, node3 answer for 192.0.2.10 as well", "strictARP: true"}},
		{"kube-router", "kube-dummy-if", []net.HardwareAddr{net6(3)}, "web Warning AddressOtherNode",
			[]string{"Node node3 answers", "does not claim it", "kube-router", "arp_ignore=1"}},
		{"an address left on an interface", "lo:1", []net.HardwareAddr{net6(2)},
			"web Warning AddressOtherNode",
			[]string{"Node node2 answers", "on its interface lo:1 as well", "take it off"}},
		{"another load balancer there", "", []net.HardwareAddr{net6(2)}, "web Warning AddressOtherNode",
			[]string{"Node node2 answers", "another load balancer", "strictARP", "import --take-over"}},
		{"a node without a speaker among them", "kube-ipvs0", []net.HardwareAddr{net6(2), net6(9)},
			"web Warning Conflict",
			[]string{"02:00:00:00:00:09, perhaps a node without a speaker", "Node node2 answers for it too",
				"strictARP: true"}},
		{"nothing but a node without a speaker", "kube-ipvs0", []net.HardwareAddr{net6(9)},
			"web Warning Conflict",
			[]string{"Another host has the address: 02:00:00:00:00:09", "If it is a node without a speaker",
				"strictARP: true"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), node("node1"))...)
				w.Publishes("node2")
				w.Publishes("node3")
				if test.here != "" {
					w.Local = append(w.Local, links.Link{
						Name:     test.here,
						NoARP:    true,
						Prefixes: []netip.Prefix{netip.PrefixFrom(address, 32)},
					})
				}
				_, lan := w.asks()
				lan.has(test.holds...)
				w.look()
				lan.after(9 * time.Second)
				if w.memory.of(address).Announce {
					w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
					w.Notes = nil
					w.conflicts.report()
				}
				if len(w.Emitted) != 1 || w.Emitted[0] != test.event {
					t.Fatalf("emitted %q, want %q", w.Emitted, test.event)
				}
				list := w.conflicts.list()
				if len(list) != 1 {
					t.Fatalf("the conflicts are %+v", list)
				}
				for _, part := range test.says {
					if !strings.Contains(w.Notes[0], part) || !strings.Contains(list[0].message, part) {
						t.Errorf("%q is not in the Event %q and the conflict %q",
							part, w.Notes[0], list[0].message)
					}
				}
			})
		})
	}
}

// TestMemberThatHasTheAddressGetsTime: gossip should soon tell of it. Only one
// that goes on is told of.
func TestMemberThatHasTheAddressGetsTime(t *testing.T) {
	const try, free = 200 * time.Millisecond, 300 * time.Millisecond
	for _, test := range []struct {
		story  string
		holder net.HardwareAddr
		tries  int // for which the member has it
		events []string
	}{
		{"for a moment", net6(2), 1, []string{"web Normal Announcing"}},
		{"until the last try", net6(2), memberTries - 1, []string{"web Normal Announcing"}},
		{"for longer", net6(2), memberTries, []string{"web Normal Announcing"}},
		{"it is this node itself", net6(1), memberTries, []string{"web Normal Announcing"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), node("node1"))...)
				w.Publishes("node2")
				_, lan := w.asks()
				lan.has(test.holder)
				w.look()
				w.Did("192.0.2.10", true)
				lan.after(time.Duration(test.tries-1)*(try+askMemberAgain) + try + time.Millisecond)
				if told := len(w.Emitted) > 0; told != (test.tries == memberTries) {
					t.Errorf("emitted %q after %d tries", w.Emitted, test.tries)
				}
				lan.has()
				lan.after(askMemberAgain + free)
				if !slices.Equal(w.Emitted, test.events) {
					t.Errorf("emitted %q, want %q", w.Emitted, test.events)
				}
			})
		})
	}
}

// TestAnnouncesBesideAnotherProgram: another load balancer has the address on node2, and Berth
// there does not claim it. It is announced quietly, which is told once, and openly when the
// other is gone. A stranger that comes meanwhile is not taken for the other.
func TestAnnouncesBesideAnotherProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
		w.Publishes("node2", "stage=leaving") // not elected
		_, lan := w.asks()
		lan.has(net6(2))
		w.look()
		lan.after(5 * time.Second)
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		manner := func() announcer.Manner { return w.Requests[address].Manner }
		w.claims("1")
		if got, _ := w.memory.took(address); got.cause != v1beta1.CauseFirst {
			t.Errorf("the cause is %q", got.cause)
		}

		for range 2 {
			w.hears("192.0.2.10", "eth0", 2, true, time.Minute) // it announces it unasked
			w.conflicts.report()
			want := []string{"192.0.2.10 OtherNode " + net6(2).String()}
			if got := w.inConflict(); !slices.Equal(got, want) {
				t.Errorf("in conflict is %q", got)
			}
		}
		if want := []string{"web Warning AddressOtherNode"}; !slices.Equal(w.Emitted, want) {
			t.Errorf("emitted %q, want %q", w.Emitted, want)
		}
		w.Heard, w.Emitted = nil, nil
		asked := lan.questions()
		lan.after(time.Minute)
		if n := lan.questions() - asked; n < 5 || n > 7 || manner() != announcer.Quietly {
			t.Errorf("asked %d times in a minute, announced in manner %d", n, manner())
		}

		lan.has()
		lan.after(askAgain + time.Second)
		w.Did("192.0.2.10 eth0", true)
		if manner() != announcer.Openly {
			t.Errorf("announced in manner %d", manner())
		}
		w.conflicts.report()
		if got := w.inConflict(); len(got) > 0 || len(w.Emitted) > 0 {
			t.Errorf("in conflict is %q, emitted %q", got, w.Emitted)
		}
		asked = lan.questions()
		lan.after(time.Hour)
		if lan.questions() != asked {
			t.Error("asked although the other is gone")
		}
		w.claims("1")
	})
}

// TestNodesThatAskAtTheSameTime: each takes the other's question for what it is. The
// first in the order of the election announces the address, and the other waits
// for its word, for however long.
func TestNodesThatAskAtTheSameTime(t *testing.T) {
	names := map[string]byte{"node1": 1, "node2": 2, "node3": 3}
	var announce []string
	for self := range names {
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, self, append(service("web"), node("node1"), node("node2"), node("node3"))...)
			_, lan := w.asks()
			var others []net.HardwareAddr
			for name, n := range names {
				if name != self {
					// Each has reasons of its own to think that it is the owner.
					w.Publishes(name, "stage=leaving")
					others = append(others, net6(n))
				}
			}
			lan.want(others...)
			w.look()
			lan.after(time.Minute)
			if slices.ContainsFunc(w.Emitted, func(e string) bool { return strings.Contains(e, "Warning") }) {
				t.Errorf("%s emitted %q", self, w.Emitted)
			}
			if w.memory.of(address).Announce {
				announce = append(announce, self)
				return
			}
			// The other does not want it any more.
			lan.want()
			lan.after(2 * time.Second)
			if !w.memory.of(address).Announce {
				t.Errorf("%s: %s", self, w.reason())
			}
		})
	}
	if len(announce) != 1 {
		t.Errorf("%q announce it", announce)
	}
}

func TestAddressIsAskedForUntilThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		lan.breaks(prober.ErrLinkUnusable)
		w.look()
		w.Did("192.0.2.10", true)
		lan.after(time.Minute)
		if n := lan.questions(); n < 10 || n > 100 {
			t.Errorf("asked %d times within a minute", n)
		}
		lan.breaks(nil)
		lan.after(2 * time.Second)
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
}

// TestAddressThatIsNotWantedIsNotAskedFor: its Service has no endpoint any
// more. When it has one again, the LAN is asked anew.
func TestAddressThatIsNotWantedIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		lan.has(net6(9))
		w.look()
		lan.after(time.Second)
		w.ready("web", false)
		w.look()
		lan.after(time.Hour)
		if lan.questions() != 1 {
			t.Errorf("asked %d times", lan.questions())
		}
		if got := w.memory.of(address).probe; got.State != announcement.ProbeNone || got.Holder != nil {
			t.Errorf("remembered is %+v", got)
		}
		lan.has()
		w.ready("web", true)
		w.look()
		w.Given, w.Emitted = nil, nil
		w.IsStale()
		lan.after(300 * time.Millisecond)
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
}

// TestAskingEndsWithTheSpeaker: what it found meanwhile does not count.
func TestAskingEndsWithTheSpeaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		a, lan := w.asks()
		ctx, stop := context.WithCancel(t.Context())
		a.ctx = ctx
		w.look()
		w.Did("192.0.2.10", true)
		done := make(chan error)
		go func() { done <- a.run(ctx) }()
		lan.after(100 * time.Millisecond)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(w.Given) > 0 {
			t.Errorf("the announcer was given %q", w.Given)
		}
	})
}

// TestWhoHasAnAddressOnSeveralLinks: one answer is enough to know that it is
// taken, one link that could be asked to take it for free.
func TestWhoHasAnAddressOnSeveralLinks(t *testing.T) {
	away := errors.New("away")
	for _, test := range []struct {
		story   string
		holders map[string][]net.HardwareAddr
		broken  map[string]error
		want    string
	}{
		{"nobody", nil, nil, " <nil>"},
		{"a host on one", map[string][]net.HardwareAddr{"eth1": {net6(9)}}, nil, "02:00:00:00:00:09 <nil>"},
		{"hosts on both", map[string][]net.HardwareAddr{"eth0": {net6(9)}, "eth1": {net6(7), net6(8)}}, nil,
			"02:00:00:00:00:07 <nil>"},
		{"nobody on one, and the other cannot be asked", nil, map[string]error{"eth0": away}, " <nil>"},
		{"a host on one, and the other cannot be asked", map[string][]net.HardwareAddr{"eth1": {net6(9)}},
			map[string]error{"eth0": away}, "02:00:00:00:00:09 <nil>"},
		{"neither can be asked", nil, map[string]error{"eth0": away, "eth1": away},
			" no link could be asked: away\naway"},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lan := &segment{holders: test.holders, broken: test.broken}
				a := &probing{prober: lan, ctx: t.Context(), count: 1, interval: time.Second}
				found, err := a.ask(address, []string{"eth0", "eth1"})
				first := net.HardwareAddr(nil)
				if len(found.Holders) > 0 {
					first = found.Holders[0]
				}
				if got := fmt.Sprint(first, " ", err); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
