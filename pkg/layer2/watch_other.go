//go:build !linux

package layer2

import (
	"errors"
	"fmt"
)

// linkEvents never exists: the links of other systems are not watched.
type linkEvents struct{}

func subscribeLinks() (*linkEvents, error) {
	return nil, fmt.Errorf("subscribe to link events: %w", errors.ErrUnsupported)
}

func (*linkEvents) forward(chan<- struct{}) error { return errors.ErrUnsupported }

func (*linkEvents) close() {}

func readLinks() ([]Link, error) { return nil, errors.ErrUnsupported }
