package announcement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// simulation is a cluster of speakers that decide with views of their own.
// Gossip reaches one member at a time, in any order, and not at all across a
// partition; every speaker learns of deaths when it pleases.
type simulation struct {
	random    *rand.Rand
	now       time.Time
	addresses []netip.Addr
	immediate bool
	// lingers is set when owners linger that hand over.
	lingers  bool
	speakers []*simSpeaker
}

// simSpeaker is one node and its speaker.
type simSpeaker struct {
	name     string
	up       bool
	cordoned bool
	excluded bool
	segment  int // of the network; nodes of one segment reach each other

	// What the speaker knows.
	alive   map[string]bool
	since   map[string]time.Time
	said    map[string]map[netip.Addr]simSaid // by who said it
	version uint64
	highest map[netip.Addr]uint64
	// What it does.
	decisions   map[netip.Addr]Decision
	handingOver map[netip.Addr]time.Time
	quiet       map[netip.Addr]time.Time
	lingering   map[netip.Addr]time.Time
}

// simSaid is what a speaker says of an address; nil for nothing.
type simSaid struct {
	claim   *Claim
	version uint64
}

func newSimulation(seed uint64, nodes, addresses int) *simulation {
	s := &simulation{
		random:    rand.New(rand.NewPCG(seed, 1)),
		now:       now,
		immediate: seed%3 == 0,
		lingers:   seed%2 == 0,
	}
	for i := range addresses {
		s.addresses = append(s.addresses, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	for i := range nodes {
		sp := &simSpeaker{name: fmt.Sprint("n", i), up: true}
		sp.forget()
		s.speakers = append(s.speakers, sp)
	}
	return s
}

// forget is what happens to a speaker's memory when it ends.
func (sp *simSpeaker) forget() {
	sp.alive, sp.since = map[string]bool{}, map[string]time.Time{}
	sp.said = map[string]map[netip.Addr]simSaid{}
	sp.highest = map[netip.Addr]uint64{}
	sp.decisions = map[netip.Addr]Decision{}
	sp.handingOver = map[netip.Addr]time.Time{}
	sp.quiet, sp.lingering = map[netip.Addr]time.Time{}, map[netip.Addr]time.Time{}
}

func (s *simulation) reaches(a, b *simSpeaker) bool {
	return a.up && b.up && a.segment == b.segment
}

// look has one speaker learn who is alive.
func (s *simulation) look(sp *simSpeaker) {
	for _, other := range s.speakers {
		if alive := s.reaches(sp, other); alive != sp.alive[other.name] {
			sp.alive[other.name], sp.since[other.name] = alive, s.now
		}
	}
}

// gossip has one speaker hear all that another knows.
func (s *simulation) gossip(from, to *simSpeaker) {
	if !s.reaches(from, to) {
		return
	}
	for who, all := range from.said {
		for addr, news := range all {
			s.hear(to, who, addr, news)
		}
	}
}

func (s *simulation) hear(sp *simSpeaker, who string, addr netip.Addr, news simSaid) {
	if sp.said[who] == nil {
		sp.said[who] = map[netip.Addr]simSaid{}
	}
	if news.version <= sp.said[who][addr].version {
		return
	}
	sp.said[who][addr] = news
	if who == sp.name {
		sp.version = max(sp.version, news.version)
	}
	if news.claim != nil {
		sp.highest[addr] = max(sp.highest[addr], news.claim.Generation)
	}
}

// decide has one speaker look at one address.
func (s *simulation) decide(sp *simSpeaker, addr netip.Addr) {
	before := sp.decisions[addr]
	in := Input{
		Address:  addr,
		Services: []Service{{Name: "default/web", Ready: true, Endpoints: map[string]int{}}},
		Config:   s.config(),
		Speakers: map[string]Speaker{},
		Claims:   map[string]Claim{},
		Highest:  sp.highest[addr],
		Node:     sp.name,
		Probe:    Probe{State: ProbeFree},
		HandOver: 3 * time.Second,
		Now:      s.now,

		Dispute:     before.Dispute,
		Announcing:  before.Announce && before.StandInFor == "" && before.LingersFor == "",
		HandingOver: sp.handingOver[addr],

		QuietSince:     sp.quiet[addr],
		LingeringSince: sp.lingering[addr],
	}
	seen := 0
	for i, other := range s.speakers {
		in.Nodes = append(in.Nodes, Node{
			Name:     other.name,
			Labels:   map[string]string{"name": other.name},
			Cordoned: other.cordoned,
			Excluded: other.excluded,
		})
		f := Member{Alive: sp.alive[other.name], Stage: StageReady, Since: sp.since[other.name]}
		if !f.Alive {
			f.Reports = []Report{KernelSilent}
		} else {
			seen++
		}
		v := Assess(f, graces, s.now)
		in.Speakers[other.name] = Speaker{
			Presence: v.Presence,
			Reason:   v.Reason,
			Links:    linksOf(byte(i + 1)),
			Heard:    f.Alive,
			Worked:   true,
		}
		if said := sp.said[other.name][addr]; said.claim != nil {
			in.Claims[other.name] = *said.claim
		}
	}
	in.Minority = 2*seen < len(s.speakers)
	d := Decide(in)
	sp.decisions[addr] = d
	remember(sp.handingOver, addr, d.HandingOver, s.now)
	remember(sp.quiet, addr, d.Former != "", s.now)
	remember(sp.lingering, addr, d.LingersFor != "", s.now)
	was := sp.said[sp.name][addr].claim
	if (was == nil) == (d.Claim == nil) && (was == nil || *was == *d.Claim) {
		return
	}
	sp.version = max(sp.version+1, uint64(s.now.UnixNano()))
	s.hear(sp, sp.name, addr, simSaid{d.Claim, sp.version})
}

// remember remembers since when something is so.
func remember(since map[netip.Addr]time.Time, addr netip.Addr, is bool, now time.Time) {
	switch {
	case !is:
		delete(since, addr)
	case since[addr].IsZero():
		since[addr] = now
	}
}

// simLinger is for how long owners linger in a simulation where they do.
const simLinger = time.Minute

// config is what all speakers of a simulation are told.
func (s *simulation) config() *config.Config { return simConfigs[[2]bool{s.immediate, s.lingers}] }

var simConfigs = func() map[[2]bool]*config.Config {
	out := map[[2]bool]*config.Config{}
	for _, failback := range []v1beta1.Failback{v1beta1.FailbackNever, v1beta1.FailbackImmediate} {
		for _, period := range []time.Duration{0, simLinger} {
			spec := v1beta1.L2AdvertisementSpec{
				Failback: failback,
				HandOver: &v1beta1.HandOverPolicy{LingerPeriod: &metav1.Duration{Duration: period}},
			}
			out[[2]bool{failback == v1beta1.FailbackImmediate, period > 0}] = parsed(spec)
		}
	}
	return out
}()

// event is one thing that happens somewhere.
func (s *simulation) event() {
	sp := s.speakers[s.random.IntN(len(s.speakers))]
	other := s.speakers[s.random.IntN(len(s.speakers))]
	s.now = s.now.Add(time.Duration(s.random.IntN(50)) * time.Millisecond)
	switch s.random.IntN(40) {
	case 0:
		s.crash(sp)
	case 1:
		s.boot(sp)
	case 2:
		sp.segment = s.random.IntN(3)
	case 3:
		for _, each := range s.speakers {
			each.segment = 0
		}
	case 4:
		sp.cordoned = !sp.cordoned
	case 5: // often all of them, and then the label means nothing
		for _, each := range s.speakers {
			each.excluded = s.random.IntN(4) > 0
		}
	case 6, 7:
		s.look(sp)
	case 8, 9, 10, 11, 12, 13, 14, 15:
		s.gossip(other, sp)
	default:
		if sp.up {
			s.decide(sp, s.addresses[s.random.IntN(len(s.addresses))])
		}
	}
}

func (s *simulation) crash(sp *simSpeaker) {
	sp.up = false
	sp.forget()
}

// boot starts a speaker; it hears of the others before it decides anything,
// and does not keep what another has taken since.
func (s *simulation) boot(sp *simSpeaker) {
	if sp.up {
		return
	}
	sp.up = true
	s.look(sp)
	for _, other := range s.speakers {
		s.gossip(other, sp)
	}
	for _, addr := range s.addresses {
		mine := sp.said[sp.name][addr].claim
		if mine != nil && mine.Generation < sp.highest[addr] {
			sp.version++
			s.hear(sp, sp.name, addr, simSaid{nil, sp.version})
		}
	}
}

// settle heals everything and lets news and decisions go round until nothing
// changes any more. It reports whether that came to be.
func (s *simulation) settle() bool {
	for _, sp := range s.speakers {
		s.boot(sp)
		sp.segment, sp.cordoned = 0, false
	}
	return s.calm()
}

func (s *simulation) calm() bool {
	for range 30 {
		before := s.view()
		for _, sp := range s.speakers {
			s.look(sp)
		}
		for _, from := range s.speakers {
			for _, to := range s.speakers {
				s.gossip(from, to)
			}
		}
		for _, i := range s.random.Perm(len(s.speakers)) {
			for _, addr := range s.addresses {
				if s.speakers[i].up {
					s.decide(s.speakers[i], addr)
				}
			}
		}
		s.now = s.now.Add(time.Second)
		if maps.Equal(before, s.view()) {
			return true
		}
	}
	return false
}

// view is who announces each address, and what is claimed.
func (s *simulation) view() map[string]string {
	out := map[string]string{}
	for _, sp := range s.speakers {
		for _, addr := range s.addresses {
			d := sp.decisions[addr]
			said := "nothing"
			if claim := sp.said[sp.name][addr].claim; claim != nil {
				said = fmt.Sprint(*claim)
			}
			does := fmt.Sprint(d.Announce, d.Reason, d.Owner, d.Former, d.LingersFor, said)
			out[sp.name+" "+addr.String()] = does
		}
	}
	return out
}

// owners checks that each address has exactly one owner, known to all, and
// returns them.
func (s *simulation) owners(t *testing.T) map[netip.Addr]string {
	t.Helper()
	out := map[netip.Addr]string{}
	for _, addr := range s.addresses {
		for _, sp := range s.speakers {
			if !sp.up {
				continue
			}
			d := sp.decisions[addr]
			owns := d.Announce && d.LingersFor == ""
			if owns {
				if out[addr] != "" {
					t.Fatalf("%s is announced by %s and %s", addr, out[addr], sp.name)
				}
				out[addr] = sp.name
			}
			claim := sp.said[sp.name][addr].claim
			if claims := claim != nil && !claim.Lingers; claims != owns {
				t.Fatalf("%s announces %s: %v, and claims it: %v", sp.name, addr, owns, claims)
			}
		}
		for _, sp := range s.speakers {
			if d := sp.decisions[addr]; sp.up && d.Owner != out[addr] {
				t.Fatalf("%s takes %s for the owner of %s, which is %q", sp.name, d.Owner, addr, out[addr])
			}
		}
	}
	return out
}

// TestClusterConverges: whatever happens in whatever order, once the network
// is whole and all news are told, each address has one owner, which is not excluded
// unless all are.
func TestClusterConverges(t *testing.T) {
	runs := 300
	if testing.Short() {
		runs = 30
	}
	for seed := range uint64(runs) {
		s := newSimulation(seed, 2+int(seed%5), 6)
		for _, sp := range s.speakers {
			s.look(sp)
		}
		for range 400 {
			s.event()
		}
		if !s.settle() {
			t.Fatalf("seed %d: no end of changes: %v", seed, s.view())
		}
		byName := map[string]*simSpeaker{}
		free := false
		for _, sp := range s.speakers {
			byName[sp.name], free = sp, free || !sp.excluded
		}
		owners := s.owners(t)
		for _, addr := range s.addresses {
			if owner := byName[owners[addr]]; owner == nil || free && owner.excluded {
				t.Fatalf("seed %d: %s is announced by %q", seed, addr, owners[addr])
			}
		}
	}
}

// TestNobodyLingersForEver: whatever happens in whatever order, who lingers owns nothing, and once the
// period is over each address is answered by its owner alone, and announced.
func TestNobodyLingersForEver(t *testing.T) {
	seen := 0
	runs := 60
	if testing.Short() {
		runs = 10
	}
	for seed := range uint64(runs) {
		s := newSimulation(seed, 2+int(seed%5), 6)
		s.lingers = true
		s.settle()
		for range 20 {
			for range 20 {
				s.event()
			}
			seen += s.lingeringAgrees(t)
		}
		s.settle()
		seen += s.lingeringAgrees(t)
		s.now = s.now.Add(simLinger)
		if !s.calm() {
			t.Fatalf("seed %d: no end of changes: %v", seed, s.view())
		}
		s.owners(t)
		for _, sp := range s.speakers {
			for addr, d := range sp.decisions {
				if d.Former != "" || d.LingersFor != "" {
					t.Fatalf("seed %d: %s still lingers for %q, or is quiet after %q, for %s",
						seed, sp.name, d.LingersFor, d.Former, addr)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("nobody ever lingered")
	}
}

// lingeringAgrees checks that nobody both owns an address and lingers. It returns how often somebody lingers.
func (s *simulation) lingeringAgrees(t *testing.T) (count int) {
	t.Helper()
	for _, sp := range s.speakers {
		for addr, d := range sp.decisions {
			if d.LingersFor == "" {
				continue
			}
			count++
			if d.Owner == sp.name || d.Former != "" || d.Claim == nil || !d.Claim.Lingers {
				t.Fatalf("%s owns %s and lingers: %+v", sp.name, addr, d)
			}
		}
	}
	return count
}

// TestOnlyWhatMustMoves: a node that dies takes with it only what it owned,
// and when it is back nothing moves, or just what is its by rank.
func TestOnlyWhatMustMoves(t *testing.T) {
	for seed := range uint64(60) {
		s := newSimulation(seed, 3+int(seed%4), 60)
		if !s.settle() {
			t.Fatalf("seed %d: no end of changes", seed)
		}
		first := s.owners(t)
		dead := s.speakers[s.random.IntN(len(s.speakers))]
		s.crash(dead)
		if !s.calm() {
			t.Fatalf("seed %d: no end of changes", seed)
		}
		second := s.owners(t)
		for addr, owner := range first {
			if owner != dead.name && second[addr] != owner {
				t.Errorf("seed %d: %s died, and %s moved from %s to %s",
					seed, dead.name, addr, owner, second[addr])
			}
		}
		if !s.settle() {
			t.Fatalf("seed %d: no end of changes", seed)
		}
		want := second
		if s.immediate {
			want = first
		}
		if third := s.owners(t); !maps.Equal(third, want) {
			t.Errorf("seed %d (immediate %v): it came back, and owners went from %v to %v, want %v",
				seed, s.immediate, second, third, want)
		}
	}
}

// TestIsolatedNodeTakesNothingBack: a node that was cut off takes everything
// for itself meanwhile, and when the network is whole again it has only what
// it would have had, or less.
func TestIsolatedNodeTakesNothingBack(t *testing.T) {
	for seed := range uint64(60) {
		s := newSimulation(seed, 3+int(seed%4), 40)
		s.immediate = false
		s.settle()
		first := s.owners(t)
		alone := s.speakers[s.random.IntN(len(s.speakers))]
		alone.segment = 1
		if !s.calm() {
			t.Fatalf("seed %d: no end of changes", seed)
		}
		cut := map[netip.Addr]string{}
		for _, sp := range s.speakers {
			for addr, d := range sp.decisions {
				if d.Announce && sp != alone {
					cut[addr] = sp.name
				}
			}
		}
		if !s.settle() {
			t.Fatalf("seed %d: no end of changes", seed)
		}
		after := s.owners(t)
		for addr := range first {
			if after[addr] != cut[addr] {
				t.Errorf("seed %d: %s was announced by %s to most, and by %s once all were together",
					seed, addr, cut[addr], after[addr])
			}
		}
	}
}

// TestBalance: what a dead node leaves is spread over the others, within what
// a fair draw gives.
func TestBalance(t *testing.T) {
	s := newSimulation(1, 5, 250)
	s.settle()
	s.crash(s.speakers[2])
	s.calm()
	count := map[string]int{}
	for _, owner := range s.owners(t) {
		count[owner]++
	}
	shares := slices.Sorted(maps.Values(count))
	// Four draw 250 addresses: 62.5 each, with a standard deviation of 6.8.
	if len(shares) != 4 || shares[0] < 62-24 || shares[3] > 62+24 {
		t.Errorf("shares %v", count)
	}
}
