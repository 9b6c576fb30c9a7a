package membership

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigIsValidated(t *testing.T) {
	good := configOf(t, 2)
	tests := []struct {
		story  string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name is empty"},
		{"a long name", func(c *Config) { c.Name = strings.Repeat("n", 256) }, "name has 256 bytes"},
		{"no address", func(c *Config) { c.BindAddr = netip.Addr{} }, "bind address is missing"},
		{"any address and none to tell",
			func(c *Config) { c.BindAddr = netip.IPv4Unspecified() }, "advertise address is missing"},
		{"two families",
			func(c *Config) { c.AdvertiseAddr = netip.MustParseAddr("2001:db8::1") }, "different families"},
		{"no key", func(c *Config) { c.Keys = nil }, "no key given"},
		{"a short key", func(c *Config) { c.Keys = [][]byte{keyA, []byte("geheim")} }, "key 1"},
		{"a long label",
			func(c *Config) { c.ClusterLabel = strings.Repeat("x", 256) }, "label has 256 bytes"},
		{"a timeout beyond the interval",
			func(c *Config) { c.Timing.ProbeTimeout = time.Second }, "not shorter than the probe interval"},
		{"a negative interval",
			func(c *Config) { c.Timing.GossipInterval = -1 }, "gossip interval -1ns is negative"},
		{"a negative rejoin interval", func(c *Config) { c.RejoinInterval = -1 }, "rejoin interval"},
	}
	for _, tt := range tests {
		config := good
		tt.change(&config)
		_, err := New(config)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.story, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the error tells a key: %v", tt.story, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Errorf("a good config: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	got := Config{BindAddr: netip.MustParseAddr("::ffff:192.0.2.1")}.withDefaults()
	if got.Timing != DefaultTiming() || got.Port != DefaultPort ||
		got.AdvertiseAddr != netip.MustParseAddr("192.0.2.1") || got.RejoinInterval != 2*time.Second {
		t.Errorf("%+v", got)
	}
}

func TestProfiles(t *testing.T) {
	for _, p := range Profiles() {
		config := configOf(t, 2)
		config.Timing, config.RejoinInterval = p.Timing(), 0
		if _, err := New(config); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		want := max(2*time.Second, 5*p.Timing().ProbeInterval)
		if config.withDefaults().RejoinInterval != want {
			t.Errorf("%s: rejoin interval %s, want %s", p, config.withDefaults().RejoinInterval, want)
		}
	}
	if Balanced.Timing() != DefaultTiming() || Profile("hasty").Timing() != DefaultTiming() {
		t.Error("balanced is not the default")
	}
	if Fast.Timing().ProbeInterval >= Balanced.Timing().ProbeInterval ||
		Balanced.Timing().ProbeInterval >= Quiet.Timing().ProbeInterval {
		t.Error("the profiles are not in order")
	}
}
