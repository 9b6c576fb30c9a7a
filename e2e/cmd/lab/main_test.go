package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-lb/berth/e2e/image"
	"github.com/berth-lb/berth/e2e/lab"
)

func TestParseFile(t *testing.T) {
	for arg, want := range map[string]image.File{
		"./bin/thing":                    {Source: "./bin/thing", Path: "/thing"},
		"thing.conf:/etc/thing":          {Source: "thing.conf", Path: "/etc/thing"},
		"thing.conf:/etc/thing.conf:640": {Source: "thing.conf", Path: "/etc/thing.conf", Mode: 0o640},
	} {
		if got, err := parseFile(arg); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", arg, got, err, want)
		}
	}
	for _, bad := range []string{"", "thing:/thing:9", "thing:/thing:rw"} {
		if _, err := parseFile(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	root := newCommand()
	for _, c := range root.Commands() {
		if c.Short == "" || c.GroupID == "" {
			t.Errorf("%s has no summary or stands in no group", c.Name())
		}
	}
}

func TestStatusTellsOfTheProxyMode(t *testing.T) {
	node := lab.NodeStatus{Name: "node1", Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.11")}}
	for _, mode := range lab.ProxyModes() {
		var out strings.Builder
		err := printStatus(&out, lab.Status{Name: "x", ProxyMode: mode, Nodes: []lab.NodeStatus{node}})
		if err != nil || !strings.Contains(out.String(), ", kube-proxy in mode "+string(mode)+",") {
			t.Errorf("%s: %v, %s", mode, err, out.String())
		}
	}
}

func TestUpNamesEveryProxyMode(t *testing.T) {
	name := "x"
	usage := newUp(&name).Flag("proxy-mode").Usage
	for _, mode := range lab.ProxyModes() {
		if !strings.Contains(usage, string(mode)) {
			t.Errorf("--proxy-mode does not tell of %s: %s", mode, usage)
		}
	}
}
