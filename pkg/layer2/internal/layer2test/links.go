package layer2test

import (
	"net"
	"net/netip"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Link returns an ordinary link with the given prefixes.
func Link(index int, name string, prefixes ...string) links.Link {
	l := links.Link{
		Index:        index,
		Name:         name,
		HardwareAddr: net.HardwareAddr{0x02, 0, 0, 0, 0, 1},
		Up:           true,
		Broadcast:    true,
	}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}
