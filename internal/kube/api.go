package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Limits of a patient dial.
const (
	dialPatience   = 20 * time.Second       // in all
	dialTimeout    = 3 * time.Second        // for one attempt
	firstDialPause = 200 * time.Millisecond // after the first attempt; it doubles up to
	lastDialPause  = time.Second
)

// RESTConfig returns how to reach the API server: as the pod's ServiceAccount, or
// by a kubeconfig file. The rate of requests is left to the API server's priority
// and fairness. While the API server is unreachable, caches go on trying.
func RESTConfig(kubeconfig string, log *slog.Logger) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		const help = "set --kubeconfig outside a cluster"
		return nil, fmt.Errorf("how to reach the API server is not known (%s): %w", help, err)
	}
	config.QPS = -1
	config.Dial = dial
	one := &outage{log: log}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &patient{next: next, outage: one} })
	return config, nil
}

// dial connects to the API server, and goes on trying for a while when it is
// unreachable, so that a restart of the API server fails nobody's request.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	start := time.Now()
	for pause := firstDialPause; ; pause = min(2*pause, lastDialPause) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil || time.Since(start) > dialPatience {
			return conn, err
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// NewManager makes a manager that does not serve metrics: see [ServeMetrics]. It waits for
// the API server while that is unreachable.
func NewManager(
	ctx context.Context, config *rest.Config, options ctrl.Options, log *slog.Logger,
) (manager.Manager, error) {
	var mgr manager.Manager
	logged := ""
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(context.Context) (bool, error) {
		var err error
		mgr, err = ctrl.NewManager(config, options)
		if err != nil && err.Error() != logged {
			logged = err.Error()
			log.Warn("waiting for the API server", "error", err)
		}
		return err == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for the API server: %w", err)
	}
	return mgr, nil
}

// ServeMetrics has a manager serve metrics at an address, "0" for not at all. It listens at
// once, and waits for the port if another process uses it.
func ServeMetrics(
	ctx context.Context, mgr manager.Manager, config *rest.Config, address string, log *slog.Logger,
) error {
	if address == "0" {
		return nil
	}
	api, err := kubernetes.NewForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("prepare to authenticate readers of metrics: %w", err)
	}
	server, err := metricsServer(ctx, address, api, log)
	if err != nil {
		return err
	}
	return mgr.Add(server)
}
