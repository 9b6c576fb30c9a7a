// The nextversion command builds a speaker of a version that does not exist yet: see
// package nextversion.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/berth-lb/berth/e2e/nextversion"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: nextversion ROOT FILE")
		os.Exit(2)
	}
	if err := nextversion.Build(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
