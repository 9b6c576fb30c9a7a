// Command conformance runs the conformance suite of Gateway API in a lab, against Traefik behind an address
// of Berth's, from a client on the LAN. It prints the suite's report. Each test that fails is run once more
// from a node, at the cluster IP of Traefik's Service, where Berth has no part: what fails there too is
// Traefik's own. It fails if a test fails only at Berth's address.
//
// It wants the images that `make images` builds, and root: run it with `make conformance`. Its arguments go
// on to the suite. What it takes from the environment:
//
//	CONFORMANCE  "keep" leaves the lab up
//	LAB          name of the lab; default "conformance"
//	ROOT         folder of the product's sources, with dist and manifests; default the folder above
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/traefik"
)

func main() { bench.Main("conformance", run) }

// pool is the IPAddressPool of Traefik's Service, which is announced at layer 2.
const pool = `
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: conformance}
spec: {addresses: [10.77.0.210/32, "fd77::210/128"]}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: conformance}
`

// ports are those of the suite's Gateways besides 80 and 443.
var ports = []uint16{8080, 8090, 8443, 8883}

func run(ctx context.Context) (err error) {
	program, archives, err := lab.BuildConformance(ctx, os.Stderr)
	if err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{
		Name:      cmp.Or(os.Getenv("LAB"), "conformance"),
		NodeGrace: 40 * time.Second, // nothing fails here
		Progress:  os.Stderr,
	})
	if err != nil {
		return err
	}
	if os.Getenv("CONFORMANCE") != "keep" {
		defer func() { err = errors.Join(err, l.Down(context.WithoutCancel(ctx))) }()
	}
	for _, archive := range archives {
		if err := l.LoadImage(ctx, archive); err != nil {
			return err
		}
	}
	if _, err := product.Install(ctx, l, cmp.Or(os.Getenv("ROOT"), "..")); err != nil {
		return err
	}
	s := suite{lab: l, program: program, arguments: os.Args[1:]}
	if err := s.serve(ctx); err != nil {
		return err
	}
	tests, err := s.run(ctx)
	if err != nil || len(tests) == 0 {
		return err
	}
	return s.compare(ctx, tests)
}

// A suite is what is run in a lab.
type suite struct {
	lab       *lab.Lab
	program   string
	arguments []string
}

// serve installs Gateway API and Traefik, and waits until Traefik has an address.
func (s suite) serve(ctx context.Context) error {
	if err := traefik.Load(ctx, s.lab, os.Stderr); err != nil {
		return err
	}
	crds, err := lab.GatewayCRDs(ctx)
	if err != nil {
		return err
	}
	if _, err := s.lab.API().Kubectl(ctx, "apply", "--server-side", "-k", crds); err != nil {
		return err
	}
	if err := s.publish(ctx, ""); err != nil {
		return err
	}
	_, err = s.lab.API().Kubectl(ctx, "wait", "-n", traefik.Namespace, "service/"+traefik.Service,
		"--for=jsonpath={.status.loadBalancer.ingress[0].ip}", "--timeout=30s")
	return err
}

// publish has Traefik say in Gateways that they have this address, or with "" the one of its Service.
func (s suite) publish(ctx context.Context, address string) error {
	manifests := pool + "---" + traefik.Manifests(traefik.Options{
		Nodes:     []string{"node1", "node2"},
		Pool:      "conformance",
		Gateway:   true,
		Ports:     ports,
		Published: address,
	})
	_, err := s.lab.API().KubectlInput(ctx, strings.NewReader(manifests), "apply", "-f", "-")
	if err != nil {
		return err
	}
	_, err = s.lab.API().Kubectl(ctx, "rollout", "status", "-n", traefik.Namespace, traefik.Deployment,
		"--timeout=120s")
	return err
}

// run runs the suite from a client on the LAN, prints its report, and returns the names of the tests that
// failed.
func (s suite) run(ctx context.Context) ([]string, error) {
	folder, err := os.MkdirTemp("", "berth-conformance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // it is in the folder for such files
	file := filepath.Join(folder, "report.yaml")
	outcomes, err := s.runFrom(ctx, lab.HostClient, os.Stdout, append([]string{
		"--report-output=" + file,
		"--organization=traefik",
		"--project=traefik",
		"--url=https://traefik.io/",
		"--contact=@traefik/maintainers",
		"--version=" + lab.TraefikVersion,
	}, s.arguments...)...)
	if err != nil {
		return nil, err
	}
	report, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the suite wrote no report: %w", err)
	}
	fmt.Printf("\n%s\nThe suite's report:\n\n%s\n", table(outcomes), report)
	return names(outcomes, failed), nil
}

// runFrom runs the suite from a host of the lab, and returns what became of its tests. It is an error if none
// ran.
func (s suite) runFrom(
	ctx context.Context, host string, out io.Writer, arguments ...string,
) ([]outcome, error) {
	command, err := s.lab.Host(host).Command(ctx, append([]string{
		s.program,
		"--gateway-class=" + traefik.Class,
		"--conformance-profiles=GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS",
	}, arguments...)...)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	command.Stdout, command.Stderr = io.MultiWriter(out, &said), os.Stderr
	ended := command.Run() // an error, too, if tests failed
	outcomes := readOutcomes(said.String())
	if ctx.Err() != nil || len(names(outcomes, passed))+len(names(outcomes, failed)) == 0 {
		return nil, fmt.Errorf("run the conformance suite: %w", errors.Join(ended, ctx.Err()))
	}
	return outcomes, nil
}

// compare runs tests that failed once more, from a node at the cluster IP of Traefik's Service, and says of
// each whose failure it is.
func (s suite) compare(ctx context.Context, tests []string) error {
	ip, err := s.lab.API().Kubectl(ctx, "get", "-n", traefik.Namespace, "service", traefik.Service,
		"-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		return err
	}
	if err := s.publish(ctx, string(ip)); err != nil {
		return err
	}
	fmt.Printf("Tests that failed, once more from a node at the cluster IP %s:\n\n", ip)
	var errs []error
	for _, test := range tests {
		arguments := append(slices.Clone(s.arguments), "--run-test="+test)
		again, err := s.runFrom(ctx, "node3", io.Discard, arguments...)
		switch {
		case err != nil:
			return err
		case len(names(again, failed)) > 0:
			fmt.Printf("%s fails there too: it is Traefik's own\n", test)
		default:
			errs = append(errs, fmt.Errorf("%s passes there: it fails only at Berth's address", test))
		}
	}
	return errors.Join(errs...)
}
