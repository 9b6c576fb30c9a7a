package layer2

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

const (
	// checkers is how many addresses are checked at one time.
	checkers = 32
	// checkAgain is how long after a check that found a conflict the check is repeated,
	// before the conflict is reported: the address may just be moving.
	checkAgain = 2 * time.Second
)

// selfCheck asks the LAN now and then who answers for the addresses of members, as a client
// does. For each address one speaker does so on each link of the owner, not the owner.
type selfCheck struct {
	view       *view
	prober     Prober
	proxyHosts *proxyFinder
	conflicts  *conflicts
	status     notify.Signal // the Speaker object is out of date
	log        *slog.Logger
	interval   time.Duration // 0 for never
}

// check is one address to check: on which link, and whose answer is right.
type check struct {
	addressOn
	owner string
	mac   net.HardwareAddr
	// balances is set when the owner's link is a bond that answers with the addresses
	// of its ports.
	balances bool
}

// run checks until ctx ends.
func (s *selfCheck) run(ctx context.Context) error {
	if s.interval == 0 {
		return nil
	}
	for {
		pause := s.interval - s.interval/4 + rand.N(s.interval/2)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		s.round(ctx)
	}
}

// changed reports that conflicts have changed.
func (s *selfCheck) changed() {
	s.conflicts.report()
	s.status.Set()
}

// round checks every address that is this node's to check.
func (s *selfCheck) round(ctx context.Context) {
	checks := s.checks()

	var running sync.WaitGroup
	slots := make(chan struct{}, checkers)
	for _, ch := range checks {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			s.check(ctx, ch)
		})
	}
	running.Wait()
}

// checks returns the checks that are this node's now, by address and link. What earlier
// checks found and this node checks no more is forgotten.
func (s *selfCheck) checks() []check {
	around := s.view.tracker.Around()
	var out []check
	forgot := false
	for addr, r := range s.view.memory.all() {
		var on []string
		if r.Reason == v1beta1.ReasonNotOwner && isAnnounced(around, addr, r.Owner) {
			mine := announcement.Checks(addr, r.Owner, r.OwnerLinks, s.view.node, around.Speakers)
			for _, ch := range mine {
				out = append(out, check{
					addressOn: addressOn{addr, ch.Link},
					owner:     r.Owner,
					mac:       ch.MAC,
					balances:  balances(around.Members[r.Owner].Links, ch.MAC),
				})
				on = append(on, ch.Link)
			}
		}
		forgot = s.conflicts.forget(addr, on) || forgot
	}
	if forgot {
		s.changed()
	}
	slices.SortFunc(out, func(a, b check) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.link, b.link))
	})
	return out
}

// isAnnounced reports whether a node is there and claims an address. An owner without a
// claim does not announce the address yet: perhaps it asks whether another host has it.
func isAnnounced(around members.Around, addr netip.Addr, owner string) bool {
	_, claimed := around.Claims[addr][owner]
	return claimed && around.Members[owner].Presence == announcement.Present
}

// balances reports whether the link with a hardware address is a bond that answers with the
// addresses of its ports.
func balances(all []links.Link, mac net.HardwareAddr) bool {
	return slices.ContainsFunc(all, func(l links.Link) bool {
		return l.Balances && bytes.Equal(l.HardwareAddr, mac)
	})
}

// check checks one address. A conflict is recorded when it is found twice and the owner has
// not changed.
func (s *selfCheck) check(ctx context.Context, ch check) {
	before := s.view.tracker.Current().Claims[ch.addr][ch.owner]
	found, err := s.ask(ctx, ch)
	if err == nil && found != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkAgain):
		}
		found, err = s.ask(ctx, ch)
	}
	if err != nil || !s.holds(ch, before) || !s.conflicts.record(ch.addressOn, found) {
		return
	}
	if found != nil {
		s.log.Warn("address conflict", "address", ch.addr.String(), "owner", ch.owner,
			"conflict", string(found.kind), "message", found.message)
	} else {
		s.log.Info("address conflict is over", "address", ch.addr.String(), "owner", ch.owner)
	}
	s.changed()
}

// holds reports whether a check still says something of the owner, whose claim was this
// one: the address may have moved since, or this node may have lost the LAN.
func (s *selfCheck) holds(ch check, claim announcement.Claim) bool {
	p := s.view.tracker.Current()
	return p.Claims[ch.addr][ch.owner] == claim &&
		p.Members[ch.owner].Presence == announcement.Present &&
		s.view.memory.of(ch.addr).Owner == ch.owner &&
		!slices.Contains(p.SilentLinks, ch.link)
}

// ask asks who has an address, as a host of the LAN does, and returns what is wrong with
// the answer; nil for nothing.
func (s *selfCheck) ask(ctx context.Context, ch check) (*conflict, error) {
	found, err := s.prober.Ask(ctx, prober.Question{
		Addr:     ch.addr,
		Link:     ch.link,
		Count:    2,
		Interval: 200 * time.Millisecond,
		AsHost:   true,
	})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", ch.addr, err)
	}

	a := answers{
		macs:     slices.Concat(found.Holders, found.Probers),
		here:     s.view.tracker.InterfaceWith(ch.addr),
		balances: ch.balances && ch.addr.Is4(),
	}
	if mac := ch.wrong(a.macs, s.view.tracker.NodeOf); mac != nil {
		if a.other = s.view.host(mac); a.other.node == "" {
			a.everything = s.proxyHosts.answers(ctx, ch.addr, []string{ch.link}, mac)
		}
	}
	return ch.judge(a, time.Now()), nil
}

// wrong returns the first that is not the owner's hardware address, a stranger's before a
// node's; nil for none.
func (ch check) wrong(macs []net.HardwareAddr, nodeOf func(net.HardwareAddr) string) net.HardwareAddr {
	var node net.HardwareAddr
	for _, mac := range macs {
		switch {
		case bytes.Equal(mac, ch.mac):
		case nodeOf(mac) == "":
			return mac
		case node == nil:
			node = mac
		}
	}
	return node
}

// answers are who answers for an address, and what is known of why another than the owner
// does.
type answers struct {
	macs  []net.HardwareAddr
	other host // one that is not the owner, a stranger before a node; the zero host for none
	// everything is an address that nobody should have, for which other answers as well;
	// invalid for none.
	everything netip.Addr
	here       string // the interface of this node that has the address, "" for none
	balances   bool   // the owner's link answers with the addresses of its ports
}

// judge returns what is wrong when these answer for an address, nil for nothing.
func (ch check) judge(a answers, now time.Time) *conflict {
	out := &conflict{addressOn: ch.addressOn, other: a.other, owner: ch.owner, since: now}
	right := slices.ContainsFunc(a.macs, func(mac net.HardwareAddr) bool { return bytes.Equal(mac, ch.mac) })
	place := "in the place of"
	switch {
	case len(a.macs) == 0:
		out.kind = v1beta1.ConflictUnanswered
		out.message = fmt.Sprintf("Nobody answers for %s, which node %s announces; look at what is "+
			"between the nodes, and at the log of its speaker. Wi-Fi and some hypervisors bring no "+
			"questions to a node that its L2Advertisement does not make promiscuous.", ch.addr, ch.owner)
		return out
	case a.other.mac == nil:
		return nil
	case right && a.other.node == "":
		out.kind, place = v1beta1.ConflictDuplicate, "beside"
	case right:
		out.kind, place = v1beta1.ConflictOtherNode, "beside"
	default:
		out.kind = a.other.kind()
	}
	out.message = strings.TrimSpace(fmt.Sprintf("%s answers for %s %s node %s, which announces it. %s",
		a.other, ch.addr, place, ch.owner, a.why(ch.addr)))
	return out
}

// why says for which reason another than the owner answers, and what to do; "" for nothing
// that is known.
func (a answers) why(addr netip.Addr) string {
	switch {
	case a.other.node != "":
		return announcement.WhyNodeAnswers(addr, a.here)
	case a.everything.IsValid():
		return fmt.Sprintf("It answers for any address, also for %s, which nobody should have. %s",
			a.everything, announcement.ProxyRemedy(addr))
	case a.balances:
		return "The link of that node is a bond in mode balance-alb, " +
			"which answers with the addresses of its ports. Give the bond another mode."
	}
	return ""
}
