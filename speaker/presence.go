package main

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// picture is what is known of the fellows at one moment. It is replaced, never
// changed.
type picture struct {
	fellows map[string]fellow // by node
	claims  map[netip.Addr]map[string]announcement.Claim
	// silent are the links of this node on which its kernel does not answer its
	// witnesses.
	silent []string
	// owned are the same claims by node.
	owned map[string]map[netip.Addr]announcement.Claim
	// alive counts the speakers that membership sees alive, this one included.
	alive int
	// minority is set when that is less than half of those there are.
	minority bool
	// recheck is when the picture may change by itself; zero for never.
	recheck time.Time
}

// fellow is one other node's speaker.
type fellow struct {
	announcement.Speaker
	// since is when it came to its presence, lastSeen when its kernel last
	// answered this node's probes; zero when it never did.
	since    time.Time
	lastSeen time.Time
	alive    bool
	// unread is set while it is alive and speaks a format that this version does
	// not read.
	unread   bool
	expected bool // back: it said so
	// peer is where its speaker is reached, as its object tells; the zero Addr when
	// it does not.
	peer netip.Addr
}

// fellowship watches the fellows: it makes a picture of what membership,
// probes and Speaker objects tell.
type fellowship struct {
	node     string
	patience announcement.GracePeriods
	members  interface {
		Members() []membership.Member
	}
	prober interface {
		Reach() map[string]prober.Reach
		LinkReach() prober.LinkReach
	}
	ownLinks func() []links.Link

	mu      sync.Mutex
	objects map[string]speakerObject // by node
	pings   map[string]pingResult
	stages  map[string]stageHeard
	words   map[string]readBefore
	// blind is until when this node could see none of its fellows, whatever
	// became of them.
	blind time.Time
	// api and others are the ways to the rest of the cluster.
	api    contact
	others contact
	last   picture
}

func newFellowship(node string, patience announcement.GracePeriods, members *membership.Membership, prober *prober.Prober) *fellowship {
	return &fellowship{
		node: node, patience: patience, members: members, prober: prober,
		pings: map[string]pingResult{}, stages: map[string]stageHeard{}, words: map[string]readBefore{},
	}
}

// speakerObject is what the API tells of a fellow's speaker. It counts where
// the fellow itself is not heard.
type speakerObject struct {
	peer   netip.AddrPort
	stage  announcement.Stage
	links  []links.Link
	claims map[netip.Addr]announcement.Claim
	// complete is set when claims are all that it has.
	complete bool
	// worked is set when a speaker of the node has been ready.
	worked bool
	// ignoresExclude and ignoresCordon are what the speaker says of its settings.
	ignoresExclude, ignoresCordon bool
	// doubt is what it says of this node, when it does not hear it.
	doubt string
	// renewal is the last renewal, by the fellow's clock; seen when it was first
	// seen, by this node's. renewed is the latest that it may have been made, by
	// this node's clock; zero while that may be any time before this node looked.
	renewal, seen, renewed time.Time
}

// readBefore is a word that was read, and of which revision of what a member says.
type readBefore struct {
	revision uint64
	word     word
}

// stageHeard is a stage and since when it is known.
type stageHeard struct {
	stage announcement.Stage
	since time.Time
}

// pingResult is the last answer, or missing answer, to a ping. refused is set
// when the kernel of the node refuses connections to the speaker's port.
type pingResult struct {
	failed  bool
	refused bool
	at      time.Time
	// refusedAt is when connections were refused last.
	refusedAt time.Time
}

// current is the last picture that look made.
func (f *fellowship) current() picture {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// look makes a new picture. It returns the addresses whose claims changed, and
// whether what is known of the fellows themselves did.
func (f *fellowship) look(now time.Time) (claimed []netip.Addr, fellows bool) {
	members := f.members.Members()
	seen := f.seen()
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.paint(members, seen, now)
	next.claims, claimed = changedClaims(f.last, next.owned)
	fellows = f.last.minority != next.minority || f.last.alive != next.alive || !slices.Equal(f.last.silent, next.silent) ||
		!maps.EqualFunc(f.last.fellows, next.fellows, sameFellow)
	f.last = next
	return claimed, fellows
}

func sameFellow(a, b fellow) bool {
	return a.Presence == b.Presence && a.Reason == b.Reason && a.Heard == b.Heard && a.IgnoresExclude == b.IgnoresExclude &&
		a.IgnoresCordon == b.IgnoresCordon && a.Worked == b.Worked && a.Full == b.Full && a.ClaimsUnknown == b.ClaimsUnknown &&
		slices.Equal(a.SilentLinks, b.SilentLinks) && slices.EqualFunc(a.Links, b.Links, links.Link.Equal)
}

// seen is what this node's prober has found.
type seen struct {
	nodes map[string]prober.Reach
	links prober.LinkReach
}

func (f *fellowship) seen() seen { return seen{f.prober.Reach(), f.prober.LinkReach()} }

// wasBlind takes in that this node could see none of its fellows until now. Those
// that it missed meanwhile are judged as if it missed them from now on: nothing is
// taken from them because of what was not seen.
func (f *fellowship) wasBlind(until time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blind = until
}

// paint is the picture that members, probes and objects make together.
func (f *fellowship) paint(members []membership.Member, seen seen, now time.Time) picture {
	words := map[string]word{}
	byName := map[string]membership.Member{}
	var alive []string
	for _, m := range members {
		words[m.Name], byName[m.Name] = f.read(m), m
		if m.State == membership.Alive {
			alive = append(alive, m.Name)
		}
	}
	p := picture{fellows: map[string]fellow{}, owned: map[string]map[netip.Addr]announcement.Claim{}, alive: len(alive)}
	all := sets.KeySet(byName).Union(sets.KeySet(f.objects)).Delete(f.node)
	for _, name := range sets.List(all) {
		m, met := byName[name]
		object := f.objects[name]
		w, stageSince := f.believe(name, m, words[name], object, now)
		p.lookAgain(w.until)
		// One that said that it comes back, or that it starts, is expected as if it
		// had said goodbye, also when this speaker was not there to hear it.
		expected := w.stage == announcement.StageRestarting || w.stage == announcement.StageStarting
		left := m.State == membership.Left || m.State != membership.Alive && expected
		since := m.Since
		if m.State != membership.Left && since.Before(f.blind) {
			since = f.blind
		}
		reports := f.reports(name, alive, words, seen)
		verdict := announcement.Assess(announcement.Fellow{
			Alive: m.State == membership.Alive, Left: left, Since: since,
			Stage: w.stage, StageSince: stageSince, Unmet: !met,
			Reports: kernelReports(reports), Probeable: f.probeable(w.links), Renewed: object.renewed,
			SeenAPI: f.api.trusted, Contact: later(f.api.trusted, f.others.trusted),
		}, f.patience, now)
		p.add(name, w, verdict)
		before, known := f.last.fellows[name]
		found := fellow{
			Speaker: announcement.Speaker{
				Presence:       verdict.Presence,
				Reason:         verdict.Reason,
				Links:          w.links,
				SilentLinks:    silentLinks(reports),
				Heard:          m.State == membership.Alive,
				Worked:         object.worked || w.stage != "" && w.stage != announcement.StageStarting,
				IgnoresExclude: w.ignoresExclude,
				IgnoresCordon:  w.ignoresCordon,
				Full:           w.full,
				ClaimsUnknown:  w.unknown,
			},
			since: now, lastSeen: seen.nodes[name].LastAnswer, alive: m.State == membership.Alive, unread: unread(m), expected: left,
			peer: object.peer.Addr(),
		}
		if found.unread && found.Presence == announcement.Present {
			found.Reason = v1beta1.ReasonFormatUnknown
		}
		if known && before.Presence == found.Presence {
			found.since = before.since
		}
		p.fellows[name] = found
	}
	p.silent = silentLinks(f.reports(f.node, alive, words, seen))
	gone := func(name string) bool { return !all.Has(name) }
	maps.DeleteFunc(f.stages, func(name string, _ stageHeard) bool { return gone(name) })
	maps.DeleteFunc(f.words, func(name string, _ readBefore) bool { _, member := byName[name]; return !member })
	maps.DeleteFunc(f.pings, func(name string, _ pingResult) bool { return gone(name) })
	known := 1 + len(all.Intersection(sets.KeySet(f.objects)))
	p.minority = 2*len(alive) < known
	return p
}

// read reads what a member says, unless it was read before.
func (f *fellowship) read(m membership.Member) word {
	if before, known := f.words[m.Name]; known && before.revision == m.Revision && m.Revision != 0 {
		return before.word
	}
	w := readWord(m)
	f.words[m.Name] = readBefore{m.Revision, w}
	return w
}

// unread reports whether a member is alive and speaks a format that this version
// does not read. What is known of it by membership is from before.
func unread(m membership.Member) bool { return m.State == membership.Alive && !m.Format.Readable() }

// completed fills in what a fellow cannot be heard to say with what its object
// tells, and finds out whether it may own more than is known.
func (w word) completed(m membership.Member, o speakerObject) word {
	renewed := o.renewed.After(m.Since)
	switch {
	case unread(m):
		w.stage = "" // it said that before it spoke so
		w = w.or(o, true)
		if w.stage == "" {
			w.stage = "unknown"
		}
		w.unknown = true // the object may be some seconds old
	case m.State != membership.Alive && renewed:
		// It has worked since it was heard last.
		w = w.or(o, true)
		w.unknown = !o.complete
	case m.State != membership.Alive:
		heard := len(m.Said) > 0
		w = w.or(o, false)
		w.unknown = heard && (w.unknown || m.Incomplete) || !heard && !o.complete
	default:
		// One that starts does not say yet what it owns.
		if w.stage == "" || w.stage == announcement.StageStarting {
			w = w.or(o, renewed)
		}
		w.unknown = w.unknown || m.Incomplete
	}
	return w
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wordsTake is how long what a speaker says may take to arrive after the word that
// it is ready. Each thing that it says travels by itself.
const wordsTake = 10 * time.Second

// believe is what a fellow says, filled in with what its Speaker object tells where
// it does not say all yet: when it is not heard, when it starts, and for a moment
// after it has become ready. What has not arrived is unknown, it is not nothing. It
// also returns since when its stage is known.
func (f *fellowship) believe(
	name string, m membership.Member, w word, object speakerObject, now time.Time,
) (word, time.Time) {
	silent := m.State != membership.Alive || w.stage == "" || w.stage == announcement.StageStarting
	w = w.completed(m, object)
	heard, known := f.stages[name]
	if !known || heard.stage != w.stage {
		heard = stageHeard{w.stage, now}
		f.stages[name] = heard
	}
	if end := later(heard.since, m.Since).Add(wordsTake); !silent && end.After(now) {
		filled := w.or(object, false)
		if len(filled.claims) > len(w.claims) || len(filled.links) > len(w.links) ||
			filled.ignoresExclude != w.ignoresExclude || filled.ignoresCordon != w.ignoresCordon {
			filled.until = end
		}
		w = filled
	}
	// Links that are not known yet are those of before.
	if before, known := f.last.fellows[name]; known && silent && len(w.links) == 0 {
		w.links = before.Links
	}
	return w, heard.since
}

// or fills in what a fellow does not say with what its object tells. An object
// that was renewed since the fellow fell silent is right where both say
// something, as far as it lists everything.
func (w word) or(o speakerObject, renewed bool) word {
	if w.stage == "" || renewed && o.stage != "" {
		w.stage = o.stage
	}
	if len(w.links) == 0 || renewed {
		w.links = o.links
	}
	w.ignoresExclude = w.ignoresExclude || o.ignoresExclude
	w.ignoresCordon = w.ignoresCordon || o.ignoresCordon
	if renewed && o.complete {
		w.claims = o.claims
		return w
	}
	claims := maps.Clone(o.claims)
	for addr, claim := range w.claims {
		if claims == nil {
			claims = map[netip.Addr]announcement.Claim{}
		}
		if claim.Generation >= claims[addr].Generation {
			claims[addr] = claim
		}
	}
	w.claims = claims
	return w
}

// add takes in what one fellow claims and until when its verdict holds.
func (p *picture) add(name string, w word, v announcement.Assessment) {
	if len(w.claims) > 0 {
		p.owned[name] = w.claims
	}
	p.lookAgain(v.Until)
}

// lookAgain takes in when the picture may change by itself; zero for never.
func (p *picture) lookAgain(at time.Time) {
	if !at.IsZero() && (p.recheck.IsZero() || at.Before(p.recheck)) {
		p.recheck = at
	}
}

// reports are those of a node's witnesses. This node's own are fresh, those of
// others are what they said.
func (f *fellowship) reports(name string, alive []string, words map[string]word, seen seen) []probeReport {
	var out []probeReport
	for _, witness := range announcement.Witnesses(name, alive) {
		if witness == f.node {
			out = append(out, f.ownReport(name, seen))
			continue
		}
		out = append(out, words[witness].reports[name])
	}
	return out
}

// ownReport is what this node says of another. Of the link on which the other
// speaker is reached as a member it says nothing as long as that answers pings.
func (f *fellowship) ownReport(name string, seen seen) probeReport {
	other := func(link string) bool {
		return f.pings[name].failed || !slices.ContainsFunc(f.last.fellows[name].Links, func(l links.Link) bool {
			return l.Name == link && l.Holds(f.objects[name].peer.Addr())
		})
	}
	return probeReport{
		kernel:  report(seen.nodes[name], f.pings[name]),
		answers: keep(seen.links.Answers[name], other),
		silent:  keep(seen.links.Silent[name], other),
	}
}

// keep is the part of a list for which a condition holds.
func keep(list []string, condition func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !condition(s) })
}

func kernelReports(all []probeReport) []announcement.Report {
	var out []announcement.Report
	for _, r := range all {
		out = append(out, r.kernel)
	}
	return out
}

// silentLinks are the links of a node on which its witnesses find its kernel
// silent: one says so, and none gets an answer there.
func silentLinks(all []probeReport) []string {
	var answers, silent []string
	for _, r := range all {
		answers, silent = append(answers, r.answers...), append(silent, r.silent...)
	}
	slices.Sort(silent)
	return keep(slices.Compact(silent), func(link string) bool { return !slices.Contains(answers, link) })
}

// report is what this node says of the kernel of another. It is silent when
// neither the kernel nor the speaker has answered since the kernel last did.
func report(r prober.Reach, p pingResult) announcement.Report {
	switch {
	case r.State == prober.Answers && p.refused:
		return announcement.KernelRefuses
	case r.State == prober.Answers:
		return announcement.KernelAnswers
	case r.State == prober.Silent && p.failed && p.at.After(r.LastAnswer):
		return announcement.KernelSilent
	}
	return ""
}

// ownReports is what this node says of the others, as keys and values of
// membership.
func (f *fellowship) ownReports() map[string][]byte {
	seen := f.seen()
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string][]byte{}
	for name := range seen.nodes {
		if said := probeValue(f.ownReport(name, seen)); said != nil {
			out[saysProbe+name] = said
		}
	}
	return out
}

// probeable reports whether this node shares a link with a fellow that has
// these.
func (f *fellowship) probeable(theirs []links.Link) bool {
	for _, ours := range f.ownLinks() {
		for _, l := range theirs {
			if _, ok := announcement.SharedAddress(ours, l); ok {
				return true
			}
		}
	}
	return false
}

// pinged takes in the result of a ping. It tells whether it is news.
func (f *fellowship) pinged(node string, result pingResult) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.pings[node]
	switch {
	case result.refused:
		result.refusedAt = result.at
	case result.failed:
		result.refusedAt = before.refusedAt
	}
	// A process that has just been started listens before it answers: it is given
	// time from then on, not from when the one before it died.
	result.refused = result.refused || result.failed && result.at.Sub(result.refusedAt) < f.patience.Silence
	f.pings[node] = result
	return before.failed != result.failed || before.refused != result.refused
}

// questionable are the nodes whose speaker is to be pinged: their kernel misses
// probes, on one link or on all, or membership misses them while their kernel answers. The time is
// that of the kernel's last answer.
func (f *fellowship) questionable() map[string]time.Time {
	out := map[string]time.Time{}
	seen := f.seen()
	f.mu.Lock()
	defer f.mu.Unlock()
	for node, r := range seen.nodes {
		fellow := f.last.fellows[node]
		held := !fellow.alive && fellow.Presence == announcement.Held
		switch {
		case r.State != prober.Unknown && (r.Missed > 0 || held || len(seen.links.Silent[node]) > 0):
			out[node] = r.LastAnswer
		case fellow.alive:
			delete(f.pings, node)
		}
	}
	return out
}

// peer is where the speaker of a node listens.
func (f *fellowship) peer(node string) netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[node].peer
}

// setObjects takes in what the API tells of the fellows.
func (f *fellowship) setObjects(objects map[string]speakerObject, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, o := range objects {
		before, known := f.objects[name]
		switch {
		case o.renewal.IsZero(): // it stopped in order, or misses nobody
		case known && before.renewal.Equal(o.renewal):
			o.seen, o.renewed = before.seen, before.renewed
		default:
			o.seen = now
			if known { // one that was there before we looked proves nothing
				o.renewed = madeBy(before, o.renewal, now)
			}
		}
		objects[name] = o
	}
	f.objects = objects
}

// madeBy is the latest that a renewal may have been made which is seen now. Where the
// API could not be watched for a while it may be an old one, of a node that has died
// since. The fellow's own clock tells how long after the renewal before it was; both
// clocks may differ in their speed by one in a thousand, and one that was set back
// tells nothing.
func madeBy(before speakerObject, renewal, now time.Time) time.Time {
	after := renewal.Sub(before.renewal)
	if before.renewal.IsZero() || after <= 0 {
		return now
	}
	if made := before.seen.Add(after + after/1000); made.Before(now) {
		return made
	}
	return now
}

// doubters are the fellows that do not hear this speaker, as they write, with
// what they write of it.
func (f *fellowship) doubters() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]string{}
	for name, o := range f.objects {
		if o.doubt != "" {
			out[name] = o.doubt
		}
	}
	return out
}

// changedClaims makes of the claims by node those by address, and returns the
// addresses that are not claimed as they were. What did not change is shared with the
// picture before: most looks see the same claims.
func changedClaims(before picture, owned map[string]map[netip.Addr]announcement.Claim) (
	claims map[netip.Addr]map[string]announcement.Claim, changed []netip.Addr,
) {
	differ := map[netip.Addr]bool{}
	var nodes []string
	for node := range sets.KeySet(before.owned).Union(sets.KeySet(owned)) {
		was, is := before.owned[node], owned[node]
		if maps.Equal(was, is) {
			continue
		}
		nodes = append(nodes, node)
		for addr, claim := range is {
			if was[addr] != claim { // none has generation 0
				differ[addr] = true
			}
		}
		for addr := range was {
			if _, both := is[addr]; !both {
				differ[addr] = true
			}
		}
	}
	if len(differ) == 0 && before.claims != nil {
		return before.claims, nil
	}
	claims = maps.Clone(before.claims)
	if claims == nil {
		claims = map[netip.Addr]map[string]announcement.Claim{}
	}
	for addr := range differ {
		byNode := maps.Clone(claims[addr])
		if byNode == nil {
			byNode = map[string]announcement.Claim{}
		}
		for _, node := range nodes {
			if claim, claimed := owned[node][addr]; claimed {
				byNode[node] = claim
			} else {
				delete(byNode, node)
			}
		}
		if claims[addr] = byNode; len(byNode) == 0 {
			delete(claims, addr)
		}
	}
	return claims, slices.SortedFunc(maps.Keys(differ), netip.Addr.Compare)
}

// targets are what this node is to probe: for each node that it is a witness of,
// an address on every link that both are on. On a link of this node on which one is
// silent, a few others are probed as well: if none of them answers either, it is
// this node that has lost the LAN.
func (p picture) targets(node string, links []links.Link, doubtful []string) []prober.Target {
	const controls = 2
	alive := []string{node}
	for name, f := range p.fellows {
		if f.alive {
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)
	var out []prober.Target
	left := map[string]int{} // how many controls each doubtful link may have yet
	for _, link := range doubtful {
		left[link] = controls
	}
	for _, name := range sets.List(sets.KeySet(p.fellows)) {
		witness := slices.Contains(announcement.Witnesses(name, alive), node)
		for _, ours := range links {
			control := p.fellows[name].alive && left[ours.Name] > 0
			if !witness && !control {
				continue
			}
			on := targetsOn(name, ours, p.fellows[name].Links)
			if !witness && len(on) > 0 {
				left[ours.Name]--
			}
			out = append(out, on...)
		}
	}
	return out
}

// targetsOn are the addresses of a node that can be probed on one of our links.
func targetsOn(node string, ours links.Link, links []links.Link) []prober.Target {
	var out []prober.Target
	for _, theirs := range links {
		if addr, ok := announcement.SharedAddress(ours, theirs); ok && ours.Usable() {
			out = append(out, prober.Target{Node: node, Link: ours.Name, On: theirs.Name, Addr: addr, MAC: theirs.HardwareAddr})
		}
	}
	return out
}
