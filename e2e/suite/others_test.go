package suite

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// writes puts an ingress list into the status of a Service, as another load balancer does.
func writes(t *testing.T, name, ingress string) {
	t.Helper()
	kubectl(t, "patch", "service", name, "--subresource=status", "--type=merge", "-p",
		`{"status":{"loadBalancer":{"ingress":`+ingress+`}}}`)
}

// told waits until the condition of a Service begins with some words, and returns its message.
func told(t *testing.T, name, want string) string {
	t.Helper()
	var got string
	eventually(t, 10*time.Second, name+" is "+want, func() (bool, string) {
		got = condition(t, "service "+name, "berth.io/AddressAssigned")
		return strings.HasPrefix(got, want), got
	})
	return got
}

// TestStatusThatOthersWrote: addresses of nodes, as k3s's ServiceLB leaves them, give way to one of a pool.
// With a load balancer that writes over Berth's address Berth does not write in turn; the command that the
// condition gives hands the Service back.
func TestStatusThatOthersWrote(t *testing.T) {
	node := get(t, "get node node1", `.status.addresses[?(@.type=="InternalIP")].address`)
	node, _, _ = strings.Cut(node, " ")
	apply(t, web("others", "node1"))
	f := first()
	addr := f.at(125)
	apply(t, service("others", "others", "loadBalancerIP: "+addr))
	told(t, "others", "AddressNotInPool: ")
	writes(t, "others", fmt.Sprintf(`[{"ip":%q}]`, node))
	time.Sleep(time.Second)
	if got := address(t, "others"); got != node {
		t.Errorf("with no pool the status has %q, want what was there, %s", got, node)
	}
	apply(t, pool("others", f.span(124, 127)))
	told(t, "others", "Assigned: "+addr+" from pool others.")
	if got := hasAddress(t, "others"); got != addr {
		t.Errorf("it has %s", got)
	}
	served(t, addr)

	for _, theirs := range []string{fmt.Sprintf(`[{"ip":%q}]`, node), `[{"hostname":"lb.example.com"}]`} {
		writes(t, "others", theirs)
		message := told(t, "others", "StatusOverwritten: The Service keeps "+addr+" from pool others.")
		before := versions(t, "others")
		time.Sleep(2 * time.Second)
		if after := versions(t, "others"); after["others"] != before["others"] {
			t.Errorf("%s: it is written again", theirs)
		}
		commands := regexp.MustCompile("`(.*?)`").FindStringSubmatch(message)
		if commands == nil {
			t.Fatalf("no command in %s", message)
		}
		// As a person would: by a shell.
		words, err := exec.Command("sh", "-c", `kubectl() { printf '%s\n' "$@"; }; `+commands[1]).Output()
		if err != nil {
			t.Fatal(err)
		}
		kubectl(t, strings.Split(strings.TrimSpace(string(words)), "\n")...)
		told(t, "others", "Assigned: "+addr+" from pool others.")
		if got := hasAddress(t, "others"); got != addr {
			t.Errorf("%s: after the command it has %s", theirs, got)
		}
	}

	writes(t, "others", fmt.Sprintf(`[{"ip":%q,"ipMode":"Proxy"}]`, addr))
	eventually(t, 10*time.Second, "the mode is corrected", func() (bool, string) {
		got := get(t, "get service others", ".status.loadBalancer.ingress")
		return got == fmt.Sprintf(`[{"ip":%q,"ipMode":"VIP"}]`, addr), got
	})
}

// TestServiceLeavesWhileNobodyLeads: a Service changes its type while there is no controller. Nothing of
// Berth stays in its status.
func TestServiceLeavesWhileNobodyLeads(t *testing.T) {
	apply(t, pool("leaves", first().span(123, 123)))
	apply(t, service("leaves", "leaves", ""))
	hasAddress(t, "leaves")
	replicas := get(t, "get deployment -n "+system+" berth-controller", ".spec.replicas")
	kubectl(t, "scale", "-n", system, "deployment/berth-controller", "--replicas=0")
	cleanup(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	cleanup(t, "scale", "-n", system, "deployment/berth-controller", "--replicas="+replicas)
	eventually(t, time.Minute, "no controller runs", func() (bool, string) {
		got := get(t, "get pods -n "+system+" -l app.kubernetes.io/component=controller",
			".items[*].metadata.name")
		return got == "", got
	})
	kubectl(t, "patch", "service", "leaves", "--type=merge", "-p", `{"spec":{"type":"NodePort"}}`)
	kubectl(t, "scale", "-n", system, "deployment/berth-controller", "--replicas="+replicas)
	kubectl(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	eventually(t, time.Minute, "nothing of Berth is left", func() (bool, string) {
		got := get(t, "get service leaves", ".status")
		return got == `{"loadBalancer":{}}`, got
	})
	apply(t, service("stays", "leaves", ""))
	if got := hasAddress(t, "stays"); got != first().at(123) {
		t.Errorf("the next Service has %s", got)
	}
}
