package main

import (
	"testing"

	"github.com/berth-lb/berth/e2e/image"
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
