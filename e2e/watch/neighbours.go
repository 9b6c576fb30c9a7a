package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"

	"github.com/berth-lb/berth/e2e/lab"
)

// Neighbours reads where a host sends what it has for addresses on its LAN: its kernel's neighbour cache.
func Neighbours(ctx context.Context, l *lab.Lab, host string) (map[netip.Addr]MAC, error) {
	out, err := l.Host(host).Exec(ctx, "ip", "-j", "neigh", "show", "dev", "eth0")
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Addr netip.Addr `json:"dst"`
		MAC  string     `json:"lladdr"`
	}
	if err := json.Unmarshal(out, &entries); err != nil {
		return nil, fmt.Errorf("neighbours of %s: %w", host, err)
	}
	cache := map[netip.Addr]MAC{}
	for _, e := range entries {
		if hw, err := net.ParseMAC(e.MAC); err == nil && len(hw) == 6 {
			cache[e.Addr] = MAC(hw)
		}
	}
	return cache, nil
}

// ForgetNeighbours empties a host's neighbour cache: it asks anew. While the host sends all the time, entries
// come back as soon as they are gone, and ip gives up after ten rounds, with an error and with all that was
// there before gone.
func ForgetNeighbours(ctx context.Context, l *lab.Lab, host string) error {
	_, err := l.Host(host).Exec(ctx, "ip", "neigh", "flush", "dev", "eth0")
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return nil
	}
	return err
}

// Astray counts the addresses for which a cache names another place than owners do. A host may be served all
// the same, as long as that node has a pod; but it does not notice when the owner dies, and loses the address
// when the other does.
func Astray(cache, owners map[netip.Addr]MAC) int {
	n := 0
	for addr, mac := range owners {
		if cached, known := cache[addr]; known && cached != mac {
			n++
		}
	}
	return n
}
