package kube

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWhichConnectionGoesForANewOne(t *testing.T) {
	b := bounds{source: 2, all: 4}
	for _, test := range []struct {
		story string
		open  string // sources, oldest first
		comes string
		want  int
	}{
		{"there is room", "abc", "a", -1},
		{"nobody is there", "", "a", -1},
		{"its source has as many as it may", "baa", "a", 1},
		{"all are there: the oldest of who has most", "abbc", "d", 1},
		{"all have as many: the oldest", "abcd", "e", 0},
		{"its own goes first, whoever has most", "abba", "a", 0},
	} {
		var open []source
		named := func(r rune) source { return sourceOfAddr(netip.AddrFrom4([4]byte{192, 0, 2, byte(r)})) }
		for _, r := range test.open {
			open = append(open, named(r))
		}
		if got := tooOld(open, named(rune(test.comes[0])), b); got != test.want {
			t.Errorf("%s: number %d goes, want %d", test.story, got, test.want)
		}
	}
}

// TestOfANetworkTheAddressWithMostGoesFirst: a host of the LAN does not close the
// connections of its neighbours, which are in the same /64.
func TestOfANetworkTheAddressWithMostGoesFirst(t *testing.T) {
	b := bounds{source: 4, all: 6}
	for _, test := range []struct {
		story string
		open  string // hosts of one network, in capitals of another, oldest first
		comes string
		want  int
	}{
		{"there is room in the network", "abA", "c", -1},
		{"the network is full: the oldest of who has most", "abbb", "a", 1},
		{"also when that one comes itself", "abbb", "b", 1},
		{"and when somebody comes who has none", "abbb", "c", 1},
		{"all have as many: the oldest", "abcd", "e", 0},
		{"another network does not matter", "aBBabb", "c", 0},
		{"all are there: of the network with most who has most there", "AabbbC", "D", 2},
		{"two networks have as many: the one that was first", "ABabbB", "Z", 1},
	} {
		var open []source
		named := func(r rune) source {
			network := byte(r) >> 5 & 1
			addr := [16]byte{0xfd, 7: network, 15: byte(r)}
			return sourceOfAddr(netip.AddrFrom16(addr))
		}
		for _, r := range test.open {
			open = append(open, named(r))
		}
		if got := tooOld(open, named(rune(test.comes[0])), b); got != test.want {
			t.Errorf("%s: number %d goes, want %d", test.story, got, test.want)
		}
	}
}

// Whoever comes: no bound is exceeded, and of a source that has a single
// connection that is not the oldest of all, it stays while others have more.
func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := bounds{source: rapid.IntRange(1, 4).Draw(t, "source"), all: rapid.IntRange(1, 8).Draw(t, "all")}
		var open []source
		for range rapid.IntRange(0, 60).Draw(t, "connections") {
			last := byte(rapid.IntRange(0, 9).Draw(t, "from"))
			s := sourceOfAddr(netip.AddrFrom4([4]byte{192, 0, 2, last}))
			count := map[source]int{}
			for _, o := range open {
				count[o]++
			}
			if i := tooOld(open, s, b); i >= 0 {
				if gone := open[i]; gone != s && count[gone] == 1 {
					for _, o := range open {
						if count[o] > 1 {
							t.Fatalf("of %v number %d goes for %v", open, i, s)
						}
					}
				}
				open = append(open[:i:i], open[i+1:]...)
			}
			open = append(open, s)
			count[s] = 0
			for _, o := range open {
				if o == s {
					count[s]++
				}
			}
			if len(open) > b.all || count[s] > b.source {
				t.Fatalf("%d are open, of it %d of one source: %+v", len(open), count[s], b)
			}
		}
	})
}

func TestSources(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1":          "192.0.2.1/32",
		"::ffff:192.0.2.1":   "192.0.2.1/32",
		"2001:db8::1:2:3:4":  "2001:db8::/64",
		"fe80::1%eth0":       "fe80::1/128",
		"fd77:0:0:1::1:2222": "fd77:0:0:1::/64",
	} {
		to := func(addr string) net.Addr {
			return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
		}
		got := sourceOf(to(remote), to("2001:db8::1:2:3:5"))
		if got.network != netip.MustParsePrefix(want) {
			t.Errorf("%s counts for %s, want %s", remote, got.network, want)
		}
		if own := sourceOf(to(remote), to(remote)); own.network.Bits() != own.addr.BitLen() ||
			own.addr != got.addr {
			t.Errorf("%s counts for %s on its own host", remote, own.network)
		}
	}
	if got := sourceOf(&net.UnixAddr{}, &net.UnixAddr{}); got != (source{}) {
		t.Errorf("a socket of another kind counts for %v", got)
	}
}

// TestThousandsOfIdleConnectionsBlindNobody: a stranger opens connections to the
// health port and says nothing, or half a question. A kubelet is answered, and no
// more are open than may be.
func TestThousandsOfIdleConnectionsBlindNobody(t *testing.T) {
	const strangers = 4000
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error)
	h := Health{Missing: func() string { return "" }, Loops: &Loops{}, Log: slog.New(slog.DiscardHandler)}
	go func() { served <- h.serve(ctx, listener) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	from := func(source string) *net.Dialer {
		return &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	}
	probe := func() error {
		transport := &http.Transport{DialContext: from("127.0.0.2").DialContext, DisableKeepAlives: true}
		defer transport.CloseIdleConnections()
		client := http.Client{Transport: transport, Timeout: 10 * time.Second}
		response, err := client.Get("http://" + listener.Addr().String() + "/healthz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusOK || string(text) != "ok\n" {
			return fmt.Errorf("answered %d %q", response.StatusCode, text)
		}
		return nil
	}
	before := runtime.NumGoroutine()
	for i := range strangers {
		// From many sources, and from one that is the kubelet's own.
		source := fmt.Sprintf("127.0.%d.%d", i%7, 2+i%40)
		conn, err := from(source).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
		}
		if i%500 == 0 || i == strangers-1 {
			if err := probe(); err != nil {
				t.Fatalf("with %d idle connections: %v", i+1, err)
			}
		}
	}
	// A goroutine serves each connection that is open.
	if more := runtime.NumGoroutine() - before; more > healthBounds.all+8 {
		t.Errorf("%d more goroutines run than before the strangers came", more)
	}
}
