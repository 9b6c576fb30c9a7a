package netnstest

import (
	"os/exec"
	"strings"
	"testing"
)

// packages names the Debian package of each program that tests may ask for.
var packages = map[string]string{
	"arping":  "iputils-arping",
	"ip":      "iproute2",
	"bridge":  "iproute2",
	"ping":    "iputils-ping",
	"ndisc6":  "ndisc6",
	"tcpdump": "tcpdump",
	"sysctl":  "procps",
}

// Require skips the test unless it runs in a private namespace and ip and the
// named programs are installed. The reason names the missing package.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	if unavailable != nil {
		t.Skipf("needs private network namespaces: %v", unavailable)
	}
	var missing []string
	for _, program := range append([]string{"ip"}, programs...) {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if pkg := packages[program]; pkg != "" {
			program += " (Debian package " + pkg + ")"
		}
		missing = append(missing, program)
	}
	if len(missing) > 0 {
		t.Skipf("needs programs that are not installed: %s", strings.Join(missing, ", "))
	}
}
