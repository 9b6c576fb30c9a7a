// Package suite runs Berth in a real cluster in network namespaces and judges
// it from outside: by frames on the LAN, by what clients get, and by what the
// API server has stored.
//
// It wants the images that `make images` builds, root, and the lab's
// packages: run it with `make e2e`.
package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// cluster is the lab that all tests of the suite share.
var cluster *lab.Lab

// root is the folder of the product's sources.
const root = "../.."

func TestMain(m *testing.M) {
	if os.Getenv("BERTH_E2E") == "" {
		fmt.Println("skipped: the lab suite; run it with `make e2e`")
		os.Exit(0)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the lab suite cannot run:", err)
		code = 1
	}
	os.Exit(code)
}

// run brings the lab up, installs Berth, and runs the tests. The lab goes
// down whatever happens; with BERTH_E2E=keep it stays, to look around, and is
// used again by the next run.
func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	options := lab.Options{
		Name: cmp.Or(os.Getenv("BERTH_E2E_LAB"), "e2e"),
		// Every test runs on nodes with two interfaces, and must not mind.
		ServiceLAN: true,
		Families:   familiesAsked(),
		ProxyMode:  lab.ProxyMode(os.Getenv("PROXY_MODE")),
		Progress:   os.Stdout,
	}
	keep := os.Getenv("BERTH_E2E") == "keep"
	if kept, err := lab.Open(options.Name); err == nil && keep {
		cluster = kept
		if err := errors.Join(checkKept(options), forgetClients()); err != nil {
			return 0, err
		}
		return m.Run(), nil
	}
	if cluster, err = lab.Up(ctx, options); err != nil {
		return 0, err
	}
	defer func() {
		if keep {
			fmt.Printf("the lab stays: look around with bin/lab --name %[1]s, "+
				"end it with bin/lab --name %[1]s down\n", cluster.Name())
			return
		}
		err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx)))
	}()
	took, err := product.Install(ctx, cluster, root)
	if err != nil {
		return 0, err
	}
	fmt.Printf("figure: kubectl apply -k to all pods ready: %.1f s\n", took.Seconds())
	return m.Run(), nil
}

// checkKept returns an error if the lab that an earlier run has left is not the one that this run wants.
func checkKept(wanted lab.Options) error {
	families, mode := cmp.Or(wanted.Families, lab.DualStack), cmp.Or(wanted.ProxyMode, lab.ProxyNFTables)
	if cluster.Families() != families || cluster.ProxyMode() != mode {
		return fmt.Errorf("lab %q is up with the families %s and kube-proxy in mode %s: `lab down` ends it",
			cluster.Name(), cluster.Families(), cluster.ProxyMode())
	}
	return nil
}

// forgetClients has all nodes of a kept lab forget the clients of the run before. Its pods are gone, and this
// run begins with the same source ports.
func forgetClients() error {
	var errs []error
	for _, name := range cluster.NodeNames() {
		errs = append(errs, cluster.Node(name).ForgetClients())
	}
	return errors.Join(errs...)
}
