package incumbent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// frrPrograms is where Debian puts the daemons of FRR; frrState is where each keeps a directory of its own.
const (
	frrPrograms = "/usr/lib/frr"
	frrState    = "/var/tmp/frr"
)

// Sessions say with whom a node has sessions, and what it announces.
type Sessions struct {
	// ASN is that of the node, RouterASN that of the routers.
	ASN, RouterASN uint32
	// Routers are their addresses.
	Routers []netip.Addr
	// Routes are announced to all of the same family.
	Routes []netip.Prefix
}

// config is bgpd's configuration, as MetalLB writes one.
func (s Sessions) config() string {
	var c strings.Builder
	fmt.Fprintf(&c, "log stdout\nrouter bgp %d\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n"+
		" no bgp network import-check\n", s.ASN)
	for _, router := range s.Routers {
		fmt.Fprintf(&c, " neighbor %[1]s remote-as %[2]d\n neighbor %[1]s timers connect 1\n",
			router, s.RouterASN)
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&c, " address-family %s unicast\n", family)
		for _, router := range s.Routers {
			if router.Is4() == (family == "ipv4") {
				fmt.Fprintf(&c, "  neighbor %s activate\n", router)
			}
		}
		for _, route := range s.Routes {
			if route.Addr().Is4() == (family == "ipv4") {
				fmt.Fprintf(&c, "  network %s\n", route)
			}
		}
		c.WriteString(" exit-address-family\n")
	}
	return c.String()
}

// A Speaker announces routes by BGP from one node, by FRR, as MetalLB's speaker does.
type Speaker struct {
	dir     string
	daemons []*exec.Cmd
	output  bytes.Buffer
}

// StartBGP begins to announce routes from a node.
func StartBGP(node *lab.Host, sessions Sessions) (*Speaker, error) {
	dir, err := os.MkdirTemp("", "berth-incumbent-")
	if err != nil {
		return nil, err
	}
	s := &Speaker{dir: dir}
	if err := giveToFRR(dir); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	for _, daemon := range []struct{ name, config string }{
		{"zebra", "log stdout\n"}, // tells bgpd of links
		{"bgpd", sessions.config()},
	} {
		if err := s.start(node, daemon.name, daemon.config); err != nil {
			return nil, errors.Join(fmt.Errorf("%s on %s: %w", daemon.name, node.Name(), err), s.Stop())
		}
	}
	return s, nil
}

// giveToFRR makes FRR's own user the owner of a directory: the daemons give up root's rights before they make
// their sockets.
func giveToFRR(dir string) error {
	account, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR's own user: %w", err)
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	return errors.Join(err1, err2, os.Chown(dir, uid, gid))
}

// start starts one daemon, and waits until it listens.
func (s *Speaker) start(node *lab.Host, daemon, config string) error {
	file := func(name string) string { return filepath.Join(s.dir, name) }
	if err := os.WriteFile(file(daemon+".conf"), []byte(config), 0o644); err != nil {
		return err
	}
	// Without -d the process stays the one that was started. -P 0: it listens nowhere but in its directory.
	cmd := exec.CommandContext(context.Background(), filepath.Join(frrPrograms, daemon),
		"-f", file(daemon+".conf"), "-z", file("zserv.api"), "--vty_socket", s.dir,
		"-i", file(daemon+".pid"), "-P", "0")
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := node.Run(cmd.Start); err != nil {
		return err
	}
	s.daemons = append(s.daemons, cmd)
	for range 200 {
		if _, err := os.Stat(file(daemon + ".vty")); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it does not listen")
}

// Stop ends the sessions: the routers are told.
func (s *Speaker) Stop() error {
	var errs []error
	for i := len(s.daemons) - 1; i >= 0; i-- {
		cmd := s.daemons[i]
		errs = append(errs, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", cmd.Path, err, s.output.Bytes()))
		}
		state := fmt.Sprintf("%s.%d", filepath.Base(cmd.Path), cmd.Process.Pid)
		errs = append(errs, os.RemoveAll(filepath.Join(frrState, state)))
	}
	s.daemons = nil
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}
