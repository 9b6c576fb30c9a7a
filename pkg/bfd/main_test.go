package bfd

import (
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestMain runs everything in a private network namespace, where there is one.
func TestMain(m *testing.M) { netnstest.Main(m) }
