package suite

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestRefusedByTheAPIServer: what one object can decide alone is refused when
// it is applied, in words that say what is wrong.
func TestRefusedByTheAPIServer(t *testing.T) {
	for _, test := range []struct{ addresses, says string }{
		{`10.77.0.0/33`, "must be a CIDR such as 192.0.2.0/24"},
		{`10.77.0.300-10.77.0.310`, "a range must be two addresses joined by a dash"},
		{`10.77.0.1`, "must be a CIDR such as 192.0.2.0/24"},
		{`10.77.0.1-10.77.0.9-10.77.0.11`, "a range must be two addresses joined by a dash"},
		{`10.77.0.5/24`, "bits set behind its prefix length"},
		{`10.77.0.9-10.77.0.1`, "the range is inverted"},
		{`10.77.1.0-10.77.0.255`, "the range is inverted"},
		{`128.0.0.0-127.255.255.255`, "the range is inverted"},
		{`fd77::10-fd77::9`, "the range is inverted"},
		{`fd77::1:0-fd77::ffff`, "the range is inverted"},
		{`ffff::-0:1::`, "the range is inverted"},
		{`10.77.0.1-fd77::1`, "must not mix IPv4 and IPv6"},
		{`10.77.0.0/24, 10.77.0.0/24`, "Duplicate value"},
		{``, "should have at least 1 items"},
	} {
		var quoted []string
		for _, a := range strings.Split(test.addresses, ", ") {
			if a != "" {
				quoted = append(quoted, fmt.Sprintf("%q", a))
			}
		}
		if got := refused(t, pool("bad", strings.Join(quoted, ", "))); !strings.Contains(got, test.says) {
			t.Errorf("%s: refused with\n%s\nwant %q in it", test.addresses, got, test.says)
		}
		// The advertisement beside it is not at fault.
		kubectl(t, "delete", "l2advertisement", "bad", "--ignore-not-found")
	}
	for _, test := range []struct{ kind, spec, says string }{
		{"IPAddressPool", "addresses: [10.77.0.0/24], typo: true", `unknown field "spec.typo"`},
		{"IPAddressPool",
			"addresses: [10.77.0.0/24], serviceAllocation: {namespaces: [a, a]}", "Duplicate value"},
		{"IPAddressPool",
			"addresses: [10.77.0.0/24], serviceAllocation: {namespaces: [Shop]}", "should match"},
		{"IPAddressPool",
			"addresses: [10.77.0.0/24], serviceAllocation: {priority: -1}", "greater than or equal to 0"},
		{"BGPPeer", "myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, " +
			"passwordSecret: {namespace: berth-system}", "name the Secret"},
		{"BGPPeer", "myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, " +
			"password: x, passwordSecret: {name: x}", "not both"},
		{"L2Advertisement", "ipAddressPools: [a, a]", "Duplicate value"},
		{"L2Advertisement", "interfaces: [a-name-that-is-too-long]", "may not be more than 15"},
		{"L2Advertisement",
			"preferredNodeSelectors: [{weight: 101, preference: {}}]", "less than or equal to 100"},
		{"L2Advertisement",
			"nodeSelectors: [{matchLabels: {a: b}}, {matchLabels: {a: b}}]", "the same selector twice"},
	} {
		got := refused(t, fmt.Sprintf(
			"apiVersion: berth.io/v1beta1\nkind: %s\nmetadata: {name: bad}\nspec: {%s}\n",
			test.kind, test.spec,
		))
		if !strings.Contains(got, test.says) {
			t.Errorf("%s: refused with\n%s\nwant %q in it", test.spec, got, test.says)
		}
	}
	// What Go clients of MetalLB's types write where there is no Secret.
	for _, empty := range []string{
		"passwordSecret: {}", "password: x, passwordSecret: {}", `passwordSecret: {name: ""}`,
	} {
		manifest := "apiVersion: berth.io/v1beta1\nkind: BGPPeer\nmetadata: {name: empty}\n" +
			"spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, " + empty + "}\n"
		_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "apply",
			"--dry-run=server", "-f", "-")
		if err != nil {
			t.Errorf("%s is refused: %v", empty, err)
		}
	}
}

// TestOneBadObjectStopsNoOther: what needs two objects is told in a
// condition, and everything else goes on working.
func TestOneBadObjectStopsNoOther(t *testing.T) {
	apply(t, web("good", "node1"))
	f := first()
	apply(t, pool("good", f.span(120, 121)))
	limit := 5 * time.Second
	ready := func(object, want string) {
		t.Helper()
		eventually(t, limit, object+": "+want, func() (bool, string) {
			got := condition(t, object, "Ready")
			return strings.HasPrefix(got, want), got
		})
	}
	ready("ipaddresspool good", "Accepted: In force as written.")
	// Creation times are whole seconds: the pools must differ in age.
	time.Sleep(1100 * time.Millisecond)
	apply(t, pool("overlap", f.span(121, 122)))
	apply(t, pool("loop", "127.0.0.1/32"))
	apply(t, "apiVersion: berth.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: nowhere}\n"+
		"spec: {ipAddressPools: [nowhere]}\n")
	apply(t, "apiVersion: berth.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: unlike}\n"+
		"spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: Like}]}]}\n")
	ready(
		"l2advertisement unlike",
		`Invalid: L2Advertisement: spec.nodeSelectors[0]: "Like" is not a valid label selector operator.`,
	)
	ready("ipaddresspool overlap", "Overlapping: Addresses belong to older pools, which keep them: "+
		f.prefix(121).String()+" to pool good. The rest of this pool is in use.")
	ready(
		"ipaddresspool loop",
		`Invalid: IPAddressPool: spec.addresses[0]: "127.0.0.1/32" touches 127.0.0.0/8, which is loopback.`,
	)
	ready("l2advertisement nowhere", "PoolNotFound: spec.ipAddressPools names what is not there or "+
		"not valid: nowhere.")
	ready("ipaddresspool good", "Accepted")

	for i, want := range []string{f.at(120), f.at(121), f.at(122)} {
		name := fmt.Sprintf("good%d", i)
		apply(t, service(name, "good", ""))
		if got := hasAddress(t, name); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
		served(t, want)
	}
	kubectl(t, "delete", "ipaddresspool", "good")
	limit = 40 * time.Second // it might be created again for half a minute
	ready("ipaddresspool overlap", "Accepted")
}

// TestSpeakerWritesOnlyItsOwnObject: the token of one node's speaker is no
// right to another node's Speaker object.
func TestSpeakerWritesOnlyItsOwnObject(t *testing.T) {
	manifest := "apiVersion: berth.io/v1beta1\nkind: Speaker\nmetadata: {name: foreign}\n"
	as := []string{"create", "--as=system:serviceaccount:berth-system:berth-speaker",
		"--as-user-extra=authentication.kubernetes.io/node-name=node1", "-f", "-"}
	_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), as...)
	if err == nil || !strings.Contains(err.Error(), "only the Speaker object of its own node") {
		t.Errorf("err = %v", err)
	}
	if err == nil {
		kubectl(t, "delete", "speaker", "foreign")
	}
}

// TestMetricsAreForReaders: metrics are served over HTTPS to those that may
// read them, and to nobody else.
func TestMetricsAreForReaders(t *testing.T) {
	reader := metricsReader(t)
	stranger := kubectl(t, "create", "token", "default")
	for _, addr := range cluster.Families().Of(lab.NodeAddresses(1)) {
		checkReaders(t, netip.AddrPortFrom(addr, metricsPort), stranger, reader)
	}
}

// checkReaders asks for the metrics of a speaker as everybody.
func checkReaders(t *testing.T, speaker netip.AddrPort, stranger, reader string) {
	t.Helper()
	for _, test := range []struct {
		who, token, status string
	}{
		{"nobody", "", "401"},
		{"a wrong token", "wrong", "401"},
		{"a stranger", stranger, "403"},
		{"a reader", reader, "200"},
	} {
		out, err := cluster.Client().Exec(t.Context(), "curl", "-gsk", "-m", "5", "-w", "\n%{http_code}",
			"-H", "Authorization: Bearer "+test.token, "https://"+speaker.String()+"/metrics")
		if err != nil || !strings.HasSuffix(string(out), "\n"+test.status) {
			t.Errorf("%s: %v, want status %s, got\n%.300s", test.who, err, test.status, out)
		}
		if test.status == "200" && !strings.Contains(string(out), "berth_speaker_members 3") {
			t.Errorf("metrics do not tell of three members:\n%.2000s", out)
		}
	}
}

// metricsReader makes somebody who may read metrics, until the test ends, and returns a token of theirs.
func metricsReader(t *testing.T) string {
	t.Helper()
	kubectl(t, "create", "serviceaccount", "reader")
	cleanup(t, "delete", "serviceaccount", "reader")
	kubectl(t, "create", "clusterrolebinding", "reader", "--clusterrole=berth-metrics-reader",
		"--serviceaccount=default:reader")
	cleanup(t, "delete", "clusterrolebinding", "reader")
	return kubectl(t, "create", "token", "reader")
}
