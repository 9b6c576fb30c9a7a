package suite

import (
	"bufio"
	"context"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/browser"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// dashboard starts `kubectl berth dashboard` in the network of the control plane, makes its port a port of
// this machine, and returns the address that it prints.
func (b berth) dashboard(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	at := l.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	host := cluster.Host(lab.HostControlPlane)
	cmd, err := host.Command(ctx, b.binary, "--kubeconfig", b.kubeconfig, "dashboard", "--port", port)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	go forward(ctx, l, func() (net.Conn, error) { return host.Dial(ctx, "tcp", at) })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if url := regexp.MustCompile(`http://\S+`).FindString(lines.Text()); url != "" {
			return url
		}
	}
	t.Fatal("the dashboard prints no address")
	return ""
}

// forward passes what comes to a listener on, until the listener is closed.
func forward(ctx context.Context, l net.Listener, dial func() (net.Conn, error)) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			to, err := dial()
			if err != nil {
				_ = from.Close()
				return
			}
			closeBoth := func() { _, _ = from.Close(), to.Close() }
			defer context.AfterFunc(ctx, closeBoth)()
			go func() { _, _ = io.Copy(to, from); closeBoth() }()
			_, _ = io.Copy(from, to)
			closeBoth()
		}()
	}
}

// reachable fails the test unless Tab leads to every control of the page, in its order, where it can be seen
// that it has the focus.
func reachable(t *testing.T, b *browser.Browser, page string) {
	t.Helper()
	want, got := b.Controls(), b.Walk()
	name := func(c browser.Control) string { return c.Tag + " " + c.Text + " " + c.Href }
	var wanted, walked []string
	for _, c := range want {
		wanted = append(wanted, name(c))
	}
	for _, c := range got {
		walked = append(walked, name(c))
		if c.Outline < 2 || c.Contrast < 3 || !c.Seen {
			t.Errorf("%s: it cannot be seen that %s has the focus: %+v", page, name(c), c)
		}
	}
	if !slices.Equal(wanted, walked) {
		t.Errorf("%s: Tab leads to\n%s\nthere is\n%s", page,
			strings.Join(walked, "\n"), strings.Join(wanted, "\n"))
	}
	// Each address is explained by typing it, too.
	left := slices.DeleteFunc(b.Beyond(), func(href string) bool {
		return strings.HasPrefix(href, "/explain?kind=address&name=")
	})
	if len(left) > 0 {
		t.Errorf("%s: only a pointer follows %q", page, left)
	}
}

// legible fails the test unless all texts and lines of the page can be told from what is behind them, in
// light and in dark.
func legible(t *testing.T, b *browser.Browser, page string) {
	t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		b.Scheme(scheme)
		weak, judged := b.Weak()
		if len(weak) > 0 || judged < 20 {
			t.Errorf("%s, %s: %d judged, too weak are\n%s", page, scheme, judged, strings.Join(weak, "\n"))
		}
		b.Shot("lab-" + page + "-" + scheme)
	}
}

// TestDashboard: a person with a keyboard and Chromium sees in the pages what is the case in the cluster.
func TestDashboard(t *testing.T) {
	needs(t, ipv4, "what the pages say does not depend on the family")
	view := browser.Open(t, 1280, 900)
	b := buildBerth(t)
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "first-v4", Address: lab.RouterAddresses.V4}.Manifest())
	apply(t, pool("asked", "10.77.0.230-10.77.0.239"))
	apply(t, peering.Announced("told", "198.51.100.0/28", ""))
	apply(t, web("asked", "node1", "node2"))
	apply(t, serviceOf("asked")+"---\n"+serviceOf("told"))
	kubectl(t, "rollout", "status", "deployment/asked", "--timeout=60s")
	addr := hasAddress(t, "asked")
	owner := ownedBy(t, addr, cluster.NodeNames()...)
	eventually(t, 30*time.Second, "speakers say that they announce both Services", func() (bool, string) {
		asked, _, code := b.run(t, "services", "--service", "asked")
		told, _, other := b.run(t, "services", "--service", "told")
		return code == 0 && other == 0, asked + told
	})
	next := takesOver.FindStringSubmatch(b.says(t, 0, "explain "+addr))
	if next == nil {
		t.Fatal("explain names nobody who would take over")
	}

	url := b.dashboard(t)
	base, _, _ := strings.Cut(url, "/login")
	view.Go(url)
	text := view.Text()
	for _, want := range []string{"Berth: ", "Routers, nodes and addresses", "asked", "first-v4"} {
		if !strings.Contains(text, want) {
			t.Errorf("the overview does not say %q:\n%s", want, text)
		}
	}
	for _, page := range []struct{ name, path string }{
		{"overview", "/"},
		{"services", "/services"},
		{"nodes", "/nodes"},
		{"explain", "/explain?kind=service&namespace=default&name=asked"},
		{"pool", "/explain?kind=pool&name=asked"},
		{"peer", "/explain?kind=peer&name=first-v4"},
	} {
		view.Go(base + page.path)
		legible(t, view, page.name)
		reachable(t, view, page.name)
	}
	useKeys(t, view, base, addr, owner, next[1])

	for _, asked := range view.Requests() {
		if !strings.HasPrefix(asked, base+"/") {
			t.Errorf("a page asks for %s", asked)
		}
	}
	if wrong := view.Problems(); len(wrong) > 0 {
		t.Errorf("Chromium says: %s", strings.Join(wrong, "\n"))
	}
}

// useKeys goes through the pages as somebody does who has no pointer.
func useKeys(t *testing.T, view *browser.Browser, base, addr, owner, next string) {
	says := func(wants ...string) {
		t.Helper()
		text := view.Text()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("the page does not say %q:\n%s", want, text)
			}
		}
	}
	view.Go(base + "/")
	view.TabTo("a", "Skip to the content")
	view.Press(browser.Enter)
	view.TabTo("summary", "The diagram as tables")
	view.Press(browser.Enter)
	says("Addresses, and the nodes that announce them", addr)

	view.Go(base + "/")
	view.TabTo("select", "")
	for range 1 + slices.Index(cluster.NodeNames(), owner) {
		view.Press(browser.Down)
	}
	view.TabTo("button", "Show")
	view.Follow(browser.Enter)
	says("if "+owner+" died", next+" would take over")
	legible(t, view, "what-if")
	reachable(t, view, "what-if")

	view.TabTo("a", "Services")
	view.Follow(browser.Enter)
	view.TabTo("input#q", "")
	view.Press("a", "s", "k", "e", "d")
	view.Follow(browser.Enter)
	says("asked", addr)
	if strings.Contains(view.Text(), "told") {
		t.Errorf("what was searched for is not all:\n%s", view.Text())
	}
	view.TabTo("td a", "asked")
	view.Follow(browser.Enter)
	says("service default/asked", owner+" answers on", next+" would take over")

	view.TabTo("input#address", "")
	view.Press(strings.Split("10.77.0.239", "")...)
	view.Follow(browser.Enter)
	says("10.77.0.239", "is held by nobody")
}
