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
	// taken.
	askAgain = 10 * time.Second
	// askMemberAgain is the same where a member has it, or asks for it too, of
	// which gossip should soon tell. After so many tries it is told of one that has
	// it.
	askMemberAgain = 500 * time.Millisecond
	memberTries    = 5
)

// asking has the LAN probed for addresses before they are announced for the
// very first time (RFC 5227 2.1, RFC 4862 5.4).
type asking struct {
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
func (a *asking) run(ctx context.Context) error {
	<-ctx.Done()
	a.pending.Wait()
	return nil
}

// start asks for an address on links until it is free, or this node is no longer
// to announce it, or the links cannot be asked: then the next decision says on
// which. It has the address looked at when the answer is news.
func (a *asking) start(addr netip.Addr, links []string) {
	serial := a.view.memory.startProbe(addr)
	a.pending.Go(func() {
		answered := 0 // how often a member did
		for a.ctx.Err() == nil && a.view.memory.probing(addr, serial) {
			found, err := a.ask(addr, links)
			finding := judgeFound(addr, a.view.node, found, a.view.tracker.NodeOf)
			taken := announcement.Probe{
				State: announcement.ProbeTaken, Holder: finding.mac, Node: finding.node, Nodes: finding.nodes, Here: a.view.tracker.InterfaceWith(addr),
			}
			switch {
			case a.ctx.Err() != nil:
				return
			case err != nil:
				a.log.Info("cannot probe for an address", "address", addr.String(), "error", err)
				a.wait(askMemberAgain)
				a.tell(addr, serial, announcement.Probe{State: announcement.ProbeNone})
				return
			case finding.verdict == foundFree:
				a.tell(addr, serial, announcement.Probe{State: announcement.ProbeFree, Unseen: found.Unsourced})
				return
			case finding.verdict == foundRival:
				a.wait(askMemberAgain)
			case finding.verdict == foundMember:
				if answered++; answered >= memberTries {
					a.tell(addr, serial, taken)
				}
				a.wait(askMemberAgain)
			default:
				taken.Everything = a.proxyHosts.answers(a.ctx, addr, links, finding.mac)
				a.tell(addr, serial, taken)
				a.wait(askAgain)
			}
		}
	})
}

// finding is what the answers of the LAN mean for a node that is about to announce
// an address for the first time.
type finding struct {
	verdict foundVerdict
	mac     net.HardwareAddr // whose
	node    string           // "" for a stranger
	nodes   []string         // all that answer
}

type foundVerdict int

const (
	// foundFree: nobody has the address, and of the nodes that ask for it this one
	// takes it.
	foundFree foundVerdict = iota
	// foundRival: another node asks for it as well, and takes it.
	foundRival
	// foundMember: a node answers for it, by its speaker or by its kernel. If it owns
	// the address, its claim will be heard.
	foundMember
	// foundStranger: another host has it, or is about to.
	foundStranger
)

// judgeFound says what was found. Of nodes that ask at the same time, which they do
// while each takes itself for the owner, the first in the order of [election.Rank]
// takes the address. Each knows of the other what the other knows of it: that both
// asked.
func judgeFound(addr netip.Addr, node string, found prober.Found, nodeOf func(net.HardwareAddr) string) finding {
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
			return finding{foundStranger, mac, "", nodes}
		}
	}
	if len(found.Holders) > 0 {
		return finding{foundMember, found.Holders[0], nodeOf(found.Holders[0]), nodes}
	}
	for _, mac := range found.Probers {
		other := nodeOf(mac)
		if first, _ := election.Elect(addr, []election.Candidate{{Name: node}, {Name: other}}); first != node {
			return finding{verdict: foundRival, mac: mac, node: other}
		}
	}
	return finding{}
}

// tell has the address looked at with what is known of it now.
func (a *asking) tell(addr netip.Addr, serial uint64, probe announcement.Probe) {
	if a.view.memory.setProbe(addr, serial, probe) {
		a.queue.Requeue(addr)
	}
}

func (a *asking) wait(d time.Duration) {
	select {
	case <-a.ctx.Done():
	case <-time.After(d):
	}
}

// ask returns who has the address on one of the links, or wants it. It probes for
// it first, as RFC 5227 2.1 and RFC 4862 5.4 say. When nobody is found, the last
// question is that of a host, from an address of this node: bridges that suppress
// ARP and NDP pass no other. A host that answers that one only, and does so for every
// address, has this one no more than others: it proxies. An error counts only when
// nobody is found and no link could be asked.
func (a *asking) ask(addr netip.Addr, links []string) (prober.Found, error) {
	last := prober.Question{Addr: addr, Count: 1, Interval: a.interval, AsHost: true}
	probe := prober.Question{Addr: addr, Count: max(a.count-last.Count, 1), Interval: a.interval}
	found, err := a.round(probe, links)
	if err != nil || len(found.Holders)+len(found.Probers) > 0 {
		return found, err
	}
	if a.count == probe.Count {
		found.Unsourced = true
		return found, nil
	}
	if found, err = a.round(last, links); err != nil {
		return found, err
	}
	if len(found.Holders) > controlAnswers {
		return found, nil
	}
	found.Holders = slices.DeleteFunc(found.Holders, func(mac net.HardwareAddr) bool {
		return a.view.tracker.NodeOf(mac) == "" && a.proxyHosts.answers(a.ctx, addr, links, mac).IsValid()
	})
	return found, nil
}

// round asks once on each of the links.
func (a *asking) round(q prober.Question, links []string) (prober.Found, error) {
	type answer struct {
		found prober.Found
		err   error
	}
	answers := make(chan answer, len(links))
	for _, link := range links {
		on := q
		on.Link = link
		go func() {
			found, err := a.prober.Ask(a.ctx, on)
			answers <- answer{found, err}
		}()
	}
	var all prober.Found
	var errs []error
	for range links {
		got := <-answers
		all.Holders = append(all.Holders, got.found.Holders...)
		all.Probers = append(all.Probers, got.found.Probers...)
		all.Unsourced = all.Unsourced || got.found.Unsourced
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
