package netnstest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// failEnv has TestFailsWhenAsked fail.
const failEnv = "BERTH_NETNSTEST_FAIL"

func TestFailsWhenAsked(t *testing.T) {
	if os.Getenv(failEnv) != "" {
		t.Fatal("it was asked to")
	}
}

// TestEachTestAlone: every test function is found, and runs by itself, in
// namespaces of its own; that it fails is told, with what it wrote.
func TestEachTestAlone(t *testing.T) {
	Require(t)
	names, err := testNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"TestEachTestAlone", "TestFailsWhenAsked", "TestHostsReachEachOther"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not among %q", name, names)
		}
	}
	NewHost(t, "again") // which the other has, too
	if out, code, err := runAlone("TestHostsAreGoneAfterTheTest"); err != nil || code != 0 {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
	t.Setenv(failEnv, "yes")
	out, code, err := runAlone("TestFailsWhenAsked")
	if err != nil || code != 1 || !strings.Contains(string(out), "it was asked to") ||
		strings.Contains(string(out), "TestEachTestAlone") {
		t.Errorf("code %d, %v: %s", code, err, out)
	}
}
