package main

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/pkg/layer2"
)

// processSettings are the settings of the speaker process.
type processSettings struct {
	Log    logging.Settings `mapstructure:",squash"`
	Kube   kube.Settings    `mapstructure:",squash"`
	Member memberSettings   `mapstructure:",squash"`

	Node          string        `mapstructure:"node-name"`
	ExcludeLinks  []string      `mapstructure:"exclude-interfaces"`
	IgnoreExclude bool          `mapstructure:"ignore-exclude-label"`
	BurstCount    int           `mapstructure:"announcement-count"`
	BurstInterval time.Duration `mapstructure:"announcement-interval"`
}

// memberSettings say how speakers find out which of them are alive.
type memberSettings struct {
	Address       string        `mapstructure:"member-address"`
	Port          uint16        `mapstructure:"member-port"`
	ProbeInterval time.Duration `mapstructure:"member-probe-interval"`
	ProbeTimeout  time.Duration `mapstructure:"member-probe-timeout"`
	Suspicion     int           `mapstructure:"member-suspicion"`
	SettleTimeout time.Duration `mapstructure:"member-settle-timeout"`
}

func addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	settings.AddFileFlag(flags)
	logging.AddFlags(flags)
	kube.AddFlags(flags)
	flags.String("node-name", "", "Name of the Kubernetes node that this speaker runs on. Required.")
	flags.StringArray("exclude-interfaces", nil, "Regular expression for interfaces that are never chosen unless an L2Advertisement names them; "+
		"repeat the flag for several. The environment separates several by white space; the file does too, or has a list. "+
		"Default: those of container runtimes, network plugins and tunnels.")
	flags.Bool("ignore-exclude-label", false, "Announce also from nodes with the label node.kubernetes.io/exclude-from-external-load-balancers.")
	flags.Int("announcement-count", 5, "How many times an address is announced unasked when this node takes it; from 1 to 100.")
	flags.Duration("announcement-interval", 500*time.Millisecond, "Time between two of these announcements; from 10ms to 1m. The first is sent at once.")
	flags.String("member-address", "", "IP address of this node at which the other speakers reach this one. Required.")
	flags.Uint16("member-port", 7947, "TCP and UDP port on which speakers talk to each other; the same on all nodes.")
	flags.Duration("member-probe-interval", 250*time.Millisecond, "Time between two probes of a fellow speaker; from 50ms to 1m. Dead nodes are noticed after about (1 + member-suspicion) times this.")
	flags.Duration("member-probe-timeout", 125*time.Millisecond, "How long the answer to a probe may take; less than member-probe-interval.")
	flags.Int("member-suspicion", 3, "How many probe intervals a silent speaker has to refute that it is dead; from 1 to 20. More is calmer and slower.")
	flags.Duration("member-settle-timeout", 5*time.Second, "How long a starting speaker looks for its fellows before it takes itself for alone; from 0s to 5m.")
}

// validate tells by name which settings cannot be used.
func (s processSettings) validate() error {
	errs := s.Kube.Validate()
	within := func(flag string, value, least, most time.Duration) {
		if value < least || value > most {
			errs = append(errs, settings.Invalid(flag, value, fmt.Sprintf("from %s to %s", least, most)))
		}
	}
	count := func(flag string, value, most int) {
		if value < 1 || value > most {
			errs = append(errs, settings.Invalid(flag, value, fmt.Sprintf("from 1 to %d", most)))
		}
	}
	if s.Node == "" {
		errs = append(errs, settings.Invalid("node-name", s.Node, "it is required"))
	}
	if a, err := netip.ParseAddr(s.Member.Address); err != nil || a.IsUnspecified() || a.Zone() != "" {
		errs = append(errs, settings.Invalid("member-address", s.Member.Address, "an IP address of this node is required"))
	}
	if s.Member.Port == 0 {
		errs = append(errs, settings.Invalid("member-port", s.Member.Port, "from 1 to 65535"))
	}
	count("announcement-count", s.BurstCount, 100)
	within("announcement-interval", s.BurstInterval, 10*time.Millisecond, time.Minute)
	within("member-probe-interval", s.Member.ProbeInterval, 50*time.Millisecond, time.Minute)
	within("member-probe-timeout", s.Member.ProbeTimeout, 10*time.Millisecond, s.Member.ProbeInterval-time.Millisecond)
	count("member-suspicion", s.Member.Suspicion, 20)
	within("member-settle-timeout", s.Member.SettleTimeout, 0, 5*time.Minute)
	if _, err := s.excludedLinks(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// excludedLinks are the patterns of interfaces that are not chosen.
func (s processSettings) excludedLinks() ([]*regexp.Regexp, error) {
	if len(s.ExcludeLinks) == 0 {
		return layer2.DefaultExclude(), nil
	}
	var out []*regexp.Regexp
	var errs []error
	for _, text := range s.ExcludeLinks {
		pattern, err := regexp.Compile(text)
		switch {
		case err != nil:
			errs = append(errs, settings.Invalid("exclude-interfaces", text, err.Error()))
		case text == "":
			errs = append(errs, settings.Invalid("exclude-interfaces", text, "it would match every interface; use ^$ to match none"))
		default:
			out = append(out, pattern)
		}
	}
	return out, errors.Join(errs...)
}
