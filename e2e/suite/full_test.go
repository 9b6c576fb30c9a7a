package suite

import (
	"flag"
	"os"
	"testing"
)

// full reports whether all of the suite runs, as `make e2e-full` has it: also what takes minutes or is seldom
// needed. Whoever asks for tests by name means these, whatever they take.
func full() bool {
	return os.Getenv("BERTH_E2E_FULL") != "" || flag.Lookup("test.run").Value.String() != ""
}

// fullOnly skips a test, or the rest of it, where the suite is to be quick. What is skipped must not be the
// only proof of something that users rely on: why says what it takes, and what shows the core of it instead.
func fullOnly(t *testing.T, why string) {
	t.Helper()
	if !full() {
		t.Skip("only in make e2e-full: " + why)
	}
}
