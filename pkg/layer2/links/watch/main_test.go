package watch

import (
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }
