package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
)

// etcdStartLimit is how long the server may take until it answers.
const etcdStartLimit = time.Minute

// newEtcdCommand returns the command that runs a cluster of one etcd member until SIGINT or SIGTERM.
func newEtcdCommand() *cobra.Command {
	var dataDir, clientURL, peerURL string
	cmd := &cobra.Command{
		Use:          "etcd",
		Short:        "One etcd member for a cluster that need not survive a power cut",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			config, err := etcdConfig(dataDir, clientURL, peerURL)
			if err != nil {
				return err
			}
			return serveEtcd(config)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "directory of the database")
	cmd.Flags().StringVar(&clientURL, "client-url", "http://127.0.0.1:2379", "URL to serve clients on")
	cmd.Flags().StringVar(&peerURL, "peer-url", "http://127.0.0.1:2380", "URL to listen on for other members")
	if err := cmd.MarkFlagRequired("data-dir"); err != nil {
		panic(err) // the flag is defined three lines above
	}
	return cmd
}

// etcdConfig describes a single member. It never waits for the disk (UnsafeNoFsync): what it stores goes with
// the lab.
func etcdConfig(dataDir, clientURL, peerURL string) (*embed.Config, error) {
	client, err := url.Parse(clientURL)
	if err != nil {
		return nil, fmt.Errorf("--client-url: %w", err)
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return nil, fmt.Errorf("--peer-url: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.UnsafeNoFsync = true
	config.LogLevel = "error" // a starting API server makes etcd log hundreds of warnings
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return config, nil
}

// serveEtcd returns nil when a signal asked the server to stop, and an error when it did not start or broke.
func serveEtcd(config *embed.Config) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer server.Close()
	ready, limit := server.Server.ReadyNotify(), time.After(etcdStartLimit)
	for {
		select {
		case <-signals:
			return nil
		case err := <-server.Err():
			return fmt.Errorf("etcd: %w", err)
		case <-ready:
			ready, limit = nil, nil
		case <-limit:
			return errors.New("etcd: not ready within " + etcdStartLimit.String())
		}
	}
}
