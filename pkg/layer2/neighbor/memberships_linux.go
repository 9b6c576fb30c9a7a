package neighbor

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// memberships are one link's memberships of IPv6 groups. Joining makes the
// device take frames for the group and makes the kernel report it (MLD, RFC
// 3810), without which a snooping switch would not deliver them.
//
// The sockets that hold memberships receive nothing. The kernel keeps a
// membership in the socket's option memory (net.core.optmem_max): some 350 fit in
// one socket by default before Linux 6.8, some 2300 since. So a further socket is
// opened when the others are full.
//
// The number of groups of a link has no limit of its own: net.ipv6.mld_max_msf
// bounds the sources of a group, and net.ipv4.igmp_max_memberships is of IPv4. But
// the kernel looks each new one up in a list, so that joining grows with the
// square: on a busy machine with two cores 2000 took 20 to 70 ms, 4000 100 to 180
// ms, and 8000 0.5 to 1.7 s (BERTH_MEASURE=1 go test -run ManyGroups). Switches
// have limits: a Linux bridge ends its snooping, and floods, at 4096 groups
// (mcast_hash_max).
type memberships struct {
	ifindex int
	sockets []int
	// holder is the socket of each group that was joined.
	holder map[netip.Addr]int
}

func newMemberships(ifindex int) *memberships {
	return &memberships{ifindex: ifindex, holder: make(map[netip.Addr]int)}
}

// join joins a group that was not joined.
func (m *memberships) join(group netip.Addr) error {
	for _, fd := range m.sockets {
		if err := m.joinOn(fd, group); !isFull(err) {
			return err
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for group memberships: %w", err)
	}
	m.sockets = append(m.sockets, fd)
	return m.joinOn(fd, group)
}

func (m *memberships) joinOn(fd int, group netip.Addr) error {
	request := &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(m.ifindex)}
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, request); err != nil {
		return fmt.Errorf("join group %s: %w", group, err)
	}
	m.holder[group] = fd
	return nil
}

// leave leaves a group that was joined.
func (m *memberships) leave(group netip.Addr) error {
	fd, ok := m.holder[group]
	if !ok {
		return nil
	}
	delete(m.holder, group)
	request := &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(m.ifindex)}
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, request); err != nil {
		return fmt.Errorf("leave group %s: %w", group, err)
	}
	return nil
}

// close leaves all groups.
func (m *memberships) close() error {
	var errs []error
	for _, fd := range m.sockets {
		errs = append(errs, unix.Close(fd))
	}
	m.sockets, m.holder = nil, nil
	return errors.Join(errs...)
}

// isFull reports whether the socket's option memory is used up.
func isFull(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)
}
