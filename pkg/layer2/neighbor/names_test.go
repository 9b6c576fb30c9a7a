package neighbor

import "github.com/berth-lb/berth/pkg/layer2/internal/layer2test"

// What is shared with the tests of other packages, by the names that it has here.
var (
	ourMAC    = layer2test.OurMAC
	clientMAC = layer2test.ClientMAC
	otherMAC  = layer2test.OtherMAC
	zeroMAC   = layer2test.ZeroMAC
	vip4      = layer2test.VIP4
	vip6      = layer2test.VIP6
	vip6SNM   = layer2test.VIP6Group
	foreign4  = layer2test.Foreign4
	foreign6  = layer2test.Foreign6
	client4   = layer2test.Client4
	client6   = layer2test.Client6

	at         = layer2test.At
	arpRequest = layer2test.ARPRequest
	arpAnswer  = layer2test.ARPAnswer
	ndpAnswer  = layer2test.AdvertiseTo
	solicit    = layer2test.Solicit
	dadSolicit = layer2test.SolicitDAD
	advertise  = layer2test.Advertise
	extend     = layer2test.Extend
)

type (
	solicitation  = layer2test.Solicitation
	advertisement = layer2test.Advertisement
)
