// Package suite runs Berth in a real cluster in network namespaces and judges
// it from outside: by frames on the LAN, by what clients get, and by what the
// API server has stored.
//
// It wants the images that `make images` builds, root, and the lab's
// packages: run it with `make e2e`.
package suite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
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
// down whatever happens; with BERTH_E2E=keep it stays, to look around.
func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cluster, err = lab.Up(ctx, lab.Options{Name: "e2e", Progress: os.Stdout})
	if err != nil {
		return 0, err
	}
	defer func() {
		if os.Getenv("BERTH_E2E") == "keep" {
			fmt.Println("the lab stays: look around with bin/lab --name e2e, end it with bin/lab --name e2e down")
			return
		}
		err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx)))
	}()
	for _, role := range []string{"controller", "speaker"} {
		if err := cluster.LoadImage(ctx, filepath.Join(root, "dist", role+".tar")); err != nil {
			return 0, fmt.Errorf("load the %s image (make images builds it): %w", role, err)
		}
	}
	if err := install(ctx); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// install applies the manifests as a user does, once, and waits until every
// pod is ready.
func install(ctx context.Context) error {
	base, err := filepath.Abs(filepath.Join(root, "manifests/base"))
	if err != nil {
		return err
	}
	start := time.Now()
	if _, err := cluster.Kubectl(ctx, "apply", "-k", base); err != nil {
		return err
	}
	for _, what := range []string{"deployment/berth-controller", "daemonset/berth-speaker"} {
		if _, err := cluster.Kubectl(ctx, "rollout", "status", "-n", system, what, "--timeout=60s"); err != nil {
			return fmt.Errorf("%s is not ready after the install: %w", what, err)
		}
	}
	fmt.Printf("figure: kubectl apply -k to all pods ready: %.1f s\n", time.Since(start).Seconds())
	return nil
}
