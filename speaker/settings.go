package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// processSettings are the settings of the speaker process.
type processSettings struct {
	Log    logging.Settings `mapstructure:",squash"`
	Kube   kube.Settings    `mapstructure:",squash"`
	Member memberSettings   `mapstructure:",squash"`

	Layer2        bool          `mapstructure:"layer2"`
	BGP           bool          `mapstructure:"bgp"`
	Node          string        `mapstructure:"node-name"`
	ExcludeLinks  []string      `mapstructure:"exclude-interfaces"`
	IgnoreExclude bool          `mapstructure:"ignore-exclude-label"`
	IgnoreCordon  bool          `mapstructure:"ignore-cordon"`
	ProbeCount    int           `mapstructure:"conflict-probe-count"`
	ProbeInterval time.Duration `mapstructure:"conflict-probe-interval"`
	CheckInterval time.Duration `mapstructure:"self-check-interval"`
	RestartHold   time.Duration `mapstructure:"restart-hold"`
	SilenceHold   time.Duration `mapstructure:"silence-hold"`
	HandOver      time.Duration `mapstructure:"hand-over-timeout"`
	Isolation     time.Duration `mapstructure:"isolation-timeout"`
	Weights       time.Duration `mapstructure:"bgp-weight-interval"`
	ProxyPort     uint16        `mapstructure:"proxy-health-port"`
}

// protocols returns those by which the speaker announces.
func (s processSettings) protocols() kube.Protocols {
	return kube.Protocols{Layer2: s.Layer2, BGP: s.BGP}
}

// memberSettings are the settings of the membership and of probes.
type memberSettings struct {
	Address       string        `mapstructure:"member-address"`
	Port          uint16        `mapstructure:"member-port"`
	Profile       string        `mapstructure:"member-profile"`
	ProbeInterval time.Duration `mapstructure:"member-probe-interval"`
	ProbeTimeout  time.Duration `mapstructure:"member-probe-timeout"`
	Suspicion     int           `mapstructure:"member-suspicion"`
	NodeInterval  time.Duration `mapstructure:"node-probe-interval"`
	NodeMisses    int           `mapstructure:"node-probe-misses"`
	SettleTimeout time.Duration `mapstructure:"member-settle-timeout"`
}

// profile returns the named profile.
func (s memberSettings) profile() membership.Profile { return membership.Profile(s.Profile) }

// timing returns the timing of the profile, with the values that are set beside it.
func (s memberSettings) timing() membership.Timing {
	t := s.profile().Timing()
	t.ProbeInterval = cmp.Or(s.ProbeInterval, t.ProbeInterval)
	t.ProbeTimeout = cmp.Or(s.ProbeTimeout, t.ProbeTimeout)
	t.SuspicionMult = cmp.Or(s.Suspicion, t.SuspicionMult)
	return t
}

// nodeProbes returns how often the speaker probes the kernels of other nodes, and after how
// many unanswered probes in a row one counts as silent.
func (s memberSettings) nodeProbes() (interval time.Duration, misses int) {
	switch s.profile() {
	case membership.Fast:
		interval, misses = 50*time.Millisecond, 3
	case membership.Quiet:
		interval, misses = 500*time.Millisecond, 4
	default:
		interval, misses = 100*time.Millisecond, 3
	}
	return cmp.Or(s.NodeInterval, interval), cmp.Or(s.NodeMisses, misses)
}

func addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	settings.AddFileFlag(flags)
	logging.AddFlags(flags)
	kube.AddFlags(flags)
	flags.String("node-name", "", "Name of the Kubernetes node that this speaker runs on. Required.")
	flags.Bool("layer2", true,
		"Announce by ARP and NDP. Without, the speaker is no member: it needs no member address, port "+
			"and Secret, and neither NET_RAW nor the right to read L2Advertisements.")
	flags.Bool("bgp", true,
		"Announce by BGP. Without, the speaker needs no right to read BGPPeers, BGPAdvertisements, "+
			"BFDProfiles, Communities and the Secrets with their passwords.")
	flags.StringArray("exclude-interfaces", nil,
		"Regular expression for interfaces that are not chosen unless an L2Advertisement names them; "+
			"repeat the flag for several. In the environment separate several by white space; in the file "+
			"too, or write a list. Default: interfaces of container runtimes, network plugins and tunnels.")
	flags.Bool("ignore-exclude-label", false,
		"Announce also from nodes with the label "+
			"node.kubernetes.io/exclude-from-external-load-balancers, even if other nodes do not have it.")
	flags.Bool("ignore-cordon", false,
		"Announce from cordoned nodes (kubectl cordon, kubectl drain) like from any other. For "+
			"clusters whose nodes stay cordoned for long.")
	flags.Int("conflict-probe-count", 3,
		"Number of ARP or NDP probes sent before an address is first announced; from 0 (no "+
			"probing) to 10.")
	flags.Duration("conflict-probe-interval", 100*time.Millisecond,
		"Time between two of these probes, and after the last; from 10ms to 10s. RFC 5227 has 1s "+
			"to 2s.")
	flags.Duration("self-check-interval", time.Minute,
		"How often another speaker asks the network who answers for an address; from 10s to 24h, or "+
			"0 to disable it.")
	flags.Duration("restart-hold", time.Minute,
		"How long a node keeps its addresses while its speaker is restarting after an announced "+
			"shutdown; from 0s to 10m.")
	flags.Duration("silence-hold", 3*time.Second,
		"How long a node keeps its addresses while its speaker is silent and its kernel still "+
			"answers; from 0s to 10m.")
	flags.Duration("hand-over-timeout", 3*time.Second,
		"How long an owner that hands an address over waits for the next owner to announce it; from "+
			"0s to 1m.")
	flags.Duration("isolation-timeout", 10*time.Second,
		"How long a node must be without contact to the API server and to any other speaker before "+
			"it leaves addresses to others that have announced them since; from 10s to 24h, or 0 to "+
			"disable this.")
	flags.Duration("bgp-weight-interval", time.Second,
		"How long changes of routes' weights (weightByEndpoints) are gathered before they are sent "+
			"to BGP peers; from 0s to 1m. Nothing else waits.")
	flags.Uint16("proxy-health-port", 10256,
		"Port of kube-proxy's health endpoint on this node. A starting speaker asks there whether "+
			"the rules are written, for 5s at most; 0 if there is no kube-proxy.")
	flags.String("member-address", "",
		"IP address of this node at which the other speakers reach this one. Required with --layer2. If "+
			"there is one of each family, separated by a comma, the speaker chooses the family that all "+
			"nodes have when it starts.")
	flags.Uint16("member-port", 7947,
		"TCP and UDP port on which speakers talk to each other; the same on all nodes.")
	flags.String("member-profile", string(membership.Balanced),
		"How fast dead nodes are noticed, and how tolerant the speaker is of busy nodes: fast, "+
			"balanced or quiet.")
	flags.Duration("member-probe-interval", 0,
		"Time between two probes of another speaker; from 50ms to 1m, or 0 for the profile's value.")
	flags.Duration("member-probe-timeout", 0,
		"How long the answer to a probe may take, less than the interval; from 10ms, or 0 for the "+
			"profile's value.")
	flags.Int("member-suspicion", 0,
		"Number of probe intervals that a suspected speaker has to refute that it is dead; from 1 to "+
			"20, or 0 for the profile's value. A higher number gives fewer false positives and slower "+
			"detection.")
	flags.Duration("node-probe-interval", 0,
		"Time between two ARP or NDP probes of another node's own address; from 10ms to 1m, or 0 for "+
			"the profile's value.")
	flags.Int("node-probe-misses", 0,
		"Number of these probes in a row that stay unanswered before the node counts as silent; from "+
			"2 to 20, or 0 for the profile's value.")
	flags.Duration("member-settle-timeout", 5*time.Second,
		"How long a starting speaker looks for the other speakers before it goes on with those it "+
			"has found, and how long it tries to write its Speaker object before it goes on without; "+
			"from 0s to 5m.")
}

// validate returns an error that names each invalid setting.
func (s processSettings) validate() error {
	errs := s.Kube.Validate()
	within := func(flag string, value, least, most time.Duration) {
		if value < least || value > most {
			errs = append(errs, settings.Invalid(flag, value, fmt.Sprintf("from %s to %s", least, most)))
		}
	}
	orNever := func(flag string, value time.Duration) {
		if value != 0 && (value < 10*time.Second || value > 24*time.Hour) {
			errs = append(errs, settings.Invalid(flag, value, "from 10s to 24h, or 0 for never"))
		}
	}
	count := func(flag string, value, least, most int) {
		if value < least || value > most {
			errs = append(errs, settings.Invalid(flag, value, fmt.Sprintf("from %d to %d", least, most)))
		}
	}
	if s.Node == "" {
		errs = append(errs, settings.Invalid("node-name", s.Node, "it is required"))
	}
	if !s.Layer2 && !s.BGP {
		errs = append(errs, settings.Invalid("bgp", "false", "with --layer2=false it announces nothing"))
	}
	if s.Layer2 && s.Kube.MemberSecret == "" {
		errs = append(errs, settings.Invalid("member-secret", "", "it must not be empty with --layer2"))
	}
	if _, err := members.ParseAddresses(s.Member.Address); err != nil && s.Layer2 {
		errs = append(errs, settings.Invalid("member-address", s.Member.Address, err.Error()))
	}
	if s.Member.Port == 0 {
		errs = append(errs, settings.Invalid("member-port", s.Member.Port, "from 1 to 65535"))
	}
	if !slices.Contains(membership.Profiles(), s.Member.profile()) {
		errs = append(errs, settings.Invalid("member-profile", s.Member.Profile, "fast, balanced or quiet"))
	} else {
		t := s.Member.timing()
		within("member-probe-interval", t.ProbeInterval, 50*time.Millisecond, time.Minute)
		within("member-probe-timeout", t.ProbeTimeout, 10*time.Millisecond, t.ProbeInterval-time.Millisecond)
		count("member-suspicion", t.SuspicionMult, 1, 20)
		interval, misses := s.Member.nodeProbes()
		within("node-probe-interval", interval, 10*time.Millisecond, time.Minute)
		count("node-probe-misses", misses, 2, 20)
	}
	within("member-settle-timeout", s.Member.SettleTimeout, 0, 5*time.Minute)
	count("conflict-probe-count", s.ProbeCount, 0, 10)
	within("conflict-probe-interval", s.ProbeInterval, 10*time.Millisecond, 10*time.Second)
	orNever("self-check-interval", s.CheckInterval)
	within("restart-hold", s.RestartHold, 0, 10*time.Minute)
	within("silence-hold", s.SilenceHold, 0, 10*time.Minute)
	within("hand-over-timeout", s.HandOver, 0, time.Minute)
	orNever("isolation-timeout", s.Isolation)
	within("bgp-weight-interval", s.Weights, 0, time.Minute)
	if _, err := s.excludedLinks(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// excludedLinks returns the patterns of interfaces that are used only if an advertisement
// names them.
func (s processSettings) excludedLinks() ([]*regexp.Regexp, error) {
	if len(s.ExcludeLinks) == 0 {
		return links.DefaultExclude(), nil
	}
	var out []*regexp.Regexp
	var errs []error
	for _, text := range s.ExcludeLinks {
		pattern, err := regexp.Compile(text)
		switch {
		case err != nil:
			errs = append(errs, settings.Invalid("exclude-interfaces", text, err.Error()))
		case text == "":
			errs = append(errs, settings.Invalid("exclude-interfaces", text,
				"it would match every interface; use ^$ to match none"))
		default:
			out = append(out, pattern)
		}
	}
	return out, errors.Join(errs...)
}
