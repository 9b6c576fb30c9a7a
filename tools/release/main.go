// Command release builds all that a release of Berth consists of, without a network, and the same bytes
// wherever it runs: programs and images, the archives of kubectl-berth with the manifest for krew, the chart,
// install.yaml, a bill of materials for every program, release notes from CHANGELOG.md, and checksums of all
// that.
//
//	go run . -version v0.1.0 -root ../.. -out ../../dist/release/v0.1.0
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run does what the arguments say, and tells on progress what it is doing.
func run(ctx context.Context, args []string, progress io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "", "`version` to build: v1.2.3 or v1.2.3-rc.1")
	root := flags.String("root", ".", "`folder` of the sources")
	out := flags.String("out", "", "`folder` to write; what is in it is deleted")
	only := flags.String("platforms", "",
		"build only these `platforms`, as linux/amd64,linux/arm/v7; default all")
	final := flags.Bool("final", false,
		"refuse what others could not build: sources that are not the tag's, or without a dated changelog")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *out == "" {
		return fmt.Errorf("usage: release -version VERSION -root FOLDER -out FOLDER")
	}
	plan, err := newPlan(*version, *only)
	if err != nil {
		return err
	}
	return build(ctx, job{
		plan:     plan,
		root:     *root,
		out:      *out,
		final:    *final,
		progress: progress,
	})
}
