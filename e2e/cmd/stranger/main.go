// Command stranger attacks what is open to everybody on a network, with bounds in count and time: see package
// stranger. It is there to be run on the hosts of a lab, and as a pod. Each of its commands prints what it
// could do.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/stranger"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stranger:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "stranger",
		Short: "Somebody on the network who has no key and no token, " +
			"and does harm with what is open to everybody",
		Example: `  lab exec stranger -- bin/stranger flood --target 10.77.0.11:7947 --count 60 --for 20s
  lab exec stranger -- bin/stranger claim --address 10.77.0.200 --address fd77::200 --macs 1000`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newStreams("flood",
			"Open streams that announce an encrypted message of 20 MiB, and send zeros", stranger.Flood),
		newStreams("trickle", "Open streams that announce such a message, and send a byte a second",
			stranger.Trickle),
		newStreams("idle", "Open connections and send nothing, or no more than --first", stranger.Idle),
		newDatagrams(),
		newRequests(),
		newClaim(),
		newRouter(),
	)
	return root
}

// dial connects from where this program runs.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// howLong is how long an attack lasts where nothing is said.
const howLong = 20 * time.Second

func newStreams(
	use, short string, attack func(context.Context, stranger.Streams) stranger.StreamResult,
) *cobra.Command {
	s := stranger.Streams{Dial: dial}
	var first string
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := netip.ParseAddrPort(s.Target); err != nil {
				return fmt.Errorf("--target: %w", err)
			}
			s.First = []byte(first)
			r := attack(cmd.Context(), s)
			fmt.Fprintf(cmd.OutOrStdout(), "%d connections, %d could not be made, "+
				"%d closed by the other side, %d open at the end, %d bytes sent\n",
				r.Opened, r.Failed, r.Closed, r.Open, r.Bytes)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.Target, "target", "", "IP address and port")
	flags.IntVar(&s.Count, "count", 60, "how many at once")
	flags.DurationVar(&s.For, "for", howLong, "for how long")
	flags.IntVar(&s.Rate, "rate", 125_000_000, "how many bytes a second all of them send together")
	flags.StringVar(&first, "first", "", "what an idle connection sends before it falls silent")
	return cmd
}

func newDatagrams() *cobra.Command {
	var target string
	var perSecond int
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "datagrams",
		Short: "Send datagrams that nobody can read",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sent, err := stranger.Datagrams(cmd.Context(), dial, target, perSecond, lasts)
			fmt.Fprintf(cmd.OutOrStdout(), "%d datagrams sent\n", sent)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&target, "target", "", "IP address and port")
	flags.IntVar(&perSecond, "rate", 10_000, "how many a second")
	flags.DurationVar(&lasts, "for", howLong, "for how long")
	return cmd
}

func newRequests() *cobra.Command {
	var url string
	var perSecond int
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "requests",
		Short: "Ask for a page with bogus tokens",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answers := stranger.Requests(cmd.Context(), stranger.Client(dial, 5*time.Second),
				url, perSecond, lasts)
			var statuses []int
			for status := range answers {
				statuses = append(statuses, status)
			}
			slices.Sort(statuses)
			for _, status := range statuses {
				fmt.Fprintf(cmd.OutOrStdout(), "%d times %d\n", answers[status], status)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&url, "url", "", "such as https://10.77.0.11:9740/metrics")
	flags.IntVar(&perSecond, "rate", 6, "how many a second")
	flags.DurationVar(&lasts, "for", howLong, "for how long")
	return cmd
}

func newClaim() *cobra.Command {
	var c stranger.Claims
	var addresses []string
	cmd := &cobra.Command{
		Use:   "claim",
		Short: "Send frames that say that addresses are at places where nobody is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range addresses {
				addr, err := netip.ParseAddr(text)
				if err != nil {
					return fmt.Errorf("--address: %w", err)
				}
				c.Addresses = append(c.Addresses, addr)
			}
			forger, err := c.Open()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d frames sent\n", forger.Run(cmd.Context()))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Link, "link", "eth0", "interface that sends")
	flags.StringArrayVar(&addresses, "address", nil, "IP address; may be repeated")
	flags.IntVar(&c.MACs, "macs", 1000, "how many Ethernet addresses are stated in turn")
	flags.IntVar(&c.PerSecond, "rate", 1000, "how many frames a second")
	flags.DurationVar(&c.For, "for", howLong, "for how long")
	return cmd
}

func newRouter() *cobra.Command {
	var r stranger.Router
	var listen, id string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "router",
		Short: "Accept BGP sessions, ask for all routes again and again, and read nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if r.ID, err = netip.ParseAddr(id); err != nil || !r.ID.Is4() {
				return errors.Join(errors.New("--id: an IPv4 address is wanted"), err)
			}
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			result := r.Serve(cmd.Context(), listener, lasts)
			fmt.Fprintf(cmd.OutOrStdout(), "%d sessions, %d refreshes sent\n",
				result.Sessions, result.Refreshes)
			for _, why := range result.Ended {
				fmt.Fprintln(cmd.OutOrStdout(), "ended:", why)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", ":179", "address and port to listen on")
	flags.Uint16Var(&r.ASN, "asn", 64513, "own AS number")
	flags.StringVar(&id, "id", "10.77.0.66", "own identifier")
	flags.BoolVar(&r.Reads, "reads", false, "read what was asked for")
	flags.IntVar(&r.PerSecond, "rate", 5000, "how many refreshes a second on each session")
	flags.IntVar(&r.Most, "most", 100_000, "how many in all")
	flags.DurationVar(&lasts, "for", howLong, "for how long")
	return cmd
}
