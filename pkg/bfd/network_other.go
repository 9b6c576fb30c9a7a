//go:build !linux

package bfd

import (
	"errors"
	"fmt"
	"time"
)

// newNetwork has no sockets: the TTL and the link of a packet are asked of the
// kernel in Linux's way. The pure half of the package works everywhere.
func newNetwork() network { return noNetwork{} }

type noNetwork struct{}

func (noNetwork) open(bool) error    { return fmt.Errorf("open BFD socket: %w", errors.ErrUnsupported) }
func (noNetwork) wait(time.Duration) {}
func (noNetwork) wake()              {}
func (noNetwork) close()             {}

func (noNetwork) listen(role) (listener, error) {
	return nil, fmt.Errorf("open BFD socket: %w", errors.ErrUnsupported)
}

func (noNetwork) dial(Key) (sender, int, error) {
	return nil, 0, fmt.Errorf("open BFD socket: %w", errors.ErrUnsupported)
}

func (noNetwork) forwards(Key) bool { return false }
