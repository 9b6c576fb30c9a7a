package prober

import (
	"time"

	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
)

// What is shared with the tests of other packages, by the names that it has here.
var (
	ourMAC     = layer2test.OurMAC
	clientMAC  = layer2test.ClientMAC
	otherMAC   = layer2test.OtherMAC
	zeroMAC    = layer2test.ZeroMAC
	vip4       = layer2test.VIP4
	vip6       = layer2test.VIP6
	vip6SNM    = layer2test.VIP6Group
	foreign4   = layer2test.Foreign4
	foreign6   = layer2test.Foreign6
	client4    = layer2test.Client4
	client6    = layer2test.Client6
	allNodes   = layer2test.AllNodes
	clientOwn4 = layer2test.ClientOwn4
	clientOwn6 = layer2test.ClientOwn6

	at           = layer2test.At
	groupMAC     = layer2test.GroupMAC
	arpRequest   = layer2test.ARPRequest
	arpAnswer    = layer2test.ARPAnswer
	ndpAnswer    = layer2test.AdvertiseTo
	solicit      = layer2test.Solicit
	dadSolicit   = layer2test.SolicitDAD
	advertise    = layer2test.Advertise
	lan          = layer2test.Link
	extend       = layer2test.Extend
	stage        = layer2test.Stage
	suppressed   = layer2test.Suppressed
	until        = layer2test.Until
	pause        = layer2test.Pause
	macOf        = layer2test.MACOf
	hardwareAddr = layer2test.HardwareAddr
	neighbour    = layer2test.Neighbour
)

type (
	solicitation  = layer2test.Solicitation
	advertisement = layer2test.Advertisement
)

const (
	offIPv6   = layer2test.OffIPv6
	offICMPv6 = layer2test.OffICMPv6
	ms        = time.Millisecond
)

// total returns the sum over all links and protocols.
func total(stats Stats) Counters {
	var sum Counters
	for _, l := range stats.Links {
		sum.Probes += l.Probes
		sum.Answers += l.Answers
		sum.Misses += l.Misses
		sum.Unsent += l.Unsent
		sum.Asks += l.Asks
		sum.Questions += l.Questions
		sum.Malformed += l.Malformed
		sum.Lost += l.Lost
		sum.Opened += l.Opened
		sum.Failures += l.Failures
	}
	return sum
}
