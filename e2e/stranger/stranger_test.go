package stranger

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

func local(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// listen accepts on the loopback interface and hands each connection to use, until the test ends.
func listen(t *testing.T, use func(net.Conn)) (address string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// A connection that nobody refers to any more would be closed by the garbage collector.
	var kept []net.Conn
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
		for _, conn := range kept {
			_ = conn.Close()
		}
	})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			kept = append(kept, conn)
			go use(conn)
		}
	}()
	return listener.Addr().String()
}

// TestStreams: what is counted is what the other side did.
func TestStreams(t *testing.T) {
	t.Parallel()
	drops := func(c net.Conn) { _ = c.Close() }
	keeps := func(net.Conn) {}
	var first atomic.Pointer[[]byte]
	reads := func(c net.Conn) {
		header := make([]byte, 5)
		if _, err := io.ReadFull(c, header); err == nil {
			first.Store(&header)
		}
		_, _ = io.Copy(io.Discard, c)
	}
	for _, test := range []struct {
		story  string
		attack func(context.Context, Streams) StreamResult
		server func(net.Conn)
		holds  func(StreamResult) bool
	}{
		{"idle ones are kept",
			Idle, keeps, func(r StreamResult) bool { return r.Opened == 5 && r.Open == 5 && r.Bytes == 0 }},
		{"idle ones are dropped and come again",
			Idle, drops, func(r StreamResult) bool { return r.Opened > 5 && r.Closed >= 5 && r.Open <= 5 }},
		{"a flood is read at its rate", Flood, reads, func(r StreamResult) bool {
			return r.Open == 5 && r.Bytes > 1<<18 && r.Bytes < 2<<20
		}},
		{"a flood is not read",
			Flood, keeps, func(r StreamResult) bool { return r.Opened == 5 && r.Open == 5 }},
		{"a trickle", Trickle, reads, func(r StreamResult) bool { return r.Open == 5 && r.Bytes == 5 }},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := test.attack(t.Context(), Streams{
				Dial:   local,
				Target: listen(t, test.server),
				Count:  5,
				For:    500 * time.Millisecond,
				Rate:   2 << 20,
			})
			if !test.holds(r) {
				t.Errorf("%+v", r)
			}
		})
	}
	if header := first.Load(); header == nil || hex.EncodeToString(*header) != "0a01400000" {
		t.Errorf("a stream starts with %x, want the type of an encrypted message and 20 MiB", header)
	}
	r := Idle(t.Context(), Streams{Dial: local, Target: "127.0.0.1:1", Count: 2, For: 200 * time.Millisecond})
	if r.Opened != 0 || r.Failed < 2 {
		t.Errorf("nobody listens: %+v", r)
	}
}

// TestRequests: each comes with a token of its own, at the rate, and all are counted.
func TestRequests(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer good" {
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer server.Close()
	client := Client(local, time.Second)
	answers := Requests(t.Context(), client, server.URL, 100, 500*time.Millisecond)
	if n := answers[http.StatusUnauthorized]; n < 3 || n > 60 || len(answers) != 1 {
		t.Errorf("answers %v, want at most 50 times 401", answers)
	}
	status, _, err := Scrape(t.Context(), client, server.URL, "good")
	if err != nil || status != http.StatusOK {
		t.Errorf("a good token: %d, %v", status, err)
	}
}

// TestFrames: the frames are those that the RFCs describe.
func TestFrames(t *testing.T) {
	t.Parallel()
	mac := macOf(0x0102)
	const arp = "ffffffffffff06bad0000102" + "0806" + "0001080006040002" + "06bad00001020a4d00c8" +
		"06bad00001020a4d00c8"
	if got := hex.EncodeToString(claim(mac, netip.MustParseAddr("10.77.0.200"))); got != arp {
		t.Errorf("ARP:\n%s, want\n%s", got, arp)
	}
	frame := claim(mac, netip.MustParseAddr("fd77::200"))
	const head = "333300000001" + "06bad0000102" + "86dd" + "60000000" + "00203aff"
	if got := hex.EncodeToString(frame[:22]); got != head {
		t.Errorf("IPv6 header %s, want %s", got, head)
	}
	// A checksum over everything with the checksum in it is zero.
	if sum := checksum([16]byte(frame[22:38]), [16]byte(frame[38:54]), 58, frame[54:]); sum != 0 {
		t.Errorf("the checksum is off by %#x", sum)
	}
}

// TestRouter: it brings a session up, asks so many times as it may, and no more.
func TestRouter(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refreshes := make(chan int, 1)
	go func() {
		conn, err := local(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			refreshes <- -1
			return
		}
		defer conn.Close()
		open := append([]byte{4, 0xfc, 0, 0, 90, 10, 77, 0, 11}, 0)
		_, _ = conn.Write(bgpMessage(bgpOpen, open))
		_, _ = conn.Write(bgpMessage(bgpKeepalive, nil))
		n := 0
		for {
			header := make([]byte, bgpHeaderLen)
			if _, err := io.ReadFull(conn, header); err != nil {
				refreshes <- n
				return
			}
			body := make([]byte, int(binary.BigEndian.Uint16(header[16:]))-bgpHeaderLen)
			_, _ = io.ReadFull(conn, body)
			if header[18] == bgpRefresh {
				n++
			}
		}
	}()
	r := Router{ASN: 64513, ID: netip.MustParseAddr("10.77.0.66"), PerSecond: 1000, Most: 50}
	result := r.Serve(t.Context(), listener, 500*time.Millisecond)
	if result.Sessions != 1 || result.Refreshes != 50 || len(result.Ended) > 0 {
		t.Errorf("%+v", result)
	}
	if got := <-refreshes; got != 50 {
		t.Errorf("the other side saw %d refreshes", got)
	}
}
