// Command kubetest runs those of Kubernetes' own tests that concern load balancers against Berth in a lab,
// and prints a line for each. Its arguments go on to the tests, see e2e/kubetest.
//
// The tests run on ext, behind the router: one of them takes a client that shares the first sixteen bits of
// the nodes' addresses for a node.
//
// It wants the images that `make images` builds, and root: run it with `make kubetest`. What it takes from
// the environment:
//
//	ANNOUNCE    "layer2" (the default) or "bgp": how addresses are announced; "bgp" wants FRR
//	FAMILIES    "ipv4" (the default), "ipv6", "ipv4,ipv6" or "ipv6,ipv4": the IP families of the cluster
//	PROXY_MODE  the mode of kube-proxy; default nftables
//	LONG        "yes": also the tests that take ten minutes and more
//	KUBETEST    "keep": the lab stays up
//	LAB         name of the lab; default "kubetest"
//	ROOT        folder of the product's sources, with dist and manifests; default the folder above
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

func main() { bench.Main("kubetest", run) }

// How addresses are announced.
const (
	byLayer2 = "layer2"
	byBGP    = "bgp"
)

// settings are what the environment says.
type settings struct {
	announce string
	families lab.Families
	proxy    lab.ProxyMode
	long     bool
	keep     bool
	lab      string
	root     string
}

func readSettings() (settings, error) {
	s := settings{
		announce: cmp.Or(os.Getenv("ANNOUNCE"), byLayer2),
		families: cmp.Or(lab.Families(os.Getenv("FAMILIES")), lab.IPv4Only),
		proxy:    cmp.Or(lab.ProxyMode(os.Getenv("PROXY_MODE")), lab.ProxyNFTables),
		long:     os.Getenv("LONG") == "yes",
		keep:     os.Getenv("KUBETEST") == "keep",
		lab:      cmp.Or(os.Getenv("LAB"), "kubetest"),
		root:     cmp.Or(os.Getenv("ROOT"), ".."),
	}
	if s.announce != byLayer2 && s.announce != byBGP {
		return s, fmt.Errorf("ANNOUNCE is %q: want %s or %s", s.announce, byLayer2, byBGP)
	}
	if !s.proxy.Forwards() {
		return s, fmt.Errorf("PROXY_MODE is %s: nothing would reach the pods of the tests", s.proxy)
	}
	return s, nil
}

func run(ctx context.Context) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	program, archive, err := lab.BuildKubetest(ctx, os.Stderr)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := lab.Remove(ctx, s.lab); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{
		Name:      s.lab,
		ProxyMode: s.proxy,
		Families:  s.families,
		DNS:       s.families.Of(lab.ControlPlaneAddresses)[0],
		// No test is about a node that fails, and on a busy machine healthy ones would.
		NodeGrace: 30 * time.Second,
		Images:    []string{archive},
		Progress:  os.Stderr,
	})
	if err != nil {
		return err
	}
	defer func() {
		if !s.keep {
			err = errors.Join(err, l.Down(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := product.Install(ctx, l, s.root); err != nil {
		return err
	}
	if err := announce(ctx, l, s.announce); err != nil {
		return err
	}
	endNames, err := serveNames(ctx, l, program)
	if err != nil {
		return err
	}
	err = errors.Join(test(ctx, l, program, s), endNames())
	fmt.Printf("cluster of %s, kube-proxy in %s mode; %.0f s with the lab's start\n",
		s.families, s.proxy, time.Since(start).Seconds())
	return err
}

// announce gives Berth addresses of the cluster's families and has it announce them.
func announce(ctx context.Context, l *lab.Lab, how string) error {
	manifest := fmt.Sprintf(`
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: kubetest}
spec: {addresses: [%s]}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: kubetest}
`, entries(l.Families(), "10.77.0.208/28", "fd77::200/124"))
	if how == byBGP {
		router := peering.Router{
			Host:  lab.HostRouter,
			Nodes: l.NodeNames(),
		}
		if err := l.Router(router.Host).Start(ctx, router.Config()); err != nil {
			return err
		}
		manifest = ""
		for i, address := range l.Families().Of(lab.RouterAddresses) {
			manifest += peering.Peer{Name: fmt.Sprintf("router-%d", i), Address: address}.Manifest()
		}
		networks := entries(l.Families(), "198.51.100.0/28", "2001:db8:100::/124")
		manifest += peering.Announced("kubetest", networks, "")
	}
	if _, err := l.API().KubectlInput(ctx, strings.NewReader(manifest), "apply", "-f", "-"); err != nil {
		return err
	}
	if how != byBGP {
		return nil
	}
	return sessionsUp(ctx, l)
}

// entries returns those of two networks that are of the families, as entries of a pool.
func entries(families lab.Families, networks ...string) string {
	var of []string
	for _, network := range networks {
		for _, address := range families.Of(lab.ControlPlaneAddresses) {
			if netip.MustParsePrefix(network).Addr().Is4() == address.Is4() {
				of = append(of, strconv.Quote(network))
			}
		}
	}
	return strings.Join(of, ", ")
}

// sessionsUp waits until the router has sessions with all nodes.
func sessionsUp(ctx context.Context, l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var errs []error
		for _, address := range l.Families().Of(lab.RouterAddresses) {
			nodes := peering.NodeAddresses(address, l.NodeNames()...)
			errs = append(errs, peering.Up(ctx, l, lab.HostRouter, nodes...))
		}
		err := errors.Join(errs...)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all BGP sessions are up: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// serveNames starts the DNS of the cluster at cp, where the pods ask, and returns what ends it.
func serveNames(ctx context.Context, l *lab.Lab, program string) (end func() error, err error) {
	address := l.Families().Of(lab.ControlPlaneAddresses)[0].String()
	cmd, err := l.Host(lab.HostControlPlane).Command(ctx, program, "names", address, l.API().Kubeconfig())
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // if it has ended before, Wait says how
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("the DNS of the cluster: %w", err)
		}
		return nil
	}, nil
}

// test runs the tests and returns an error if one of them failed.
func test(ctx context.Context, l *lab.Lab, program string, s settings) error {
	args := []string{
		program,
		"--provider=skeleton", // there is no cloud
		"--kubeconfig=" + l.API().Kubeconfig(),
		"--announced-by=" + s.announce,
		"--families=" + string(s.families),
		fmt.Sprintf("--long=%t", s.long),
		"--ginkgo.timeout=3h",
		"--ginkgo.no-color",
	}
	cmd, err := l.Host(lab.HostExt).Command(ctx, append(args, os.Args[1:]...)...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("tests failed: %w", err)
	}
	return err
}
