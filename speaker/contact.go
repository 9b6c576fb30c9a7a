package main

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// contactReturns is how long a speaker whose contact was lost gives all others to be
// heard again, once it is back: to be joined, or to renew their Speaker objects.
const contactReturns = renewalTrust

// Where contact was lost for less than contactBlip, perhaps because one answer was
// late, blipReturns is enough: membership joins those that it has lost meanwhile.
const (
	contactBlip = 3 * time.Second
	blipReturns = 6 * time.Second
)

// contactPatience is how long a speaker may take to find out whether it hears
// anybody, once somebody has been silent for too long: more than a call to an API
// server that is not there takes.
const contactPatience = apiTimeout + 4*renewLook

// contact is one way to the rest of the cluster, and when it was last known to work.
type contact struct {
	// last is when it was found to work last, trusted the same, but for the time
	// after it was lost: then what comes by it is not complete yet.
	last, trusted time.Time
	// lost is since when it does not work, zero while it does; back since when it
	// works again.
	lost, back time.Time
}

// note takes in whether the way was just found to work.
func (c *contact) note(works bool, now time.Time) {
	if !works {
		c.back = time.Time{}
		if c.lost.IsZero() {
			c.lost = now
		}
		return
	}
	c.last = now
	if c.back.IsZero() {
		c.back = now
	}
	grace := contactReturns
	if c.back.Sub(c.lost) < contactBlip {
		grace = blipReturns
	}
	if c.lost.IsZero() || now.Sub(c.back) >= grace {
		*c = contact{last: now, trusted: now}
	}
}

// sawAPI takes in whether the API server answered just now.
func (f *fellowship) sawAPI(answers bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.api.note(answers, now)
}

// hearsAll takes in that all fellows are heard whose nodes live.
func (f *fellowship) hearsAll(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.api, f.others = contact{last: now, trusted: now}, contact{last: now, trusted: now}
}

// sawFellow takes in whether one of the fellows that membership sees alive
// answered a ping just now.
func (f *fellowship) sawFellow(answers bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others.note(answers, now)
}

// lastContact is when the API server or a fellow last answered.
func (f *fellowship) lastContact() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return later(f.api.last, f.others.last)
}

// doubt is how badly this speaker needs to know whether it is itself that hears
// nothing.
type doubt int

const (
	// noDoubt: all fellows are heard, or their nodes are dead.
	noDoubt doubt = iota
	// lastingDoubt: some are not heard, and that is nothing new.
	lastingDoubt
	// freshDoubt: some have just fallen silent, or nothing is known of them.
	freshDoubt
)

// inDoubt is how badly this speaker needs to know whether it is itself that hears
// nothing. It also returns the fellows that membership sees alive, and whether the API
// server is to be asked too: where there are none, or where it has told of others.
func (f *fellowship) inDoubt() (out doubt, alive []string, askAPI bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, fellow := range f.last.fellows {
		switch {
		case fellow.alive:
			alive = append(alive, name)
		case fellow.Reason == v1beta1.ReasonNodeAssumed:
			out, askAPI = freshDoubt, true
		case fellow.Presence == announcement.Held && !fellow.expected:
			out = freshDoubt
		case fellow.Reason == v1beta1.ReasonNodeHeard:
			out, askAPI = max(out, lastingDoubt), true
		}
	}
	if len(alive) == 0 && len(f.last.fellows) > 0 {
		out, askAPI = max(out, lastingDoubt), true
	}
	return out, alive, askAPI
}

// contactPings is how many fellows are pinged at one time when others are not heard.
const contactPings = 3

// lookForContact finds out whether it is this speaker that is cut off, as soon as
// some fellow is not heard: it asks the API server, and some of those that are.
func (sp *speaker) lookForContact(ctx context.Context, alive []string, askAPI bool) {
	var asking sync.WaitGroup
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	answered := make([]bool, min(len(alive), contactPings))
	for i := range answered {
		asking.Go(func() { answered[i] = sp.members.Ping(ctx, alive[i]) == nil })
	}
	// One that does not answer takes seconds.
	if askAPI && sp.askingAPI.CompareAndSwap(false, true) {
		sp.background.Go(func() {
			defer sp.askingAPI.Store(false)
			answers := sp.object.reachable(ctx)
			if ctx.Err() == nil {
				sp.fellows.sawAPI(answers, time.Now())
				sp.watch.again()
			}
		})
	}
	asking.Wait()
	if ctx.Err() == nil {
		sp.fellows.sawFellow(slices.Contains(answered, true), time.Now())
		sp.watch.again()
	}
}

// yielded are the addresses that this node leaves to others while it is isolated:
// they announce them, so they knew more than it does.
type yielded struct {
	mu sync.Mutex
	to map[netip.Addr]string // by address
}

// isolate takes in since when this speaker has had no contact with anybody. As
// long as that lasts it takes nothing from a node whose kernel answers, and so does
// everybody else who knows as little. An address that it had before and that a
// fellow announces nevertheless was taken by one that knows more: that one keeps it.
func (sp *speaker) isolate(since, now time.Time) {
	limit := sp.settings.Isolation
	isolated := limit > 0 && sp.view.state.settled.IsSet() && now.Sub(since) > limit
	if was := sp.view.isolated.Swap(isolated); was != isolated {
		if isolated {
			sp.log.Warn("isolated: neither the API server nor another speaker is heard", "duration", limit.String())
		} else {
			sp.log.Info("no longer isolated")
		}
		sp.object.tell()
	}
	to := map[netip.Addr]string{}
	if isolated {
		to = sp.takenByOthers(since)
	}
	if sp.view.yielded.set(to, isolated) {
		sp.watch.all()
	}
}

// takenByOthers are the addresses that this node announced before a time and that
// fellows claimed on the LAN since.
func (sp *speaker) takenByOthers(since time.Time) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, heard := range sp.conflicts.announcer.Conflicts() {
		own := sp.view.state.memory(heard.Addr)
		node := sp.view.nodeOf(heard.MAC)
		if heard.Last.After(since) && own.since.Before(since) && node != "" && node != sp.view.node {
			out[heard.Addr] = node
		}
	}
	return out
}

// set remembers what is left to others. What was left stays so until the speaker
// is not isolated any more. It reports whether anything changed.
func (y *yielded) set(to map[netip.Addr]string, isolated bool) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	before := y.to
	if isolated {
		all := maps.Clone(before)
		if all == nil {
			all = map[netip.Addr]string{}
		}
		maps.Copy(all, to)
		to = all
	}
	y.to = to
	return !maps.Equal(before, to)
}

// node is the one to which an address is left, "" for none.
func (y *yielded) node(addr netip.Addr) string {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.to[addr]
}
