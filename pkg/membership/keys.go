package membership

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// keyring is memberlist's keyring, replaced as a whole.
type keyring struct {
	mu   sync.Mutex
	ring *memberlist.Keyring
}

func newKeyring(keys [][]byte) (*keyring, error) {
	k := &keyring{ring: new(memberlist.Keyring)}
	if err := k.set(keys); err != nil {
		return nil, err
	}
	return k, nil
}

// set makes the ring hold exactly the given keys, the first one encrypting. When
// one is not acceptable, nothing changes. Errors name keys by position only.
func (k *keyring) set(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("no key given")
	}
	for i, key := range keys {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, key := range keys {
		if err := k.ring.AddKey(slices.Clone(key)); err != nil {
			return fmt.Errorf("add key %d: %w", i, err)
		}
	}
	// Each key that is used moves to the front, so this leaves them in the given
	// order and those to remove at the end. Members that decrypt meanwhile read
	// the ring's slice without a lock: only the removal of its last element does
	// not move the others under their eyes.
	for i, key := range slices.Backward(keys) {
		if err := k.ring.UseKey(key); err != nil {
			return fmt.Errorf("use key %d: %w", i, err)
		}
	}
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(w []byte) bool { return bytes.Equal(w, key) })
	}
	for held := k.ring.GetKeys(); !wanted(held[len(held)-1]); held = k.ring.GetKeys() {
		if err := k.ring.RemoveKey(held[len(held)-1]); err != nil {
			return fmt.Errorf("remove an old key: %w", err)
		}
	}
	return nil
}
