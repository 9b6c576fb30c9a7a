package suite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/websocket"

	"github.com/berth-lb/berth/e2e/watch"
)

// A way is how a client comes to the ingress controller.
type way struct {
	name  string
	host  string     // of the lab, on which the client is
	to    netip.Addr // what it sends to
	roots *x509.CertPool
	http1 bool // it does not ask for HTTP/2
}

// at returns the address with a port.
func (w way) at(port uint16) string { return netip.AddrPortFrom(w.to, port).String() }

// An answer is what a client gets.
type answer struct {
	line  string     // of the workload
	major int        // version of HTTP
	from  netip.Addr // from which the client asked
}

// localAddress is what a connection is from.
func localAddress(conn net.Conn) netip.Addr {
	return conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// get asks for a page on a new connection. Whatever host the URL names, that is to the way's address.
func (w way) get(ctx context.Context, url string, limit time.Duration) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var from atomic.Pointer[netip.Addr] // of the last connection, which is the one that served
	transport := &http.Transport{
		DisableKeepAlives: true,
		ForceAttemptHTTP2: !w.http1, // it is the default, which one's own DialContext turns off
		TLSClientConfig:   &tls.Config{RootCAs: w.roots},
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			conn, err := dial(ctx, w.host, net.JoinHostPort(w.to.String(), port))
			if err == nil {
				from.Store(new(localAddress(conn)))
			}
			return conn, err
		},
	}
	defer transport.CloseIdleConnections()
	got, err := ask(ctx, transport, url)
	if addr := from.Load(); addr != nil {
		got.from = *addr
	}
	return got, err
}

// getHTTP3 is get by HTTP/3, which is over UDP.
func (w way) getHTTP3(ctx context.Context, url string, limit time.Duration) (got answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.to, 443))
	var socket net.PacketConn
	err = cluster.Host(w.host).Run(func() error {
		conn, err := net.DialUDP("udp", nil, to) // tells from which address the host sends there
		if err != nil {
			return err
		}
		from := conn.LocalAddr().(*net.UDPAddr)
		got.from = from.AddrPort().Addr().Unmap()
		if err := conn.Close(); err != nil {
			return err
		}
		socket, err = net.ListenUDP("udp", from)
		return err
	})
	if err != nil {
		return got, err
	}
	defer socket.Close()
	connections := &quic.Transport{Conn: socket}
	defer connections.Close()
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.roots},
		Dial: func(ctx context.Context, _ string, secure *tls.Config, c *quic.Config) (*quic.Conn, error) {
			return connections.DialEarly(ctx, to, secure, c)
		},
	}
	defer transport.Close()
	from := got.from
	got, err = ask(ctx, transport, url)
	got.from = from
	return got, err
}

// ask gets a page. The answer does not say from where it was asked.
func ask(ctx context.Context, transport http.RoundTripper, url string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return answer{line: strings.TrimSpace(string(body)), major: response.ProtoMajor}, err
}

// served waits until the client gets a page.
func (w way) served(t *testing.T, url string) answer {
	t.Helper()
	var got answer
	eventually(t, 30*time.Second, url+" "+w.name, func() (bool, string) {
		var err error
		got, err = w.get(t.Context(), url, untilSure)
		return err == nil, fmt.Sprint(err)
	})
	return got
}

// requestsEvery is the time between two requests of one client.
const requestsEvery = 20 * time.Millisecond

// requests are those of a client that asks again and again, whether or not it was answered, on a new
// connection each time.
type requests struct {
	start  time.Time
	stop   func()
	asking sync.WaitGroup

	mu     sync.Mutex
	probes []watch.Probe // in the order in which they were sent
	failed int
}

// startRequests begins to ask for a page until the test ends.
func startRequests(t *testing.T, w way, url string) *requests {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &requests{start: time.Now()}
	r.stop = func() { cancel(); r.asking.Wait() }
	t.Cleanup(r.stop)
	r.asking.Go(func() {
		ticker := time.NewTicker(requestsEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			r.mu.Lock()
			i := len(r.probes)
			r.probes = append(r.probes, watch.Probe{Sent: time.Since(r.start)})
			r.mu.Unlock()
			r.asking.Go(func() {
				_, err := w.get(ctx, url, untilSure)
				if ctx.Err() == nil {
					r.note(t, i, err)
				}
			})
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	return r
}

// note keeps what became of a request.
func (r *requests) note(t *testing.T, i int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.probes[i].Answered = time.Since(r.start)
		return
	}
	if r.failed++; r.failed <= tellsFailures {
		t.Logf("request %d, sent after %.3f s, failed after %.3f s: %v",
			i, r.probes[i].Sent.Seconds(), time.Since(r.start).Seconds(), err)
	}
}

// outage tells what the client lost between two times.
func (r *requests) outage(from, to time.Time) watch.Outage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return watch.OutageOf(r.probes, from.Sub(r.start), to.Sub(r.start), requestsEvery)
}

// served waits until the client has lost nothing for a moment, and returns when that moment ended.
func (r *requests) served(t *testing.T) time.Time {
	t.Helper()
	var to time.Time
	eventually(t, time.Minute, "the client is served", func() (bool, string) {
		to = time.Now().Add(-300 * time.Millisecond) // what was sent later may still be answered in time
		o := r.outage(to.Add(-500*time.Millisecond), to)
		return o.Sent > 0 && o.Lost == 0, fmt.Sprintf("%d of %d requests lost", o.Lost, o.Sent)
	})
	return to
}

// A live connection is a websocket by which a client sends a message ten times a second, and waits for its
// echo, until the test ends or the connection does.
type live struct {
	line   string     // of the pod at the other end
	from   netip.Addr // what it is from
	opened time.Time
	ended  chan struct{} // closed when the connection has ended by itself

	mu      sync.Mutex
	slowest time.Duration // echo
	heard   time.Time     // last message
	err     error         // by which the client knows that the connection has ended
}

// silence is how long a client waits for an echo before it gives the connection up.
const silence = 20 * time.Second

// openLive opens a websocket over TLS.
func openLive(t *testing.T, w way, host string) *live {
	t.Helper()
	raw, err := dial(t.Context(), w.host, w.at(443))
	if err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(raw, &tls.Config{RootCAs: w.roots, ServerName: host})
	config, err := websocket.NewConfig("wss://"+host+"/", "https://"+host)
	if err != nil {
		t.Fatal(err)
	}
	if err := secured.SetDeadline(time.Now().Add(silence)); err != nil {
		t.Fatal(err)
	}
	conn, err := websocket.NewClient(config, secured)
	if err != nil {
		t.Fatalf("websocket %s: %v", w.name, err)
	}
	l := &live{from: localAddress(raw), opened: time.Now(), ended: make(chan struct{})}
	if err := websocket.Message.Receive(conn, &l.line); err != nil {
		t.Fatalf("websocket %s: %v", w.name, err)
	}
	l.heard = time.Now()
	closing := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() { l.talk(conn, closing) })
	t.Cleanup(func() {
		close(closing)
		_ = conn.Close() // it may have ended
		talking.Wait()
	})
	return l
}

// talk sends and receives until the connection ends, or is closed.
func (l *live) talk(conn *websocket.Conn, closing <-chan struct{}) {
	for i := 0; ; i++ {
		sent := time.Now()
		text, echo := fmt.Sprint(i), ""
		err := conn.SetDeadline(sent.Add(silence))
		if err == nil {
			err = websocket.Message.Send(conn, text)
		}
		if err == nil {
			err = websocket.Message.Receive(conn, &echo)
		}
		if err == nil && echo != text {
			err = fmt.Errorf("sent %q, received %q", text, echo)
		}
		select {
		case <-closing:
			return
		default:
		}
		l.mu.Lock()
		if l.err = err; err == nil {
			l.heard = time.Now()
			l.slowest = max(l.slowest, l.heard.Sub(sent))
		}
		l.mu.Unlock()
		if err != nil {
			close(l.ended)
			return
		}
		select {
		case <-closing:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// open fails the test if the connection has ended, and returns the slowest echo.
func (l *live) open(t *testing.T) time.Duration {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		t.Errorf("a connection has ended %s after it was opened: %v", time.Since(l.opened), l.err)
	}
	return l.slowest
}

// fate waits until the connection has ended, or there is an echo, and says what the client noticed, with
// times since from.
func (l *live) fate(from time.Time) string {
	asked := time.Now()
	for {
		select {
		case <-l.ended: // after the silence at the latest
		case <-time.After(50 * time.Millisecond):
		}
		l.mu.Lock()
		heard, err := l.heard, l.err
		l.mu.Unlock()
		until := max(0, heard.Sub(from)).Milliseconds()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Sprintf("echoes until %d ms, then there is silence", until)
		case err != nil:
			return fmt.Sprintf("echoes until %d ms, then ends: %v", until, err)
		case heard.After(asked):
			return "stays open"
		}
	}
}

// certificate makes a certificate for hosts, and returns what clients must trust and a Secret that holds it.
func certificate(t *testing.T, secret string, hosts ...string) (*x509.CertPool, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: hosts[0]},
		DNSNames:              hosts,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(chain)
	return roots, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %s}
type: kubernetes.io/tls
stringData: {tls.crt: %s, tls.key: %s}
`, secret, toJSON(string(chain)),
		toJSON(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))))
}
