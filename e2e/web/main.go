// Command web is the lab's workload. It answers every HTTP request, and every UDP datagram on the same port,
// with one line that says who answered and whom it saw asking:
//
//	pod=web-5d8f node=node2 client=10.77.0.100:51320 host=10.77.0.200
//
// client shows whether the source address survived the way to the pod. Behind a proxy that names the client
// in X-Forwarded-For, forwarded=… follows. For UDP, host is the address listened on, and the datagram's text
// is appended as data="…". A websocket gets the line as its first message, and then its own messages back.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
)

// drainLimit is how long requests that are under way may take after SIGTERM.
const drainLimit = 5 * time.Second

func main() {
	address := flag.String("addr", ":8080", "TCP and UDP address to listen on")
	pod := flag.String("pod", os.Getenv("POD_NAME"),
		"name of the pod (default $POD_NAME, else the host name)")
	node := flag.String("node", os.Getenv("NODE_NAME"), "name of the node (default $NODE_NAME)")
	flag.Parse()
	hostname, _ := os.Hostname() // an empty name is told as such
	server := server{pod: cmp.Or(*pod, hostname), node: *node}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := server.serve(ctx, *address); err != nil {
		fmt.Fprintln(os.Stderr, "web:", err)
		os.Exit(1)
	}
}

// A server knows which pod on which node it is.
type server struct{ pod, node string }

// line is the answer to a client that asked for host.
func (s server) line(client, host string) string {
	return fmt.Sprintf("pod=%s node=%s client=%s host=%s", s.pod, s.node, client, host)
}

// answer tells a client the line, once or at the beginning of a websocket.
func (s server) answer(w http.ResponseWriter, r *http.Request) {
	line := s.line(r.RemoteAddr, r.Host)
	if forwarded := r.Header.Get("X-Forwarded-For"); forwarded != "" {
		line += " forwarded=" + strings.ReplaceAll(forwarded, " ", "")
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		fmt.Fprintln(w, line)
		return
	}
	// Whatever origin the client names.
	websocket.Server{Handler: func(conn *websocket.Conn) {
		if websocket.Message.Send(conn, line) == nil {
			_, _ = io.Copy(conn, conn) // ends when the client does
		}
	}}.ServeHTTP(w, r)
}

// serve answers on TCP and UDP until ctx ends, then lets requests that are under way finish.
func (s server) serve(ctx context.Context, address string) error {
	packets, err := new(net.ListenConfig).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	// As large as the kernel lets it be: thousands of datagrams come each second, and a pod that waits for a
	// processor is to answer them late, not to lose them.
	if err := packets.(*net.UDPConn).SetReadBuffer(1 << 20); err != nil {
		return errors.Join(err, packets.Close())
	}
	web := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(s.answer),
	}
	ended := make(chan error, 2)
	go func() { ended <- s.echo(packets) }()
	go func() { ended <- web.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	return errors.Join(web.Shutdown(drain), packets.Close())
}

// echo answers datagrams until the socket is closed.
func (s server) echo(packets net.PacketConn) error {
	buffer := make([]byte, 2048)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		answer := fmt.Sprintf("%s data=%q\n", s.line(from.String(), packets.LocalAddr().String()), buffer[:n])
		// A datagram that cannot be answered is lost, like any other.
		_, _ = packets.WriteTo([]byte(answer), from)
	}
}
