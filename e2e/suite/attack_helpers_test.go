package suite

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/watch"
)

// speakerLimit is what the manifests let a speaker have of memory, in MiB.
const speakerLimit = 512

// A speakerState is what a node says of its speaker.
type speakerState struct {
	pod      string
	restarts int
	ready    bool
	// last is how the container before this one ended.
	last string
}

// speakers reads the state of the speaker of each node.
func speakers(t *testing.T) map[string]speakerState {
	t.Helper()
	out := show(t, "get pods -n "+system+" -l "+product.SpeakerPods,
		`{range .items[*]}{.spec.nodeName} {.metadata.name} `+
			`{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready} `+
			`{.status.containerStatuses[0].lastState.terminated.reason}{"\n"}{end}`)
	states := map[string]speakerState{}
	for line := range strings.Lines(out) {
		fields := append(strings.Fields(line), "", "", "", "", "")
		restarts, _ := strconv.Atoi(fields[2])
		states[fields[0]] = speakerState{
			pod:      fields[1],
			restarts: restarts,
			ready:    fields[3] == "true",
			last:     fields[4],
		}
	}
	return states
}

// unharmed fails the test if any speaker is another container than it was.
func unharmed(t *testing.T, before map[string]speakerState) {
	t.Helper()
	after := speakers(t)
	for node, was := range before {
		if now := after[node]; now.pod != was.pod || now.restarts != was.restarts {
			t.Errorf("the speaker of %s was %s with %d restarts and is %s with %d; it ended by %q",
				node, was.pod, was.restarts, now.pod, now.restarts, now.last)
		}
	}
}

// speakerPeak is the most memory that the speaker of a node has had since its process began, in MiB.
func speakerPeak(t *testing.T, node string) int {
	t.Helper()
	out, err := cluster.Node(node).Exec(t.Context(), "sh", "-c", "cat /proc/$(pgrep -o -x speaker)/status")
	if err != nil {
		t.Errorf("the speaker of %s: %v", node, err)
		return 0
	}
	for line := range strings.Lines(string(out)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.Fields(kib)[0])
			return n >> 10
		}
	}
	t.Errorf("the speaker of %s tells no VmHWM:\n%s", node, out)
	return 0
}

// bearable fails the test if the speaker of a node came near its limit of memory, and returns its peak in
// MiB.
func bearable(t *testing.T, node string) int {
	t.Helper()
	peak := speakerPeak(t, node)
	if peak > speakerLimit*9/10 {
		t.Errorf("the speaker of %s had %d MiB; its limit is %d", node, peak, speakerLimit)
	}
	return peak
}

// conflicts lists, as JSON, what all speakers say is wrong with any of these addresses.
func conflicts(t *testing.T, addresses ...netip.Addr) []string {
	t.Helper()
	out := show(t, "get speakers", `{range .items[*].status.layer2.conflicts[*]}{@}{"\n"}{end}`)
	var found []string
	for line := range strings.Lines(out) {
		for _, addr := range addresses {
			if strings.Contains(line, `"address":"`+addr.String()+`"`) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return found
}

// announcers names the nodes whose Speaker objects say that they announce an address by layer 2.
func announcers(t *testing.T, addr netip.Addr) []string {
	t.Helper()
	var nodes []string
	for _, node := range cluster.NodeNames() {
		all := get(t, "get speaker "+node, ".status.layer2.announcements[*].address")
		if slices.Contains(strings.Fields(all), addr.String()) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// checksTake is how long something lasts that the checks by others are to see, which come every ten seconds
// or a quarter later: one of them, and two in the full suite.
func checksTake() time.Duration {
	if full() {
		return 25 * time.Second
	}
	return 13 * time.Second
}

// defaultOf reads the default of a setting that is a time, by the name of its variable, where users do.
func defaultOf(t *testing.T, variable string) time.Duration {
	t.Helper()
	for line := range strings.Lines(string(must(t)(os.ReadFile(root + "/docs/settings.md")))) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.Trim(cells[2], " `") == variable {
			value, err := time.ParseDuration(strings.Trim(cells[3], " `"))
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no setting %s in docs/settings.md", variable)
	return 0
}

// withSettings runs the speakers with further settings, by the environment, until the test ends.
func withSettings(t *testing.T, settings ...string) {
	t.Helper()
	set := func(changes []string) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		if _, err := cluster.API().Kubectl(ctx, append([]string{
			"set", "env", "-n", system, product.Speaker,
		}, changes...)...); err != nil {
			return err
		}
		_, err := cluster.API().Kubectl(ctx, "rollout", "status", "-n", system,
			product.Speaker, "--timeout=90s")
		return err
	}
	var undo []string
	for _, s := range settings {
		name, _, _ := strings.Cut(s, "=")
		undo = append(undo, name+"-")
	}
	t.Cleanup(func() {
		if err := set(undo); err != nil {
			t.Error("clean up:", err)
		}
	})
	if err := set(settings); err != nil {
		t.Fatal(err)
	}
	whole(t)
}

// restartSpeaker deletes the speaker's pod of a node and waits until the next one works.
func restartSpeaker(t *testing.T, node string) time.Duration {
	t.Helper()
	before := speakers(t)[node].pod
	start := time.Now()
	kubectl(t, "delete", "pod", "-n", system, before, "--wait=false")
	return eventually(t, 90*time.Second, "the next speaker of "+node+" is ready", func() (bool, string) {
		now := speakers(t)[node]
		return now.pod != before && now.ready, fmt.Sprintf("%+v after %s", now, time.Since(start))
	})
}

// hostMAC is the link-layer address of an interface of a host.
func hostMAC(t *testing.T, host, link string) string {
	t.Helper()
	return strings.TrimSpace(string(must(t)(cluster.Host(host).Exec(t.Context(), "cat", "/sys/class/net/"+
		link+"/address"))))
}

// anyMAC matches a link-layer address in what arping and ndisc6 print.
var anyMAC = regexp.MustCompile(`\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b`)

// answerers asks on a link of a host who has an address, so many times, and returns the link-layer addresses
// of all who answer, sorted, each once. Asked once, it does not wait for further ones.
func answerers(t *testing.T, host, link string, addr netip.Addr, times int) []string {
	t.Helper()
	command := []string{
		"arping", "-c", strconv.Itoa(times), "-w", strconv.Itoa(times), "-I", link, addr.String(),
	}
	switch {
	case addr.Is6() && times == 1:
		command = []string{"ndisc6", "-1", "-r", "1", "-w", "1000", addr.String(), link}
	case addr.Is6():
		command = []string{"ndisc6", "-m", "-r", strconv.Itoa(times), "-w", "500", addr.String(), link}
	}
	// Both fail when nobody answers; that is an answer too.
	out, _ := cluster.Host(host).Exec(t.Context(), command...)
	var found []string
	for _, m := range anyMAC.FindAllString(string(out), -1) {
		found = append(found, strings.ToLower(m))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// claimsSince returns the claims since then, and fails the test if there are none: a judge who saw nothing
// must not say that all was well.
func (e *eyes) claimsSince(t *testing.T, since time.Time) []watch.Claim {
	t.Helper()
	claims := e.capture.Claims(since)
	if len(claims) == 0 {
		t.Errorf("nothing was claimed of %v since %s", e.addresses, since.Format(time.TimeOnly))
	}
	return claims
}

// aDualStack is a Service with a pod on each node and an address of each family of the lab. Traffic policy
// Local: what the client loses is Berth's alone.
func aDualStack(t *testing.T, name, addresses string) []netip.Addr {
	t.Helper()
	apply(t, web(name, cluster.NodeNames()...))
	apply(t, pool(name, addresses))
	kubectl(t, "rollout", "status", "deployment/"+name, "--timeout=60s")
	apply(t, echo(name, name, "externalTrafficPolicy: Local"))
	return addressesOf(t, name)
}

// onService watches addresses of the service LAN.
func onService(t *testing.T, addresses []netip.Addr) *eyes {
	t.Helper()
	return watchedBy(t, addresses, lab.HostStranger, lab.ServiceLink, lab.OnServiceLAN(lab.StrangerAddresses))
}
