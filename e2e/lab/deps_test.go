package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDenyServices: what is installed for its programs is not started, everything else is.
func TestDenyServices(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy-rc.d")
	allow, err := denyServices(file, []string{"frr", "bird"})
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]int{
		"frr":         101,
		"frr.service": 101,
		"bird":        101,
		"ssh":         0,
		"frr2":        0,
	} {
		err := exec.CommandContext(t.Context(), file, service, "start").Run()
		status := 0
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if status != want {
			t.Errorf("%s: status %d, want %d", service, status, want)
		}
	}
	allow()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestDenyServicesLeavesPolicy: a machine that has a policy keeps it.
func TestDenyServicesLeavesPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy-rc.d")
	if err := os.WriteFile(file, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	allow, err := denyServices(file, []string{"frr"})
	if err != nil {
		t.Fatal(err)
	}
	allow()
	if text, err := os.ReadFile(file); err != nil || string(text) != "theirs" {
		t.Errorf("%q, %v", text, err)
	}
}
