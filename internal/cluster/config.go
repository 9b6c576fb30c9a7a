package cluster

import (
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/config"
)

// Config is the configuration in force in this process. It is safe for concurrent use.
type Config struct {
	known notify.Latch

	mu       sync.Mutex
	current  config.Config
	revision uint64
}

// NewConfig returns a Config that is not known yet.
func NewConfig() *Config { return &Config{known: notify.NewLatch()} }

// Set parses objects and makes the result the configuration in force. What is wrong with
// the objects is the controller's to report; the last good version of each stays in
// force. It returns when the objects must be parsed again although none changes; zero
// for never.
func (c *Config) Set(objects config.Objects, now time.Time) (recheck time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, _ = config.Parse(objects, c.current, now)
	c.revision++
	c.known.Set()
	return c.current.Recheck
}

// Current returns the configuration in force, which must not be changed, and its
// revision: a later configuration has a higher one.
func (c *Config) Current() (current config.Config, revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, c.revision
}

// Known is set when the configuration has been read for the first time.
func (c *Config) Known() notify.Latch { return c.known }
