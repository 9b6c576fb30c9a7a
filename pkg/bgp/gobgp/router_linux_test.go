package gobgp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// wanted is how a router of a test is configured.
type wanted struct {
	asn, peerASN uint32 // peerASN 0: any external
	peer         string // the speaker's address, or the interface to it
	password     string
	gtsm         bool
	multihop     bool
	passive      bool
	hold         int // seconds; 0 for the default
	restart      bool
	longLived    bool
	weights      bool
	plain4       bool // no IPv6 next hops for IPv4
	flood        int  // so many routes it announces itself (BIRD only)
	bfd          bool
	dynamic      bool // it learns of the speaker when that connects
	limit        int  // so many prefixes it takes; 0 for any number
}

// seen is a route as a router tells of it.
type seen struct {
	hop, path string
	pref, med int // -1 for none
	// standard, extended and large communities, as the router writes them.
	communities []string
}

// router is a program that we did not write.
type router interface {
	// start runs it on a host until the test ends.
	start(t *testing.T, h *netnstest.Host, w wanted)
	// established tells whether its session is up.
	established(t *testing.T) bool
	// route is what it has received for a prefix.
	route(t *testing.T, prefix string) (seen, bool)
	// count is how many prefixes of a family it has.
	count(t *testing.T, v6 bool) int
	// keeps tells whether it keeps routes of a speaker that is away.
	keeps(t *testing.T) bool
	// heard is what it tells of the end of the last session.
	heard(t *testing.T) string
	// reconnect has it close the session and connect again.
	reconnect(t *testing.T)
	// restart ends it without a word, and has it begin again after a pause. It
	// returns when it answers.
	restart(t *testing.T, after time.Duration)
	// shutDown has its operator end the session, with a text.
	shutDown(t *testing.T, text string)
	// withoutBFD has it do without BFD.
	withoutBFD(t *testing.T)
}

// routers are those that are installed. Without any the test is skipped.
func routers(t *testing.T) map[string]func() router {
	t.Helper()
	netnstest.Require(t)
	out := map[string]func() router{}
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err == nil {
		out["FRR"] = func() router { return &frr{} }
	}
	if _, err := exec.LookPath("bird"); err == nil {
		out["BIRD"] = func() router { return &bird{} }
	}
	if len(out) == 0 {
		t.Skip("needs a BGP router to talk to: Debian package frr or bird2")
	}
	return out
}

// each runs a test with each router that is installed.
func each(t *testing.T, test func(t *testing.T, r router)) {
	t.Helper()
	all := routers(t)
	for _, name := range []string{"FRR", "BIRD"} {
		t.Run(name, func(t *testing.T) {
			if all[name] == nil {
				t.Skip("needs Debian package " + map[string]string{"FRR": "frr", "BIRD": "bird2"}[name])
			}
			test(t, all[name]())
		})
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30s still not: %s", what)
		}
	}
}

type frr struct {
	host       *netnstest.Host
	dir, space string
	stop       []func() string
}

func (f *frr) start(t *testing.T, h *netnstest.Host, w wanted) {
	t.Helper()
	remote := fmt.Sprint(w.peerASN)
	if w.peerASN == 0 {
		remote = "external"
	}
	n := w.peer
	var c strings.Builder
	line := func(on bool, format string, args ...any) {
		if on {
			fmt.Fprintf(&c, format+"\n", args...)
		}
	}
	_, isAddr := netip.ParseAddr(n)
	line(true, "log stdout\nhostname router")
	line(isAddr != nil, "interface %s\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval 1\nexit", n)
	line(true, "router bgp %d\n bgp router-id 9.9.9.9\n no bgp ebgp-requires-policy\n"+
		" no bgp default ipv4-unicast", w.asn)
	line(w.longLived, " bgp long-lived-graceful-restart stale-time 600")
	line(w.weights, " bgp bestpath as-path multipath-relax")
	line(w.dynamic, " neighbor NODES peer-group\n neighbor NODES remote-as %s\n"+
		" bgp listen range %s/32 peer-group NODES", remote, n)
	if w.dynamic {
		n = "NODES"
	}
	line(isAddr == nil && !w.dynamic, " neighbor %s remote-as %s", n, remote)
	line(isAddr != nil, " neighbor %s interface remote-as %s", n, remote)
	line(w.password != "", " neighbor %s password %s", n, w.password)
	line(w.bfd, " neighbor %s bfd", n)
	line(w.gtsm, " neighbor %s ttl-security hops 1", n)
	line(w.multihop, " neighbor %s ebgp-multihop", n)
	line(!w.passive, " neighbor %s passive", n)
	line(w.hold > 0, " neighbor %s timers %d %d", n, w.hold/3, w.hold)
	line(!w.plain4, " neighbor %s capability extended-nexthop", n)
	line(true, " neighbor %s timers connect 1", n)
	for _, family := range []string{"ipv4", "ipv6"} {
		line(true, " address-family %s unicast\n  neighbor %s activate", family, n)
		line(w.limit > 0, "  neighbor %s maximum-prefix %d", n, w.limit)
		line(true, " exit-address-family")
	}
	programs := []string{"zebra", "bgpd"}
	if w.bfd {
		programs = []string{"zebra", "bfdd", "bgpd"}
	}
	f.begin(t, h, c.String(), programs...)
}

// begin runs programs of FRR on a host with a configuration, until the test ends.
func (f *frr) begin(t *testing.T, h *netnstest.Host, config string, programs ...string) {
	t.Helper()
	// Other tests may run at the same time, and FRR insists on its place.
	space := fmt.Sprintf("berth-%d-%s", os.Getpid(), h)
	f.host, f.dir, f.space = h, "/var/run/frr/"+space, space
	h.Run(t, "install", "-d", "-o", "frr", "-g", "frr", f.dir)
	if err := os.WriteFile(filepath.Join(f.dir, "test.conf"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		f.run(t, program)
	}
	t.Cleanup(func() {
		for _, stop := range slices.Backward(f.stop) {
			if out := stop(); t.Failed() {
				t.Logf("%s", out)
			}
		}
		_ = os.RemoveAll(f.dir)
	})
}

// run starts one of its programs, and waits until it answers.
func (f *frr) run(t *testing.T, program string) {
	t.Helper()
	f.stop = append(f.stop, f.host.Start(t, "/usr/lib/frr/"+program, "-N", f.space, "-f",
		filepath.Join(f.dir, "test.conf"), "-P", "0",
		"-i", filepath.Join(f.dir, program+".pid"), "--log", "stdout"))
	eventually(t, program+" answers", func() bool {
		_, err := f.host.Try("vtysh", "--vty_socket", f.dir, "-d", program, "-c", "show version")
		return err == nil
	})
}

func (f *frr) restart(t *testing.T, after time.Duration) {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(f.dir, "bgpd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	f.host.Run(t, "kill", "-9", strings.TrimSpace(string(pid)))
	time.Sleep(after)
	f.run(t, "bgpd")
}

func (f *frr) shutDown(t *testing.T, text string) {
	f.host.Run(t, "vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c", "configure terminal", "-c",
		"router bgp",
		"-c", "neighbor "+node4+" shutdown message "+text)
}

// ask has bgpd answer in JSON.
func (f *frr) ask(t *testing.T, into any, command string) {
	t.Helper()
	out := f.host.Run(t, "vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c", command)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

func (f *frr) established(t *testing.T) bool {
	var all map[string]struct {
		BgpState string `json:"bgpState"`
	}
	f.ask(t, &all, "show bgp neighbors json")
	for _, n := range all {
		return n.BgpState == "Established"
	}
	return false
}

func (f *frr) route(t *testing.T, prefix string) (seen, bool) {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	type words struct {
		String string `json:"string"`
	}
	var got struct {
		Paths []struct {
			AsPath   words  `json:"aspath"`
			Metric   *int   `json:"metric"`
			LocPrf   *int   `json:"locPrf"`
			Stand    words  `json:"community"`
			Extended words  `json:"extendedCommunity"`
			Large    words  `json:"largeCommunity"`
			Origin   string `json:"origin"`
			Nexthops []struct {
				IP    string `json:"ip"`
				Scope string `json:"scope"`
			} `json:"nexthops"`
		} `json:"paths"`
	}
	f.ask(t, &got, fmt.Sprintf("show bgp %s unicast %s json", family, prefix))
	if len(got.Paths) == 0 {
		return seen{}, false
	}
	p := got.Paths[0]
	s := seen{path: strings.TrimPrefix(p.AsPath.String, "Local"), pref: -1, med: -1}
	if p.Metric != nil {
		s.med = *p.Metric
	}
	if p.LocPrf != nil {
		s.pref = *p.LocPrf
	}
	for _, text := range []string{p.Stand.String, p.Extended.String, p.Large.String} {
		s.communities = append(s.communities, strings.Fields(text)...)
	}
	s.hop = p.Nexthops[0].IP
	if p.Origin != "IGP" {
		t.Errorf("%s: the origin is %s", prefix, p.Origin)
	}
	return s, true
}

// frrRoutes are the routes of a family, in short.
type frrRoutes struct {
	Routes map[string][]struct {
		Stale bool `json:"stale"`
	} `json:"routes"`
}

func (f *frr) count(t *testing.T, v6 bool) int {
	var got frrRoutes
	f.ask(t, &got, fmt.Sprintf("show bgp %s unicast json", map[bool]string{false: "ipv4", true: "ipv6"}[v6]))
	return len(got.Routes)
}

func (f *frr) keeps(t *testing.T) bool {
	var got frrRoutes
	f.ask(t, &got, "show bgp ipv4 unicast json")
	for _, paths := range got.Routes {
		if paths[0].Stale {
			return true
		}
	}
	return false
}

func (f *frr) heard(t *testing.T) string {
	return f.host.Run(t, "vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c", "show bgp neighbors json")
}

func (f *frr) reconnect(t *testing.T) {
	f.host.Run(t, "vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c", "clear bgp *")
}

func (f *frr) withoutBFD(t *testing.T) {
	f.host.Run(t, "vtysh", "--vty_socket", f.dir, "-d", "bgpd", "-c", "configure terminal", "-c",
		"router bgp", "-c", "no neighbor "+node4+" bfd")
}

type bird struct {
	host   *netnstest.Host
	socket string
	config string
	stop   func() string
}

func (b *bird) start(t *testing.T, h *netnstest.Host, w wanted) {
	t.Helper()
	var c strings.Builder
	line := func(on bool, format string, args ...any) {
		if on {
			fmt.Fprintf(&c, format+"\n", args...)
		}
	}
	remote := fmt.Sprint("as ", w.peerASN)
	if w.peerASN == 0 {
		remote = "external"
	}
	line(true, "log stderr all;\nrouter id 8.8.8.8;\nprotocol device {}\nprotocol bgp berth {\n local as %d;",
		w.asn)
	if w.dynamic {
		line(true, " neighbor range %s/32 %s; dynamic name \"berth\";", w.peer, remote)
	} else if _, err := netip.ParseAddr(w.peer); err != nil {
		// BIRD 2.0 knows no unnumbered sessions: the address has to be told.
		own := linkLocal(t, netnstest.Local(), w.peer)
		line(true, " neighbor %s%%%s %s;\n interface \"%s\";", own, w.peer, remote, w.peer)
	} else {
		line(true, " neighbor %s %s;", w.peer, remote)
	}
	line(w.password != "", " password \"%s\";", w.password)
	line(w.bfd, " bfd on;")
	line(w.gtsm, " ttl security on;")
	line(w.multihop, " multihop;")
	line(!w.passive, " passive on;")
	line(w.hold > 0, " hold time %d;", w.hold)
	line(w.restart, " graceful restart on;")
	line(w.longLived, " long lived graceful restart on;")
	line(true, " connect delay time 1; connect retry time 1; error wait time 1, 2; error forget time 1;")
	limit := ""
	if w.limit > 0 {
		limit = fmt.Sprintf("import limit %d action disable; ", w.limit)
	}
	exported := map[bool]string{false: "none", true: "where source = RTS_STATIC"}[w.flood > 0]
	line(true, " ipv4 { %simport all; export %s; extended next hop %s; };\n"+
		" ipv6 { import all; export none; };\n}",
		limit, exported, map[bool]string{false: "on", true: "off"}[w.plain4])
	if w.flood > 0 {
		line(true, "protocol static {\n ipv4;")
		for i := range w.flood {
			line(true, " route 100.%d.%d.%d/32 blackhole;", i>>16, i>>8&255, i&255)
		}
		line(true, "}")
	}
	line(w.bfd, "protocol bfd { interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; "+
		"multiplier 30; }; }")
	b.begin(t, h, c.String())
}

// begin runs BIRD on a host with a configuration, until the test ends.
func (b *bird) begin(t *testing.T, h *netnstest.Host, config string) {
	t.Helper()
	dir := t.TempDir()
	b.host, b.socket, b.config = h, filepath.Join(dir, "ctl"), filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(b.config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	b.run(t)
	t.Cleanup(func() {
		if out := b.stop(); t.Failed() {
			t.Logf("%s", out)
		}
	})
}

func (b *bird) run(t *testing.T) {
	t.Helper()
	b.stop = b.host.Start(t, "bird", "-f", "-c", b.config, "-s", b.socket)
	eventually(t, "bird answers",
		func() bool { _, err := b.host.Try("birdc", "-s", b.socket, "show status"); return err == nil })
}

func (b *bird) restart(t *testing.T, after time.Duration) {
	t.Helper()
	b.stop()
	time.Sleep(after)
	b.run(t)
}

func (b *bird) shutDown(t *testing.T, text string) {
	b.ask(t, "disable", "berth", fmt.Sprintf("%q", text))
}

func (b *bird) ask(t *testing.T, command ...string) string {
	t.Helper()
	return b.host.Run(t, "birdc", append([]string{"-s", b.socket}, command...)...)
}

func (b *bird) established(t *testing.T) bool {
	return strings.Contains(b.ask(t, "show", "protocols", "berth"), "Established")
}

var birdAttribute = regexp.MustCompile(`(?m)^\s+BGP\.(\w+): ?(.*)$`)

func (b *bird) route(t *testing.T, prefix string) (seen, bool) {
	// An error means that there is none.
	out, err := b.host.Try("birdc", "-s", b.socket, "show", "route", prefix, "all")
	if err != nil || !strings.Contains(out, prefix) {
		return seen{}, false
	}
	s := seen{pref: -1, med: -1}
	for _, m := range birdAttribute.FindAllStringSubmatch(out, -1) {
		switch value := strings.TrimSpace(m[2]); m[1] {
		case "as_path":
			s.path = value
		case "next_hop":
			// The link-local address is the one that counts where there is one.
			s.hop = strings.Fields(value)[len(strings.Fields(value))-1]
		case "local_pref":
			_, _ = fmt.Sscan(value, &s.pref)
		case "med":
			_, _ = fmt.Sscan(value, &s.med)
		case "community", "large_community", "ext_community":
			for _, c := range strings.Split(strings.Trim(value, "()"), ") (") {
				s.communities = append(s.communities, strings.NewReplacer(", ", ":", ",", ":").Replace(c))
			}
		case "origin":
			if value != "IGP" {
				t.Errorf("%s: the origin is %s", prefix, value)
			}
		}
	}
	return s, true
}

func (b *bird) count(t *testing.T, v6 bool) int {
	table := map[bool]string{false: "master4", true: "master6"}[v6]
	all := 0
	if _, err := fmt.Sscanf(lastLine(b.ask(t, "show", "route", "table", table, "count")), "%d",
		&all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (b *bird) keeps(t *testing.T) bool {
	return strings.Contains(b.ask(t, "show", "protocols", "all", "berth"), "Neighbor graceful restart active")
}

func (b *bird) heard(t *testing.T) string { return b.ask(t, "show", "protocols", "all", "berth") }

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (b *bird) reconnect(t *testing.T) { b.ask(t, "restart", "berth") }

func (b *bird) withoutBFD(t *testing.T) {
	text, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.config, []byte(strings.Replace(string(text), " bfd on;", " bfd off;", 1)),
		0o644); err != nil {
		t.Fatal(err)
	}
	b.ask(t, "configure")
}

// linkLocal is a host's own link-local address on a link.
func linkLocal(t *testing.T, h *netnstest.Host, link string) string {
	t.Helper()
	var address string
	eventually(t, "a link-local address on "+link, func() bool {
		fields := strings.Fields(h.Run(t, "ip", "-6", "-o", "address", "show", "dev", link, "scope", "link",
			"-tentative"))
		i := slices.Index(fields, "inet6")
		if i < 0 {
			return false
		}
		address, _, _ = strings.Cut(fields[i+1], "/")
		return true
	})
	return address
}
