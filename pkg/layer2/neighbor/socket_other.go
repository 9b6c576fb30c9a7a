//go:build !linux

package neighbor

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
)

// Socket never exists: packet sockets are Linux's. The pure half of the package works
// everywhere.
type Socket struct{}

// Open always fails.
func Open(Spec) (*Socket, error) {
	return nil, fmt.Errorf("open packet socket: %w", errors.ErrUnsupported)
}

// The methods are those of the socket for Linux.

func (*Socket) Receive([]byte, time.Time) (int, error) { return 0, errors.ErrUnsupported }
func (*Socket) Poll([]byte) (int, error)               { return 0, errors.ErrUnsupported }
func (*Socket) Rouse()                                 {}
func (*Socket) Lost() (uint, error)                    { return 0, errors.ErrUnsupported }
func (*Socket) Send([]byte) error                      { return errors.ErrUnsupported }
func (*Socket) TrySend([]byte) error                   { return errors.ErrUnsupported }
func (*Socket) SetFilter([]bpf.Instruction) error      { return errors.ErrUnsupported }
func (*Socket) SetPromiscuous(bool) error              { return errors.ErrUnsupported }
func (*Socket) Join(netip.Addr) error                  { return errors.ErrUnsupported }
func (*Socket) Leave(netip.Addr) error                 { return errors.ErrUnsupported }
func (*Socket) Close() error                           { return nil }

// Router never finds a router.
func Router(int) Binding { return Binding{} }
