package gobgp

import (
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
)

// The tests mostly wait for routers, each for its own.
func TestMain(m *testing.M) { netnstest.MainParallel(m, 8) }
