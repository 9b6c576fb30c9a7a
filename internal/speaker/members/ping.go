package members

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/berth-lb/berth/internal/speaker/presence"
)

// pingQuestionable pings the questionable speakers, repeatedly until they are no longer
// questionable.
func (t *Tracker) pingQuestionable(ctx context.Context) {
	if ctx.Err() != nil {
		return // nobody waits for it any more
	}
	for node, answered := range t.questionable() {
		t.tasks.Go(func() {
			if t.Ping(ctx, node) {
				t.Wake()
			}
			select {
			case <-ctx.Done():
			case <-time.After(pingPause(time.Since(answered))):
			}
			t.mu.Lock()
			delete(t.pinging, node)
			t.mu.Unlock()
			t.Wake()
		})
	}
}

// questionable returns the nodes whose speaker to ping now, with when their kernel last
// answered, and marks them as being pinged.
func (t *Tracker) questionable() map[string]time.Time {
	last, obs := t.observe()
	ask, settled := presence.Questionable(last, obs)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, node := range settled {
		delete(t.pings, node)
	}
	for node := range ask {
		if t.pinging[node] {
			delete(ask, node)
		}
		t.pinging[node] = true
	}
	return ask
}

// refusalTimeout is how long a node's kernel may take to refuse a connection.
const refusalTimeout = 200 * time.Millisecond

// Ping pings the speaker of a node. If that does not answer, Ping connects to its port, to
// see whether the node's kernel refuses. It reports whether the result is news.
func (t *Tracker) Ping(ctx context.Context, node string) (news bool) {
	result := presence.Ping{Failed: t.c.Membership.Ping(ctx, node) != nil}
	if peer := t.peer(node); result.Failed && peer.IsValid() {
		bounded, cancel := context.WithTimeout(ctx, refusalTimeout)
		defer cancel()
		conn, err := t.c.Dialer.DialContext(bounded, "tcp", peer.String())
		if err == nil {
			_ = conn.Close() // nothing was said
		}
		result.Refused = errors.Is(err, syscall.ECONNREFUSED)
	}
	result.At = time.Now()
	return t.pinged(node, result)
}

// pinged records the result of a ping, and reports whether it is news.
func (t *Tracker) pinged(node string, result presence.Ping) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pings[node], news = result.After(t.pings[node], t.c.Grace.Silence)
	return news
}

// peer returns where the speaker of a node listens.
func (t *Tracker) peer(node string) netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.objects[node].Peer
}

// pingPause returns the time between two pings of a speaker whose node's kernel last
// answered so long ago.
func pingPause(silent time.Duration) time.Duration {
	if silent < 10*time.Second {
		return 100 * time.Millisecond
	}
	return 2 * time.Second
}
