package structure

import (
	"os"
	"os/exec"
	"testing"
)

// TestKubectlBerthIsForAllSystems: every package that it links has files for each system
// that users have. `make cross` compiles them.
func TestKubectlBerthIsForAllSystems(t *testing.T) {
	for _, target := range [][2]string{{"linux", "arm64"}, {"darwin", "arm64"}, {"windows", "amd64"}} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./kubectl-berth")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS="+target[0], "GOARCH="+target[1], "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s on %s: %v\n%s", target[0], target[1], err, out)
		}
	}
}

// TestProtocolsAreFor32Bits: what reads and writes frames and packets is vetted where an int has 32 bits,
// tests included: a constant that is larger does not compile there. make portable vets the rest, and runs the
// tests.
func TestProtocolsAreFor32Bits(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-tags", "grpcnotrace", "-trimpath",
		"./pkg/layer2/...", "./pkg/bfd/...", "./pkg/bgp", "./pkg/membership/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
