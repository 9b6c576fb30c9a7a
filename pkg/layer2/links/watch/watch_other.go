//go:build !linux

package watch

import (
	"errors"
	"fmt"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// linkEvents never exists: the links of other systems are not watched.
type linkEvents struct{}

func subscribeLinks() (*linkEvents, error) {
	return nil, fmt.Errorf("subscribe to link events: %w", errors.ErrUnsupported)
}

func (*linkEvents) forward(notify.Signal) error { return errors.ErrUnsupported }

func (*linkEvents) close() {}

// Read fails: see the file for Linux.
func Read() ([]links.Link, error) { return nil, errors.ErrUnsupported }
