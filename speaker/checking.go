package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2"
)

const (
	// checkers is how many addresses are checked at one time.
	checkers = 32
	// checkAgain is how long after a check that found something wrong it is
	// repeated, before it is told: an address may just be moving.
	checkAgain = 2 * time.Second
)

// checking asks the LAN now and then who answers for the addresses of fellows,
// as a client does. For each address one speaker does so, not the owner.
type checking struct {
	view   *view
	prober interface {
		Ask(context.Context, layer2.Question) ([]net.HardwareAddr, error)
	}
	found    func(netip.Addr, *v1beta1.Layer2Conflict) bool
	told     func() // conflicts have changed
	log      *slog.Logger
	interval time.Duration // 0 for never
}

// check is one address to check: on which link, and whose answer is right.
type check struct {
	addr  netip.Addr
	link  string
	owner string
	mac   net.HardwareAddr
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
	p := c.view.fellows.current()
	speakers := map[string]announcement.Speaker{c.view.node: c.view.self()}
	for name, f := range p.fellows {
		speakers[name] = f.Speaker
	}
	var out []check
	for addr, r := range c.view.state.all() {
		// An owner without a claim does not announce the address yet: perhaps it
		// asks whether another host has it.
		_, claimed := p.claims[addr][r.Owner]
		if r.Reason != v1beta1.ReasonNotOwner || p.fellows[r.Owner].Presence != announcement.Present || !claimed {
			c.clear(addr)
			continue
		}
		owner := speakers[r.Owner]
		owner.Links = slices.DeleteFunc(slices.Clone(owner.Links), func(l layer2.Link) bool { return !slices.Contains(r.OwnerLinks, l.Name) })
		speakers := maps.Clone(speakers)
		speakers[r.Owner] = owner
		link, mac, ok := announcement.Checker(addr, r.Owner, c.view.node, speakers)
		if !ok {
			c.clear(addr)
			continue
		}
		out = append(out, check{addr: addr, link: link, owner: r.Owner, mac: mac})
	}
	slices.SortFunc(out, func(a, b check) int { return a.addr.Compare(b.addr) })
	return out
}

func (c *checking) clear(addr netip.Addr) {
	if c.found(addr, nil) {
		c.told()
	}
}

// one checks one address. What it finds wrong it tells when it finds it twice
// and the owner has not changed.
func (c *checking) one(ctx context.Context, ch check) {
	before := c.view.fellows.current().claims[ch.addr][ch.owner]
	conflict, err := c.ask(ctx, ch)
	if err == nil && conflict != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(checkAgain):
		}
		conflict, err = c.ask(ctx, ch)
	}
	p := c.view.fellows.current()
	if err != nil || p.claims[ch.addr][ch.owner] != before || p.fellows[ch.owner].Presence != announcement.Present ||
		c.view.state.memory(ch.addr).Owner != ch.owner {
		return // it has moved meanwhile; nothing is known of it now
	}
	if !c.found(ch.addr, conflict) {
		return
	}
	if conflict != nil {
		c.log.Warn("an address is not answered as it should be", "address", ch.addr.String(), "owner", ch.owner, "kind", string(conflict.Kind), "message", conflict.Message)
	} else {
		c.log.Info("an address is answered as it should be again", "address", ch.addr.String(), "owner", ch.owner)
	}
	c.told()
}

// ask asks who has an address, and tells what is wrong with the answer.
func (c *checking) ask(ctx context.Context, ch check) (*v1beta1.Layer2Conflict, error) {
	holders, err := c.prober.Ask(ctx, layer2.Question{Addr: ch.addr, Link: ch.link, Count: 2, Interval: 200 * time.Millisecond})
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", ch.addr, err)
	}
	return c.judge(ch, holders), nil
}

// judge tells what is wrong when these answer for an address.
func (c *checking) judge(ch check, holders []net.HardwareAddr) *v1beta1.Layer2Conflict {
	out := &v1beta1.Layer2Conflict{Address: ch.addr.String(), Link: ch.link, Owner: ch.owner, Since: metav1.NewTime(time.Now().Truncate(time.Second))}
	right := slices.ContainsFunc(holders, func(h net.HardwareAddr) bool { return bytes.Equal(h, ch.mac) })
	wrong := slices.IndexFunc(holders, func(h net.HardwareAddr) bool { return !bytes.Equal(h, ch.mac) })
	if wrong >= 0 {
		out.MACAddress = holders[wrong].String()
	}
	node := ""
	if wrong >= 0 {
		node = c.view.nodeOf(holders[wrong])
	}
	switch {
	case len(holders) == 0:
		out.Kind = v1beta1.ConflictDead
		out.Message = fmt.Sprintf("Nobody answers for %s, which node %s announces; look at what is between the nodes, and at the log of its speaker.", ch.addr, ch.owner)
	case right && wrong < 0:
		return nil
	case right:
		out.Kind = v1beta1.ConflictTwice
		out.Message = fmt.Sprintf("%s answers for %s, beside node %s, which announces it.", holderName(out.MACAddress, node), ch.addr, ch.owner)
	case node != "":
		out.Kind = v1beta1.ConflictFellow
		out.Message = fmt.Sprintf("%s answers for %s in the place of node %s, which announces it.", holderName(out.MACAddress, node), ch.addr, ch.owner)
	default:
		out.Kind = v1beta1.ConflictForeign
		out.Message = fmt.Sprintf("%s answers for %s in the place of node %s, which announces it.", holderName(out.MACAddress, node), ch.addr, ch.owner)
	}
	return out
}
