package membership

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// ripening is how long a key that was not known before only decrypts, although it
	// is the first: as long as it may take until all members have it.
	ripening = 10 * time.Second
	// formerFor is how long a key still decrypts after it was removed: members may learn
	// late of the one in its place.
	formerFor = 5 * time.Minute
	// maxFormer is how many such keys are kept; the oldest goes first.
	maxFormer = 4
)

// IsKey reports whether something can be a key: it has 16, 24 or 32 bytes.
func IsKey(key []byte) bool { return memberlist.ValidateKey(key) == nil }

// heldKey is a key that this member uses.
type heldKey struct {
	key   []byte
	proof proofKey
	// ripe is when it may encrypt; the zero time for at once.
	ripe time.Time
	// set is true while it is one of those that were set last; otherwise it is
	// forgotten at the time forget.
	set    bool
	forget time.Time
}

// keyring decides which keys decrypt and which one encrypts, and has memberlist's
// keyring hold just these.
//
// Members learn of a change at different times. So that they understand each other
// meanwhile, a new key decrypts before it encrypts, and a former one decrypts
// for a while after. A key that somebody else is heard to use need not wait: it is
// that member which would not understand.
type keyring struct {
	mu   sync.Mutex
	ring *memberlist.Keyring
	// held are first those that are set, in their order, then the former ones, the
	// latest first.
	held []heldKey
	// encrypting is the key in use, reported the one that tick reported last.
	encrypting, reported []byte
}

func newKeyring(keys [][]byte) (*keyring, error) {
	k := &keyring{ring: new(memberlist.Keyring)}
	if err := k.set(keys, time.Time{}); err != nil {
		return nil, err
	}
	k.reported = k.encrypting
	return k, nil
}

// set sets the keys. When one is not acceptable, nothing changes. Errors name keys
// by position only.
func (k *keyring) set(keys [][]byte, now time.Time) error {
	if len(keys) == 0 {
		return errors.New("no key given")
	}
	held := make([]heldKey, 0, len(keys))
	for i, key := range keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		proof, err := newProofKey(key)
		if err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if !slices.ContainsFunc(held, func(h heldKey) bool { return bytes.Equal(h.key, key) }) {
			held = append(held, heldKey{key: slices.Clone(key), proof: proof, set: true})
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range held {
		switch j := k.index(held[i].key); {
		case j >= 0 && (k.held[j].set || k.held[j].forget.After(now.Add(2*ripening))):
			held[i].ripe = k.held[j].ripe
		case len(k.held) > 0:
			// It is new, or others may forget it before they learn that it is set again:
			// they may have learned of its removal earlier, and be late now.
			held[i].ripe = now.Add(ripening)
		}
	}
	wanted := len(held)
	for _, old := range k.held {
		if slices.ContainsFunc(held[:wanted], func(h heldKey) bool { return bytes.Equal(h.key, old.key) }) {
			continue
		}
		if old.set {
			old.set, old.forget = false, now.Add(formerFor)
		}
		held = append(held, old)
	}
	former := held[wanted:]
	slices.SortStableFunc(former, func(a, b heldKey) int {
		switch {
		case bytes.Equal(a.key, k.encrypting): // it must not be the one that goes
			return -1
		case bytes.Equal(b.key, k.encrypting):
			return 1
		}
		return b.forget.Compare(a.forget)
	})
	if len(former) > maxFormer {
		held = held[:wanted+maxFormer]
	}
	k.held = held
	return k.apply(now)
}

// begin makes these keys all there are: nobody has heard this member use others.
func (k *keyring) begin(keys [][]byte) error {
	fresh, err := newKeyring(keys)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.encrypting, k.reported = fresh.held, fresh.encrypting, fresh.encrypting
	return k.apply(time.Time{})
}

// tick has what is due happen. It reports whether another key encrypts than when it
// was called last.
func (k *keyring) tick(now time.Time) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err = k.apply(now)
	changed = !bytes.Equal(k.reported, k.encrypting)
	k.reported = k.encrypting
	return changed, err
}

// heard takes note that another member encrypts with a key.
func (k *keyring) heard(id keyID, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.held {
		if k.held[i].proof.id == id && k.held[i].ripe.After(now) {
			k.held[i].ripe = now
			_ = k.apply(now) // of keys that are in the ring
		}
	}
}

// awaited returns the key that is to encrypt and has to wait; nil when there is none.
func (k *keyring) awaited() *heldKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if bytes.Equal(k.held[0].key, k.encrypting) {
		return nil
	}
	h := k.held[0]
	return &h
}

// first returns the key that encrypts.
func (k *keyring) first() proofKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[k.index(k.encrypting)].proof
}

// find returns the key of an id.
func (k *keyring) find(id keyID) (proofKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.proof.id == id {
			return h.proof, true
		}
	}
	return proofKey{}, false
}

func (k *keyring) index(key []byte) int {
	return slices.IndexFunc(k.held, func(h heldKey) bool { return bytes.Equal(h.key, key) })
}

// apply drops the keys whose time is over, chooses the one that encrypts, and
// gives them to memberlist.
func (k *keyring) apply(now time.Time) error {
	first := k.held[0] // one that is set
	if i := k.index(k.encrypting); i < 0 || !first.ripe.After(now) {
		k.encrypting = first.key
	}
	k.held = slices.DeleteFunc(k.held, func(h heldKey) bool {
		return !h.set && !h.forget.After(now) && !bytes.Equal(h.key, k.encrypting)
	})
	order := [][]byte{k.encrypting}
	for _, h := range k.held {
		if !bytes.Equal(h.key, k.encrypting) {
			order = append(order, h.key)
		}
	}
	return install(k.ring, order)
}

// install makes memberlist's keyring hold exactly the given keys, the first one
// encrypting.
func install(ring *memberlist.Keyring, keys [][]byte) error {
	for i, key := range keys {
		if err := ring.AddKey(slices.Clone(key)); err != nil {
			return fmt.Errorf("add key %d: %w", i, err)
		}
	}
	// Each key that is used moves to the front, so this leaves them in the given
	// order and those to remove at the end. Members that decrypt meanwhile read
	// the ring's slice without a lock: only the removal of its last element does
	// not move the others under their eyes.
	for i, key := range slices.Backward(keys) {
		if err := ring.UseKey(key); err != nil {
			return fmt.Errorf("use key %d: %w", i, err)
		}
	}
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(w []byte) bool { return bytes.Equal(w, key) })
	}
	for held := ring.GetKeys(); !wanted(held[len(held)-1]); held = ring.GetKeys() {
		if err := ring.RemoveKey(held[len(held)-1]); err != nil {
			return fmt.Errorf("remove an old key: %w", err)
		}
	}
	return nil
}
