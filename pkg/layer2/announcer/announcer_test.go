package announcer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// segment is a fake kernel: it opens sockets and records what happens to them.
type segment struct {
	start  time.Time
	booted time.Time

	mu      sync.Mutex
	sockets []*fakeSocket
	refuse  error // of the next opens
	noJoin  error // of the next joins
	slept   time.Duration
}

// sinceBoot is the clock of the fake machine.
func (s *segment) sinceBoot() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.booted) + s.slept
}

// sent is one frame on the wire.
type sent struct {
	after time.Duration
	link  string
	frame []byte
}

type fakeSocket struct {
	segment *segment
	spec    neighbor.Spec
	in      chan []byte
	broken  chan error

	mu      sync.Mutex
	out     []sent
	filters int
	promisc bool
	groups  []netip.Addr
	closed  bool
}

func (s *segment) open(spec neighbor.Spec) (socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	f := &fakeSocket{segment: s, spec: spec, in: make(chan []byte), broken: make(chan error, 1)}
	s.sockets = append(s.sockets, f)
	return f, nil
}

func (f *fakeSocket) Receive(b []byte, _ time.Time) (int, error) {
	select {
	case frame := <-f.in:
		return copy(b, frame), nil
	case err := <-f.broken:
		return 0, err
	}
}

func (f *fakeSocket) Send(frame []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.out = append(f.out, sent{time.Since(f.segment.start), f.spec.Link.Name, frame})
	return nil
}

func (f *fakeSocket) SetFilter([]bpf.Instruction) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filters++
	return nil
}

func (f *fakeSocket) SetPromiscuous(on bool) error {
	f.segment.mu.Lock()
	err := f.segment.noJoin
	f.segment.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.promisc = on
	}
	return err
}

func (f *fakeSocket) Join(group netip.Addr) error {
	f.segment.mu.Lock()
	err := f.segment.noJoin
	f.segment.mu.Unlock()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups = append(f.groups, group)
	return nil
}

func (f *fakeSocket) Leave(group netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups = slices.DeleteFunc(f.groups, func(g netip.Addr) bool { return g == group })
	return nil
}

func (f *fakeSocket) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.broken <- io.EOF
	return nil
}

// set changes what the fake kernel refuses.
func (s *segment) set(refuse, noJoin error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse, s.noJoin = refuse, noJoin
}

func (s *segment) all() []*fakeSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sockets)
}

// opened returns the only open socket.
func (s *segment) opened(t *testing.T) *fakeSocket {
	t.Helper()
	var out *fakeSocket
	for _, f := range s.all() {
		f.mu.Lock()
		if !f.closed {
			if out != nil {
				t.Fatal("more than one socket is open")
			}
			out = f
		}
		f.mu.Unlock()
	}
	if out == nil {
		t.Fatal("no socket is open")
	}
	return out
}

// frames returns and forgets what was sent.
func (s *segment) frames() []sent {
	var out []sent
	for _, f := range s.all() {
		f.mu.Lock()
		out = append(out, f.out...)
		f.out = nil
		f.mu.Unlock()
	}
	return out
}

// times returns when frames were sent, each time once.
func (s *segment) times() []time.Duration {
	var out []time.Duration
	for _, f := range s.frames() {
		out = append(out, f.after)
	}
	return slices.Compact(out)
}

// ask puts a request on the wire and returns whether there was a reply.
func (f *fakeSocket) ask(frame []byte) bool {
	f.mu.Lock()
	before := len(f.out)
	f.mu.Unlock()
	f.in <- frame
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.out) > before
}

// on asks for an address to be announced on links, with nothing else said.
func on(links ...string) Request { return Request{Links: links} }

// bubble runs a story about an announcer with fake time and sockets.
func bubble(t *testing.T, config Config, story func(t *testing.T, a *Announcer, s *segment)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &segment{start: time.Now(), booted: time.Now()}
		a, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		a.open = s.open
		// The beats are in fake time, and so is the clock that judges them.
		a.guard.clock = s.sinceBoot
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		synctest.Wait()
		story(t, a, s)
		cancel()
		synctest.Wait()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		for _, f := range s.all() {
			if !f.closed {
				t.Errorf("a socket on %s was left open", f.spec.Link.Name)
			}
		}
	})
}

const ms = time.Millisecond

func TestAnAddressIsAnnouncedAtOnceAndAgain(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		pause(20 * ms)
		s.start = time.Now()
		a.Set(vip4, on("eth0"))
		synctest.Wait()
		if got := s.frames(); len(got) != 2 || got[0].frame[21] != 1 || got[1].frame[21] != 2 {
			t.Fatalf("at once: %v, want a request and a reply", got)
		}
		pause(10 * time.Second)
		want := []time.Duration{500 * ms, 1000 * ms, 1500 * ms, 2000 * ms}
		if got := s.times(); !slices.Equal(got, want) {
			t.Errorf("again at %v, want %v", got, want)
		}
		a.Set(vip4, on("eth0"))
		a.SetLinks([]links.Link{lan(2, "eth0", "192.0.2.7/24")})
		pause(10 * time.Second)
		if got := s.times(); len(got) > 0 {
			t.Errorf("nothing changed, and it was announced at %v", got)
		}
		if n := total(a.Stats()).Gratuitous; n != 10 {
			t.Errorf("%d gratuitous frames counted, want 10", n)
		}
	})
}

func TestAWithdrawnAddressIsNotAnsweredWhenSetReturns(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		a.Set(foreign4, on("eth0"))
		pause(3 * time.Second)
		sock := s.opened(t)
		if !sock.ask(arpRequest(t, client4, vip4)) {
			t.Error("no answer while announced")
		}
		a.Set(vip4, Request{})
		if sock.ask(arpRequest(t, client4, vip4)) {
			t.Error("answered after it was withdrawn")
		}
		if !sock.ask(arpRequest(t, client4, foreign4)) {
			t.Error("the other address is not answered any more")
		}
		a.Set(foreign4, Request{Links: []string{}})
		pause(time.Second)
		if !sock.closed {
			t.Error("the socket is open without any address")
		}
		got := total(a.Stats()).Verdicts
		if got[Answered] != 2 || got[NotAnnounced] != 1 {
			t.Errorf("verdicts %v", got)
		}
	})
}

func TestAWithdrawnAddressIsNotRepeated(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(700 * ms)
		s.frames()
		a.Set(vip4, Request{})
		pause(10 * time.Second)
		if got := s.times(); len(got) > 0 {
			t.Errorf("announced at %v after it was withdrawn", got)
		}
	})
}

func TestAnAddressThatLeavesAndReturnsIsAnnouncedAnew(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		s.frames()
		// Too quick for the sockets to notice.
		a.Set(vip4, Request{})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		if got := s.frames(); len(got) != 2 {
			t.Errorf("%d frames, want a burst: another node may have announced it in between", len(got))
		}
	})
}

func TestLinksComeAndGo(t *testing.T) {
	up := lan(2, "eth0")
	tests := []struct {
		story   string
		then    links.Link
		reopens bool
	}{
		{"the cable is pulled and put back", up, true},
		{"the link was made again", lan(7, "eth0"), true},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
				a.SetLinks([]links.Link{up})
				a.Set(vip4, on("eth0"))
				pause(time.Second)
				s.frames()
				first := s.opened(t)
				a.SetLinks([]links.Link{but(up, func(l *links.Link) { l.Up = false })})
				pause(time.Second)
				if !first.closed {
					t.Error("the socket is open on a dead link")
				}
				want := []Announcement{{Addr: vip4, Link: "eth0", Problem: ProblemLinkDown}}
				if diff := diffAnnouncements(want, a.State()); diff != "" {
					t.Error(diff)
				}
				a.SetLinks([]links.Link{tt.then})
				pause(time.Second)
				if got := s.frames(); len(got) != 2 {
					t.Errorf("%d frames after the link is back, want a burst", len(got))
				}
				if got := s.opened(t).spec.Link.Index; got != tt.then.Index {
					t.Errorf("the socket is on link index %d, want %d", got, tt.then.Index)
				}
			})
		})
	}
}

func TestANewEthernetAddressIsAnnounced(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		a.Set(vip6, on("eth0"))
		pause(time.Second)
		s.frames()
		a.SetLinks([]links.Link{but(lan(2, "eth0"), func(l *links.Link) { l.HardwareAddr = otherMAC })})
		pause(time.Second)
		got := s.frames()
		if len(got) != 3 {
			t.Fatalf("%d frames, want two of ARP and one of NDP", len(got))
		}
		for _, f := range got {
			if source := net.HardwareAddr(f.frame[6:12]); source.String() != otherMAC.String() {
				t.Errorf("announced from %s", source)
			}
		}
	})
}

func TestLinksThatAreNotThereYetAreRemembered(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.Set(vip6, on("eth1", "eth0", "eth1"))
		pause(time.Second)
		want := []Announcement{
			{Addr: vip6, Link: "eth0", Problem: ProblemLinkMissing},
			{Addr: vip6, Link: "eth1", Problem: ProblemLinkMissing},
		}
		if diff := diffAnnouncements(want, a.State()); diff != "" {
			t.Error(diff)
		}
		a.SetLinks([]links.Link{lan(2, "eth0"), lan(3, "eth1")})
		pause(time.Second)
		for _, f := range s.all() {
			if !slices.Equal(f.groups, []netip.Addr{vip6SNM}) {
				t.Errorf("groups on %s: %v", f.spec.Link.Name, f.groups)
			}
		}
		for _, got := range a.State() {
			if got.Problem != "" || got.Since.IsZero() {
				t.Errorf("state %+v", got)
			}
		}
		a.SetLinks([]links.Link{lan(3, "eth1")})
		pause(time.Second)
		if got := a.State()[0]; got.Problem != ProblemLinkMissing || !got.Since.IsZero() {
			t.Errorf("state after eth0 went: %+v", got)
		}
	})
}

// diffAnnouncements compares everything but the time.
func diffAnnouncements(want, got []Announcement) string {
	for i := range got {
		got[i].Since, got[i].Announced = time.Time{}, time.Time{}
	}
	return cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
}

func TestAGroupIsLeftWithItsLastAddress(t *testing.T) {
	twin := netip.MustParseAddr("2001:db8:0:1::10:1")
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		for _, addr := range []netip.Addr{vip6, twin, foreign6} {
			a.Set(addr, on("eth0"))
		}
		pause(time.Second)
		sock := s.opened(t)
		if len(sock.groups) != 2 {
			t.Errorf("groups %v, want two for three addresses", sock.groups)
		}
		a.Set(vip6, Request{})
		pause(time.Second)
		if !slices.Contains(sock.groups, vip6SNM) {
			t.Errorf("groups %v: the twin needs %s", sock.groups, vip6SNM)
		}
		a.Set(twin, Request{})
		pause(time.Second)
		if slices.Contains(sock.groups, vip6SNM) {
			t.Errorf("groups %v: nobody needs %s", sock.groups, vip6SNM)
		}
	})
}

func TestAGroupThatCannotBeJoinedIsTriedAgain(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		s.set(nil, errors.New("no IPv6 on this link yet"))
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip6, on("eth0"))
		pause(50 * ms)
		sock := s.opened(t)
		if !sock.ask(solicit(t, solicitation{Destination: vip6, ToMAC: lanMAC})) {
			t.Error("unicast solicitations are not answered without the group")
		}
		s.set(nil, nil)
		pause(time.Second)
		if len(sock.groups) != 1 {
			t.Errorf("groups %v", sock.groups)
		}
	})
}

// TestALinkIsPromiscuousWhileAnAddressWantsIt, and when the kernel refuses that, the
// addresses are announced all the same and it is tried again.
func TestALinkIsPromiscuousWhileAnAddressWantsIt(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		is := func(story string, want bool) {
			t.Helper()
			pause(50 * ms)
			if got := s.opened(t).promisc; got != want {
				t.Errorf("%s: it is promiscuous: %t", story, got)
			}
		}
		wants := on("eth0")
		wants.Promiscuous = true
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		is("nobody wants it", false)
		s.set(nil, errors.New("not with this driver"))
		a.Set(foreign4, wants)
		is("it is refused", false)
		if !s.opened(t).ask(arpRequest(t, client4, foreign4)) {
			t.Error("not answered")
		}
		s.set(nil, nil)
		pause(time.Second)
		is("one of two wants it", true)
		a.Set(vip4, wants)
		is("both want it", true)
		a.Set(foreign4, Request{})
		is("one is left that wants it", true)
		a.Set(vip4, on("eth0"))
		is("none wants it any more", false)
	})
}

func TestAFailedSocketIsOpenedAgain(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		first := s.opened(t)
		s.set(errors.New("no such device"), nil)
		first.broken <- errors.New("network is down")
		pause(50 * ms)
		if got := a.State(); got[0].Problem != ProblemSocket {
			t.Errorf("state %+v", got)
		}
		// 100 ms, 200 ms, 400 ms and so on: the time is 1.55 s by now.
		pause(1500 * ms)
		if got := total(a.Stats()).Failures; got != 5 {
			t.Errorf("%d failures, want one and four more tries", got)
		}
		s.set(nil, nil)
		s.frames()
		a.SetLinks([]links.Link{lan(2, "eth0")})
		synctest.Wait()
		if len(s.frames()) != 2 || a.State()[0].Problem != "" {
			t.Error("a new link snapshot does not open the socket at once")
		}
	})
}

func TestASocketThatKeepsFailingDoesNotSpin(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		for range 600 {
			pause(100 * ms)
			for _, f := range s.all() {
				f.mu.Lock()
				if !f.closed && len(f.broken) == 0 {
					f.broken <- errors.New("network is down")
				}
				f.mu.Unlock()
			}
		}
		if n := len(s.all()); n < 8 || n > 20 {
			t.Errorf("%d sockets in a minute", n)
		}
	})
}

func TestThousandsOfAddressesArePacedAndCoalesced(t *testing.T) {
	const count = 2000
	bubble(t, Config{BurstCount: 2}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		pause(time.Second)
		s.start = time.Now()
		addr := netip.MustParseAddr("10.0.0.1")
		for range count {
			a.Set(addr, on("eth0"))
			addr = addr.Next()
		}
		pause(5 * time.Second)
		sock := s.opened(t)
		if sock.filters > 5 {
			t.Errorf("the filter was set %d times for %d calls", sock.filters, count)
		}
		frames := s.frames()
		if len(frames) != count*2*2 {
			t.Fatalf("%d frames, want %d", len(frames), count*2*2)
		}
		if took := frames[2*count-1].after; took > 250*ms {
			t.Errorf("the last address was first announced after %s", took)
		}
		perTick := make(map[time.Duration]int)
		first := make(map[[4]byte]time.Duration)
		for _, f := range frames {
			perTick[f.after.Truncate(50*ms)]++
			vip := [4]byte(f.frame[28:32])
			if _, ok := first[vip]; !ok {
				first[vip] = f.after
			}
		}
		for tick, n := range perTick {
			// 10000 announcements a second of two frames, and the initial depth.
			if n > 1000+2*101 {
				t.Errorf("%d frames within 50 ms from %s", n, tick)
			}
		}
		if len(first) != count {
			t.Errorf("%d addresses were announced", len(first))
		}
	})
}

// Thousands of repetitions are spread over seconds, and a new address does not
// wait for them.
func TestRepetitionsAreNoStorm(t *testing.T) {
	const count = 3000
	bubble(t, Config{BurstCount: 2}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		pause(time.Second)
		s.start = time.Now()
		addr := netip.MustParseAddr("10.0.0.1")
		for range count {
			a.Set(addr, on("eth0"))
			addr = addr.Next()
		}
		pause(time.Second)
		begin := time.Now()
		a.Set(vip6, on("eth0"))
		pause(100 * ms)
		for _, got := range a.State() {
			if got.Addr == vip6 && (got.Announced.IsZero() || got.Announced.Sub(begin) > 20*ms) {
				t.Errorf("a new address is first announced at %s", got.Announced.Sub(begin))
			}
		}
		pause(5 * time.Second)
		perSecond := make(map[time.Duration]int)
		seen := make(map[[4]byte]int)
		for _, f := range s.frames() {
			if f.frame[12] != 0x08 || f.frame[13] != 0x06 {
				continue // IPv6
			}
			seen[[4]byte(f.frame[28:32])]++
			if seen[[4]byte(f.frame[28:32])] > 2 { // the second announcement
				perSecond[f.after.Truncate(time.Second)]++
			}
		}
		for second, n := range perSecond {
			if n > 2*(1000+11) {
				t.Errorf("%d frames of repetitions in the second from %s", n, second)
			}
		}
		for addr, n := range seen {
			if n != 4 {
				t.Errorf("%v: %d frames, want 4", addr, n)
			}
		}
		if len(seen) != count {
			t.Errorf("%d addresses were announced", len(seen))
		}
	})
}

func TestASlowBurstRateStillDelivers(t *testing.T) {
	bubble(t, Config{BurstCount: 1, BurstRate: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		for i := range 3 {
			a.Set(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), on("eth0"))
		}
		pause(3 * time.Second)
		if n := len(s.frames()); n != 6 {
			t.Errorf("%d frames, want 6", n)
		}
	})
}

func TestImpossibleAddressesAreIgnored(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, _ *segment) {
		for _, addr := range []netip.Addr{
			{},
			netip.MustParseAddr("224.0.0.1"),
			netip.MustParseAddr("0.0.0.0"),
			netip.MustParseAddr("255.255.255.255"),
			netip.MustParseAddr("::1"),
		} {
			a.Set(addr, on("eth0"))
		}
		a.Set(netip.MustParseAddr("::ffff:192.0.2.10"), on("eth0"))
		if got := a.State(); len(got) != 1 || got[0].Addr != vip4 {
			t.Errorf("state %+v", got)
		}
	})
}

func TestConfigIsValidated(t *testing.T) {
	if _, err := New(Config{BurstCount: -1, BurstInterval: -1, BurstRate: -1, Stall: 50 * ms}); err == nil {
		t.Error("negative numbers are accepted")
	}
}

func TestResumeBeforeRun(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	a.Resume()
	if a.Suspended() {
		t.Error("suspended before anything can be answered")
	}
}

func TestRunTwice(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, _ *segment) {
		if err := a.Run(context.Background()); err == nil {
			t.Error("a second Run is accepted")
		}
	})
}

func TestVerdictsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range Verdicts() {
		if name := v.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("verdict %d is called %q", v, name)
		} else {
			seen[name] = true
		}
	}
	if fmt.Sprint(verdictCount) != "unknown" {
		t.Error("an unknown verdict has a name")
	}
}
