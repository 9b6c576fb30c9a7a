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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

const (
	// checkers is how many addresses are checked at one time.
	checkers = 32
	// checkAgain is how long after a check that found something wrong it is
	// repeated, before it is told: an address may just be moving.
	checkAgain = 2 * time.Second
)

// checking asks the LAN now and then who answers for the addresses of members,
// as a client does. For each address one speaker does so on each link of the owner,
// not the owner.
type checking struct {
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
	addr  netip.Addr
	link  string
	owner string
	mac   net.HardwareAddr
	// balances is set when the owner's link is a bond that answers with the addresses
	// of its ports.
	balances bool
}

// run checks until ctx ends.
func (c *checking) run(ctx context.Context) error {
	if c.interval == 0 {
		return nil
	}
	for {
		pause := c.interval - c.interval/4 + rand.N(c.interval/2)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		c.round(ctx)
	}
}

// changed has it reported that conflicts have changed.
func (c *checking) changed() {
	c.conflicts.announce()
	c.status.Set()
}

// round checks every address that is this node's to check.
func (c *checking) round(ctx context.Context) {
	due := c.due()
	var running sync.WaitGroup
	slots := make(chan struct{}, checkers)
	for _, ch := range due {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			c.one(ctx, ch)
		})
	}
	running.Wait()
}

// due are the checks that are this node's now.
func (c *checking) due() []check {
	p := c.view.tracker.Around()
	var out []check
	forget := false
	for addr, r := range c.view.memory.all() {
		// An owner without a claim does not announce the address yet: perhaps it
		// asks whether another host has it.
		_, claimed := p.Claims[addr][r.Owner]
		if r.Reason != v1beta1.ReasonNotOwner || p.Members[r.Owner].Presence != announcement.Present || !claimed {
			forget = c.conflicts.clear(addr, nil) || forget
			continue
		}
		var on []string
		for _, ch := range announcement.Checks(addr, r.Owner, r.OwnerLinks, c.view.node, p.Speakers) {
			balances := slices.ContainsFunc(p.Members[r.Owner].Links, func(l links.Link) bool { return l.Balances && bytes.Equal(l.HardwareAddr, ch.MAC) })
			out = append(out, check{addr: addr, link: ch.Link, owner: r.Owner, mac: ch.MAC, balances: balances})
			on = append(on, ch.Link)
		}
		forget = c.conflicts.clear(addr, on) || forget
	}
	if forget {
		c.changed()
	}
	slices.SortFunc(out, func(a, b check) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.link, b.link)) })
	return out
}

// one checks one address. What it finds wrong it tells when it finds it twice
// and the owner has not changed.
func (c *checking) one(ctx context.Context, ch check) {
	before := c.view.tracker.Current().Claims[ch.addr][ch.owner]
	conflict, err := c.ask(ctx, ch)
	if err == nil && conflict != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkAgain):
		}
		conflict, err = c.ask(ctx, ch)
	}
	p := c.view.tracker.Current()
	if err != nil || p.Claims[ch.addr][ch.owner] != before || p.Members[ch.owner].Presence != announcement.Present ||
		c.view.memory.of(ch.addr).Owner != ch.owner || slices.Contains(p.SilentLinks, ch.link) {
		return // it has moved meanwhile, or this node has lost the LAN; nothing is known of it now
	}
	if !c.conflicts.found(addressOn{ch.addr, ch.link}, conflict) {
		return
	}
	if conflict != nil {
		c.log.Warn("address conflict", "address", ch.addr.String(), "owner", ch.owner,
			"conflict", string(conflict.Kind), "message", conflict.Message)
	} else {
		c.log.Info("address conflict is over", "address", ch.addr.String(), "owner", ch.owner)
	}
	c.changed()
}

// ask asks who has an address, as a host of the LAN does, and tells what is wrong
// with the answer.
func (c *checking) ask(ctx context.Context, ch check) (*v1beta1.Layer2Conflict, error) {
	found, err := c.prober.Ask(ctx, prober.Question{Addr: ch.addr, Link: ch.link, Count: 2, Interval: 200 * time.Millisecond, AsHost: true})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", ch.addr, err)
	}
	holders := slices.Concat(found.Holders, found.Probers)
	why := reasons{here: c.view.tracker.InterfaceWith(ch.addr), balances: ch.balances && ch.addr.Is4()}
	if wrong := ch.wrong(holders); wrong != nil && c.view.tracker.NodeOf(wrong) == "" {
		why.everything = c.proxyHosts.answers(ctx, ch.addr, []string{ch.link}, wrong)
	}
	return c.judge(ch, holders, why), nil
}

// wrong is the first who answers with another hardware address than the owner's, nil
// for nobody.
func (ch check) wrong(holders []net.HardwareAddr) net.HardwareAddr {
	for _, h := range holders {
		if !bytes.Equal(h, ch.mac) {
			return h
		}
	}
	return nil
}

// reasons are what is known of why another answers for an address.
type reasons struct {
	// everything is an address that nobody should have, for which it answers as well;
	// invalid for none.
	everything netip.Addr
	here       string // the interface of this node that has the address, "" for none
	balances   bool   // the owner's link answers with the addresses of its ports
}

// judge tells what is wrong when these answer for an address, and for what reasons.
func (c *checking) judge(ch check, holders []net.HardwareAddr, why reasons) *v1beta1.Layer2Conflict {
	out := &v1beta1.Layer2Conflict{Address: ch.addr.String(), Link: ch.link, Owner: ch.owner, Since: metav1.NewTime(time.Now().Truncate(time.Second))}
	right := slices.ContainsFunc(holders, func(h net.HardwareAddr) bool { return bytes.Equal(h, ch.mac) })
	wrong, node := ch.wrong(holders), ""
	if wrong != nil {
		out.MACAddress, node = wrong.String(), c.view.tracker.NodeOf(wrong)
	}
	place := "in the place of"
	switch {
	case len(holders) == 0:
		out.Kind = v1beta1.ConflictUnanswered
		out.Message = fmt.Sprintf("Nobody answers for %s, which node %s announces; look at what is between the nodes, and at the log of its speaker. "+
			"Wi-Fi and some hypervisors bring no questions to a node that its L2Advertisement does not make promiscuous.", ch.addr, ch.owner)
		return out
	case right && wrong == nil:
		return nil
	case right:
		out.Kind, place = v1beta1.ConflictDuplicate, "beside"
	case node != "":
		out.Kind = v1beta1.ConflictOtherNode
	default:
		out.Kind = v1beta1.ConflictForeignHost
	}
	out.Message = fmt.Sprintf("%s answers for %s %s node %s, which announces it. %s",
		holderName(out.MACAddress, node), ch.addr, place, ch.owner, why.message(ch, node))
	out.Message = strings.TrimSpace(out.Message)
	return out
}

// message says for which cause another than the owner answers, a node or a stranger,
// and what to do; "" for nothing that is known.
func (why reasons) message(ch check, node string) string {
	switch {
	case node != "":
		return announcement.WhyNodeAnswers(ch.addr, why.here)
	case why.everything.IsValid():
		return fmt.Sprintf("It answers for any address, also for %s, which nobody should have. %s", why.everything, announcement.ProxyRemedy(ch.addr))
	case why.balances:
		return "The link of that node is a bond in mode balance-alb, which answers with the addresses of its ports. Give the bond another mode."
	}
	return ""
}
