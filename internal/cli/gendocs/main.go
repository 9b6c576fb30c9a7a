// gendocs writes the reference of kubectl-berth: pages of Markdown and of man.
package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-lb/berth/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gendocs MARKDOWN-DIR MAN-DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes the pages anew; those of commands that are no more go.
func write(markdown, man string) error {
	for _, dir := range []string{markdown, man} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the former pages: %w", err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make room for pages: %w", err)
		}
	}
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: io.Discard, ErrOut: io.Discard}
	root := cli.New("kubectl-berth", streams)
	settle(root)
	if err := doc.GenMarkdownTree(root, markdown); err != nil {
		return fmt.Errorf("write Markdown: %w", err)
	}
	header := &doc.GenManHeader{
		Title:   "KUBECTL-BERTH",
		Section: "1",
		Source:  "Berth",
		Manual:  "Berth",
		Date:    new(time.Unix(0, 0).UTC()), // the same whenever they are written
	}
	if err := doc.GenManTree(root, header, man); err != nil {
		return fmt.Errorf("write man pages: %w", err)
	}
	return nil
}

// settle has nothing in the pages depend on who writes them.
func settle(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	if f := cmd.PersistentFlags().Lookup("cache-dir"); f != nil {
		f.DefValue = "$HOME/.kube/cache"
	}
	for _, child := range cmd.Commands() {
		settle(child)
	}
}
