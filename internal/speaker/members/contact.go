package members

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/speaker/presence"
)

// SawAPI records whether the API server answered just now.
func (t *Tracker) SawAPI(answers bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.api = t.api.Note(answers, presence.APIReturn, time.Now())
}

// SawMember records whether one of the members that membership sees alive answered a
// ping just now.
func (t *Tracker) SawMember(answers bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others = t.others.Note(answers, presence.MembersReturn, time.Now())
}

// SawAll records that all members are heard whose nodes live.
func (t *Tracker) SawAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.api, t.others = presence.Working(time.Now()), presence.Working(time.Now())
}

// LastContact returns when the API server or another member last answered.
func (t *Tracker) LastContact() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.api.Last.After(t.others.Last) {
		return t.api.Last
	}
	return t.others.Last
}

// contactPings is how many members are pinged at one time when others are not heard.
const contactPings = 3

// APIServer can be asked whether it answers.
type APIServer interface {
	Reachable(context.Context) bool
}

// SeekContact finds out whether it is this speaker that is cut off: it asks some of the
// members that membership sees alive, and the API server if askAPI is set.
func (t *Tracker) SeekContact(ctx context.Context, alive []string, askAPI bool, api APIServer) {
	rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
	answered := make([]bool, min(len(alive), contactPings))
	var pings sync.WaitGroup
	for i := range answered {
		pings.Go(func() { answered[i] = t.c.Membership.Ping(ctx, alive[i]) == nil })
	}
	// An API server that does not answer takes seconds.
	if askAPI && t.beginAskingAPI() {
		t.asking.Go(func() {
			defer t.endAskingAPI()
			answers := api.Reachable(ctx)
			if ctx.Err() == nil {
				t.SawAPI(answers)
				t.Wake()
			}
		})
	}
	pings.Wait()
	if ctx.Err() == nil {
		t.SawMember(slices.Contains(answered, true))
		t.Wake()
	}
}

// WaitContact waits until the API server has answered all that SeekContact asked.
func (t *Tracker) WaitContact() { t.asking.Wait() }

func (t *Tracker) beginAskingAPI() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	begins := !t.askingAPI
	t.askingAPI = true
	return begins
}

func (t *Tracker) endAskingAPI() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.askingAPI = false
}

// Suspicions returns, by node, why its speaker suspects this one to be dead, as its Speaker
// object lists it.
func (t *Tracker) Suspicions() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]string{}
	for name, o := range t.objects {
		if o.Suspicion != "" {
			out[name] = o.Suspicion
		}
	}
	return out
}
