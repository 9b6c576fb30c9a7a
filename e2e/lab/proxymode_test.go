package lab

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestProxyModeIsKept: what lab.json says is what the lab was brought up with.
func TestProxyModeIsKept(t *testing.T) {
	for _, mode := range ProxyModes() {
		options, err := Options{ProxyMode: mode}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		l := &Lab{options: options, dir: t.TempDir()}
		if err := l.save(true); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(l.path("lab.json"))
		if err != nil {
			t.Fatal(err)
		}
		var s state
		if err := json.Unmarshal(text, &s); err != nil || s.Options.ProxyMode != mode {
			t.Errorf("%s is kept as %q, %v", mode, s.Options.ProxyMode, err)
		}
	}
}

// TestProxyCommands: each mode runs what it says, and only one of them forwards nothing.
func TestProxyCommands(t *testing.T) {
	for _, mode := range ProxyModes() {
		got := mode.command("node1", "10.244.0.0/16")
		if mode.Forwards() != (got[0] == "kube-proxy") {
			t.Errorf("%s runs %q and forwards: %t", mode, got, mode.Forwards())
		}
		if has := slices.Contains(got, "--proxy-mode="+string(mode)); has != mode.Forwards() {
			t.Errorf("%s runs %q", mode, got)
		}
		if has := slices.Contains(got, "--ipvs-strict-arp=true"); has != (mode == ProxyIPVS) {
			t.Errorf("%s runs %q", mode, got)
		}
	}
}

// TestProxyPackages: a mode asks for packages that are among the requirements, and so can be installed.
func TestProxyPackages(t *testing.T) {
	known := map[string]bool{}
	for _, r := range Requirements() {
		known[r.Package] = true
	}
	for _, mode := range ProxyModes() {
		for _, name := range mode.packages() {
			if !known[name] {
				t.Errorf("%s wants %s, which is no requirement", mode, name)
			}
		}
		essential := map[string]bool{}
		for _, r := range essentials(mode) {
			essential[r.Package] = true
		}
		if !essential["nftables"] || essential["ipset"] != (mode == ProxyIPVS) ||
			essential["iptables"] != (mode == ProxyIPVS || mode == ProxyIPTables) {
			t.Errorf("%s wants %v", mode, essential)
		}
	}
}

// TestKernelWithoutIPVS: the error names what the kernel lacks, and the way out.
func TestKernelWithoutIPVS(t *testing.T) {
	proc, sys := t.TempDir(), t.TempDir()
	says := func(want ...string) {
		t.Helper()
		err := checkIPVS(proc, sys)
		if !errors.Is(err, ErrNoIPVS) {
			t.Fatalf("error %v", err)
		}
		for _, part := range append(want, "nftables or iptables") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v: does not tell of %s", err, part)
			}
		}
	}
	makeDir := func(elements ...string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(elements...), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	says("CONFIG_IP_VS", "ip_vs is missing")
	makeDir(proc, "net", "ip_vs")
	says("CONFIG_DUMMY", "dummy is missing")
	makeDir(sys, "module", "dummy")
	if err := checkIPVS(proc, sys); err != nil {
		t.Error(err)
	}
}
