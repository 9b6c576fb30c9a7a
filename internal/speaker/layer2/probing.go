package layer2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/election"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

const (
	// askAgain is after how long the LAN is asked again for an address that is
	// taken, or for which another program on a node answers as well.
	askAgain = 10 * time.Second
	// askMemberAgain is the same where a member has the address, or asks for it too:
	// gossip should soon say so. A member that has it is reported after so many tries.
	askMemberAgain = 500 * time.Millisecond
	memberTries    = 5
)

// probing has the LAN probed for addresses before they are announced for the
// very first time (RFC 5227 2.1, RFC 4862 5.4).
type probing struct {
	prober     Prober
	proxyHosts *proxyFinder
	view       *view
	log        *slog.Logger
	count      int
	interval   time.Duration
	queue      Requeuer

	ctx     context.Context // ends with the speaker
	pending sync.WaitGroup
}

// run waits until the speaker stops and all that is under way has ended.
func (p *probing) run(ctx context.Context) error {
	<-ctx.Done()
	p.pending.Wait()
	return nil
}

// start asks for an address on links until it is free, or this node is no longer to
// announce it, or the links cannot be asked: then the next decision says on which. An
// answer that is news has the address reconciled.
func (p *probing) start(addr netip.Addr, links []string) {
	serial := p.view.memory.startProbe(addr)
	p.pending.Go(func() {
		answered := 0 // how often a member did
		for p.ctx.Err() == nil && p.view.memory.probing(addr, serial) {
			found, err := p.ask(addr, links)
			result := judgeFound(addr, p.view.node, found, p.view.tracker.NodeOf)
			taken := announcement.Probe{
				State:  announcement.ProbeTaken,
				Holder: result.other.mac,
				Node:   result.other.node,
				Nodes:  result.nodes,
				Here:   p.view.tracker.InterfaceWith(addr),
			}
			switch {
			case p.ctx.Err() != nil:
				return
			case err != nil:
				p.log.Info("cannot probe for an address", "address", addr.String(), "error", err)
				p.wait(askMemberAgain)
				p.record(addr, serial, announcement.Probe{State: announcement.ProbeNone})
				return
			case result.kind == foundFree:
				p.record(addr, serial, announcement.Probe{
					State:  announcement.ProbeFree,
					Unseen: found.Unsourced,
				})
				return
			case result.kind == foundRival:
				p.wait(askMemberAgain)
			case result.kind == foundMember:
				if answered++; answered >= memberTries {
					p.record(addr, serial, taken)
				}
				p.wait(p.pause(addr))
			default:
				taken.Everything = p.proxyHosts.answers(p.ctx, addr, links, result.other.mac)
				p.record(addr, serial, taken)
				p.wait(askAgain)
			}
		}
	})
}

// finding is what the answers of the LAN mean for a node that is about to announce
// an address for the first time.
type finding struct {
	kind  findingKind
	other host     // whose answer it is
	nodes []string // all that answer
}

type findingKind int

const (
	// foundFree: nobody has the address, and of the nodes that ask for it this one
	// takes it.
	foundFree findingKind = iota
	// foundRival: another node asks for it as well, and takes it.
	foundRival
	// foundMember: a node answers for it, by its speaker or by its kernel. If it owns
	// the address, its claim will be heard.
	foundMember
	// foundStranger: another host has it, or is about to.
	foundStranger
)

// judgeFound returns what was found. Of nodes that ask at the same time, which they do
// while each takes itself for the owner, the first in the order of [election.Rank]
// takes the address. Each knows of the other what the other knows of it: that both
// asked.
func judgeFound(
	addr netip.Addr, node string, found prober.Found, nodeOf func(net.HardwareAddr) string,
) finding {
	var nodes []string
	for _, mac := range found.Holders {
		if name := nodeOf(mac); name != "" {
			nodes = append(nodes, name)
		}
	}
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)

	for _, mac := range slices.Concat(found.Holders, found.Probers) {
		if nodeOf(mac) == "" {
			return finding{foundStranger, host{mac: mac}, nodes}
		}
	}
	if len(found.Holders) > 0 {
		mac := found.Holders[0]
		return finding{foundMember, host{mac, nodeOf(mac)}, nodes}
	}
	for _, mac := range found.Probers {
		other := nodeOf(mac)
		candidates := []election.Candidate{{Name: node}, {Name: other}}
		if first, _ := election.Elect(addr, candidates); first != node {
			return finding{kind: foundRival, other: host{mac, other}}
		}
	}
	return finding{}
}

// record remembers what is known of an address now, and has it reconciled.
func (p *probing) record(addr netip.Addr, serial uint64, probe announcement.Probe) {
	if p.view.memory.setProbe(addr, serial, probe) {
		p.queue.Requeue(addr)
	}
}

// pause returns after how long the LAN is asked again for an address that members have: soon,
// if this node waits for that.
func (p *probing) pause(addr netip.Addr) time.Duration {
	if p.view.memory.of(addr).Announce {
		return askAgain
	}
	return askMemberAgain
}

func (p *probing) wait(d time.Duration) {
	select {
	case <-p.ctx.Done():
	case <-time.After(d):
	}
}

// ask returns who has the address on one of the links, or wants it. It probes for
// it first, as RFC 5227 2.1 and RFC 4862 5.4 say. When nobody is found, the last
// question is that of a host, from an address of this node: bridges that suppress
// ARP and NDP pass no other. A host that answers that one only, and does so for every
// address, has this one no more than others: it proxies. An error counts only when
// nobody is found and no link could be asked.
func (p *probing) ask(addr netip.Addr, links []string) (prober.Found, error) {
	last := prober.Question{Addr: addr, Count: 1, Interval: p.interval, AsHost: true}
	probe := prober.Question{Addr: addr, Count: max(p.count-last.Count, 1), Interval: p.interval}
	found, err := p.round(probe, links)
	if err != nil || len(found.Holders)+len(found.Probers) > 0 {
		return found, err
	}
	if p.count == probe.Count {
		found.Unsourced = true
		return found, nil
	}
	if found, err = p.round(last, links); err != nil {
		return found, err
	}
	if len(found.Holders) > controlAnswers {
		return found, nil
	}
	found.Holders = slices.DeleteFunc(found.Holders, func(mac net.HardwareAddr) bool {
		return p.view.tracker.NodeOf(mac) == "" && p.proxyHosts.answers(p.ctx, addr, links, mac).IsValid()
	})
	return found, nil
}

// round asks on each of the links at once.
func (p *probing) round(q prober.Question, links []string) (prober.Found, error) {
	questions := make([]prober.Question, len(links))
	for i, link := range links {
		questions[i] = q
		questions[i].Link = link
	}
	var all prober.Found
	var errs []error
	for _, got := range askAll(p.ctx, p.prober, questions) {
		all.Holders = append(all.Holders, got.Holders...)
		all.Probers = append(all.Probers, got.Probers...)
		all.Unsourced = all.Unsourced || got.Unsourced
		if got.err != nil {
			errs = append(errs, got.err)
		}
	}
	slices.SortFunc(all.Holders, func(x, y net.HardwareAddr) int { return bytes.Compare(x, y) })
	slices.SortFunc(all.Probers, func(x, y net.HardwareAddr) int { return bytes.Compare(x, y) })
	if len(all.Holders)+len(all.Probers) == 0 && len(errs) == len(links) {
		return prober.Found{}, fmt.Errorf("no link could be asked: %w", errors.Join(errs...))
	}
	return all, nil
}

// answer is what the LAN answered to a question.
type answer struct {
	prober.Found
	err error
}

// askAll asks several questions at once, and returns the answers in their order.
func askAll(ctx context.Context, p Prober, questions []prober.Question) []answer {
	out := make([]answer, len(questions))
	var running sync.WaitGroup
	for i, q := range questions {
		running.Go(func() { out[i].Found, out[i].err = p.Ask(ctx, q) })
	}
	running.Wait()
	return out
}
