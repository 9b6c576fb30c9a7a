package announcer

import (
	"os"
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestMain runs everything in a private network namespace, where there is one.
// With stoppableEnv this program is no test but the child of one.
func TestMain(m *testing.M) {
	if os.Getenv(stoppableEnv) != "" {
		os.Exit(beStoppable())
	}
	netnstest.Main(m)
}
