package members

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
)

// Problem says why something does not work, by a reason and a message.
type Problem struct {
	Reason  v1beta1.Reason
	Message string
}

// Times of joining.
const (
	// keyGrace is how long the member Secret may have no key before Run reports a problem:
	// the controller fills it when Berth is installed.
	keyGrace = 5 * time.Second
	// portRetry is how often a speaker tries to listen on a port that another process uses.
	portRetry = 500 * time.Millisecond
)

// UnusedKey returns a key that nobody else has. A Membership is created with it, and gets
// the keys of the cluster before it runs.
func UnusedKey() [][]byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return [][]byte{key}
}

// JoinerConfig is what a [Joiner] needs.
type JoinerConfig struct {
	Membership Membership
	// Address is where this speaker is a member.
	Address netip.AddrPort
	// Secret has the keys. The Joiner reads the first ones from API, and later ones from
	// Secrets.
	Secret  types.NamespacedName
	API     client.Reader
	Secrets cache.Cache
	// Status is set when the Speaker object is to be written again.
	Status notify.Signal
	Log    *slog.Logger
}

// Joiner joins this speaker to the membership. It is safe for concurrent use.
type Joiner struct {
	c       JoinerConfig
	problem atomic.Pointer[Problem]
	// keys are the first ones; they are set before keyed is.
	keys  [][]byte
	keyed notify.Latch
}

// NewJoiner returns a Joiner that does nothing yet.
func NewJoiner(c JoinerConfig) *Joiner { return &Joiner{c: c, keyed: notify.NewLatch()} }

// Run takes part in the membership until ctx ends. It waits for a key, and for the port if
// another process uses it. Only layer 2 waits for that.
func (j *Joiner) Run(ctx context.Context) error {
	late := time.AfterFunc(keyGrace, func() {
		j.setProblem(&Problem{v1beta1.ReasonMemberKeyNotFound, fmt.Sprintf(
			"Secret %s has no key that this speaker can use, so it cannot talk to the others. "+
				"See that the controller works, which fills it.", j.c.Secret)})
	})
	keys, err := j.firstKeys(ctx)
	late.Stop()
	if err != nil {
		return nil // ctx has ended
	}
	j.keys = keys
	j.keyed.Set()
	j.setProblem(nil)
	for {
		err := j.c.Membership.Run(ctx)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		j.setProblem(&Problem{v1beta1.ReasonMemberPortUnavailable, fmt.Sprintf(
			"This speaker cannot listen on port %d of %s: %s. "+
				"See which other process does, or choose another port with --member-port on all nodes.",
			j.c.Address.Port(), j.c.Address.Addr(), err)})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(portRetry):
		}
	}
}

// firstKeys waits for keys that can be used, passes them to membership and returns them.
func (j *Joiner) firstKeys(ctx context.Context) ([][]byte, error) {
	for {
		keys, err := memberKeys(ctx, j.c.API, j.c.Secret, j.c.Log)
		if err != nil {
			return nil, err
		}
		if err = j.c.Membership.SetKeys(keys); err == nil {
			return keys, nil
		}
		j.c.Log.Error("the member Secret has keys that cannot be used",
			"name", j.c.Secret.String(), "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(keyGrace):
		}
	}
}

// Problem returns why this speaker does not take part in the membership; nil if it does, or
// is about to.
func (j *Joiner) Problem() *Problem { return j.problem.Load() }

// setProblem records why this speaker does not take part in the membership, nil if it does,
// and logs a change.
func (j *Joiner) setProblem(why *Problem) {
	before := j.problem.Swap(why)
	if why == before || why != nil && before != nil && *why == *before {
		return
	}
	if why != nil {
		j.c.Log.Warn("cannot take part in the membership: nothing is announced by layer 2, and BGP goes on",
			"reason", string(why.Reason), "message", why.Message)
	}
	j.c.Status.Set()
}

// Joined reports whether this speaker takes part in the membership.
func (j *Joiner) Joined() bool {
	if len(j.c.Membership.Members()) == 0 {
		return false
	}
	j.setProblem(nil)
	return true
}
