package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/cli/dashboard"
	"github.com/berth-lb/berth/internal/cli/view"
)

func (o *options) dashboardCommand() *cobra.Command {
	var port uint16
	file := ""
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Show the state of Berth as a page for the browser, on this machine only",
		Long: "Show the state of Berth as a page for the browser: the verdict, a diagram of routers, nodes " +
			"and addresses, each pool address by address, the last moves with their reasons, what would be " +
			"if a node died, and for each object what explain says.\n\nIt listens on 127.0.0.1 alone, and " +
			"prints an address that lets one browser in, once. It shows what you may read with your " +
			"kubeconfig, changes nothing, and reads the cluster when a page is loaded. It ends when " +
			"interrupted.\n\nWith --snapshot it writes the same as one file that needs no other, to attach " +
			"to a ticket. The file has names and addresses of the cluster.",
		Example: "  kubectl berth dashboard\n\n" +
			"  # One file for a ticket\n  kubectl berth dashboard --snapshot berth.html",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				return o.writeDashboard(cmd.Context(), file)
			}
			return o.serveDashboard(cmd.Context(), port)
		},
	}
	cmd.Flags().Uint16Var(&port, "port", 0, "Port of 127.0.0.1 to listen on; 0 for one that is free.")
	cmd.Flags().StringVar(&file, "snapshot", "",
		"File to write in place of serving; nobody but you may read a new one. - is the standard output.")
	cmd.MarkFlagsMutuallyExclusive("port", "snapshot")
	_ = cmd.MarkFlagFilename("snapshot", "html") // it has the flag
	return cmd
}

// writeDashboard writes the state of Berth as one file.
func (o *options) writeDashboard(ctx context.Context, file string) error {
	f, _, err := o.gather(ctx, view.DashboardKinds)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := dashboard.Snapshot(&out, f, o.contextName()); err != nil {
		return err
	}
	if file == "-" {
		if _, err := o.streams.Out.Write(out.Bytes()); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("--snapshot: %w", err)
	}
	return nil
}

// serveDashboard shows the state of Berth until ctx ends.
func (o *options) serveDashboard(ctx context.Context, port uint16) error {
	if _, err := o.client(); err != nil {
		return err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	server := dashboard.NewServer(uint16(l.Addr().(*net.TCPAddr).Port), dashboard.Options{
		Gather: func(ctx context.Context) (*view.Facts, error) {
			f, _, err := o.gather(ctx, view.DashboardKinds)
			return f, err
		},
		Context: o.contextName(),
		Now:     o.now,
	})
	_, err = fmt.Fprintf(o.streams.Out, "Open %s\nIt lets in one browser, once. Press Ctrl+C to end.\n",
		server.URL())
	if err != nil {
		_ = l.Close() // nobody would know of it
		return fmt.Errorf("print: %w", err)
	}
	return server.Serve(ctx, l)
}
