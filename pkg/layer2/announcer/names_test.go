package announcer

import (
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// What is shared with the tests of other packages, by the names that it has here.
var (
	ourMAC      = layer2test.OurMAC
	clientMAC   = layer2test.ClientMAC
	otherMAC    = layer2test.OtherMAC
	ourOtherMAC = layer2test.OurOtherMAC
	memberMAC   = layer2test.MemberMAC
	vip4        = layer2test.VIP4
	vip6        = layer2test.VIP6
	vip6SNM     = layer2test.VIP6Group
	foreign4    = layer2test.Foreign4
	foreign6    = layer2test.Foreign6
	client4     = layer2test.Client4
	client6     = layer2test.Client6
	allNodes    = layer2test.AllNodes
	clientOwn6  = layer2test.ClientOwn6

	at           = layer2test.At
	groupMAC     = layer2test.GroupMAC
	arpRequest   = layer2test.ARPRequest
	solicit      = layer2test.Solicit
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
	offIPv6      = layer2test.OffIPv6
	offICMPv6    = layer2test.OffICMPv6
	offNDPTarget = layer2test.OffNDPTarget
)

// lanMAC is the Ethernet address of the links that lan makes.
var lanMAC = lan(1, "").HardwareAddr

// but returns a changed link.
func but(l links.Link, change func(*links.Link)) links.Link {
	change(&l)
	return l
}

// total returns the sum over all links and protocols.
func total(stats Stats) Counters {
	sum := Counters{Verdicts: make(map[Verdict]uint64)}
	for _, l := range stats.Links {
		for verdict, n := range l.Verdicts {
			sum.Verdicts[verdict] += n
		}
		sum.Requests += l.Requests
		sum.Replies += l.Replies
		sum.Bursts += l.Bursts
		sum.Refreshes += l.Refreshes
		sum.Defences += l.Defences
		sum.Gratuitous += l.Gratuitous
		sum.SendErrors += l.SendErrors
		sum.Opened += l.Opened
		sum.Failures += l.Failures
	}
	return sum
}
