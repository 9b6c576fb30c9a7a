package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// metricsBounds bound the connections of the metrics port. A scraper has one,
// which it uses again.
var metricsBounds = bounds{source: 16, all: 64}

const (
	// helloPatience is how long a TLS handshake may take, and the header of a
	// request.
	helloPatience = 5 * time.Second
	// scrapePatience is how long the answer to a request may take to be sent.
	scrapePatience = 30 * time.Second
	// scrapePause is how long a connection may wait for the next request. Most
	// scrapers come at least every minute.
	scrapePause = 90 * time.Second
)

// metricsServer returns a server of metrics over HTTPS for those who may read them. It
// listens at once, and answers when the manager starts it. controller-runtime's own bounds
// neither the connections of strangers nor what they may send.
func metricsServer(
	ctx context.Context, address string, api kubernetes.Interface, log *slog.Logger,
) (*manager.Server, error) {
	certificate, err := selfSigned(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make a certificate for metrics: %w", err)
	}
	listener, err := listen(ctx, address, log)
	if err != nil {
		return nil, fmt.Errorf("listen for readers of metrics (see --metrics-bind-address): %w", err)
	}
	readers := newReaders(func(ctx context.Context, token, path string) (int, error) {
		return review(ctx, api, token, path)
	}, log)
	metrics := promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError,
	})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", readers.only(metrics))
	shutdown := time.Second
	return &manager.Server{
		Name: "metrics",
		Server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: helloPatience,
			ReadTimeout:       helloPatience,
			WriteTimeout:      scrapePatience,
			IdleTimeout:       scrapePause,
			MaxHeaderBytes:    64 << 10, // a token with many groups is long
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		Listener: tls.NewListener(&newestWins{Listener: listener, bounds: metricsBounds}, &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{certificate},
		}),
		ShutdownTimeout: &shutdown,
	}, nil
}

// selfSigned returns a certificate that nobody can check; it serves to encrypt. With
// its key a handshake costs little.
func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "berth"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	text, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{text}, PrivateKey: key}, err
}
