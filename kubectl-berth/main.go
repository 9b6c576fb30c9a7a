// kubectl-berth shows what Berth does in a cluster, and why, as `kubectl berth` or alone.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/berth-lb/berth/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(cli.Main(ctx, os.Args, cli.Streams()))
}
