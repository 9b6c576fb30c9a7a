//go:build !linux

package netnstest

import (
	"errors"
	"os"
	"testing"
)

// unavailable says why there are no namespaces.
var unavailable = errors.New("network namespaces exist on Linux only")

// Main is the body of TestMain: on this system it only runs the tests.
func Main(m *testing.M) { os.Exit(m.Run()) }

// MainParallel does what Main does.
func MainParallel(m *testing.M, _ int) { Main(m) }
