package bundle

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// known returns a Redactor that knows some names.
func known() *Redactor {
	r := NewRedactor("berth-system", "default")
	r.Name("NODE", "node1")
	r.Name("NODE", "node1.example.com")
	r.Name("SERVICE", "web")
	r.Name("NAMESPACE", "default") // is kept
	r.Name("NAMESPACE", "shop-a")
	return r
}

// TestText: addresses and names in texts are replaced wherever they stand.
func TestText(t *testing.T) {
	for _, test := range []struct{ story, text, want string }{
		{"an address", "at 10.77.0.200.", "at IPV4-1."},
		{"twice the same", "10.77.0.200 and 10.77.0.201, 10.77.0.200", "IPV4-1 and IPV4-2, IPV4-1"},
		{"with a port", "10.77.0.11:7947 is", "IPV4-1:7947 is"},
		{"with a prefix length", "10.77.0.0/24", "IPV4-1/24"},
		{"a range", "10.77.0.1-10.77.0.2", "IPV4-1-IPV4-2"},
		{"IPv6", "fd77::f0 on", "IPV6-1 on"},
		{"IPv6 with a port", "[fd77::f0]:7947", "[IPV6-1]:7947"},
		{"IPv6 written otherwise", "fd77::f0 FD77:0:0::00f0", "IPV6-1 IPV6-1"},
		{"IPv6 at the end of a clause", "to fd77::f0: refused", "to IPV6-1: refused"},
		{"IPv6 that ends in colons", "of fd77::/64", "of IPV6-1/64"},
		{"IPv4 in IPv6", "::ffff:10.77.0.1 10.77.0.1", "IPV4-1 IPV4-1"},
		{"with a zone", "fe80::1%eth0", "IPV6-1%eth0"},
		{"a hardware address", "02:00:00:00:00:AB, 02:00:00:00:00:ab", "MAC-1, MAC-1"},
		{"what is nobody's", "127.0.0.1:80 [::1] 0.0.0.0 ::", "127.0.0.1:80 [::1] 0.0.0.0 ::"},
		{"times, versions, communities",
			"12:00:00.123 v1.36.3 64512:100 64512:1:2", "12:00:00.123 v1.36.3 64512:100 64512:1:2"},
		{"a name", "node1 has it", "NODE-1 has it"},
		{"the longest name", "node1.example.com", "NODE-2"},
		{"the beginning of a longer name", "web-7d9f, shop-a/web", "SERVICE-1-7d9f, NAMESPACE-1/SERVICE-1"},
		{"the end of a longer name", "kube-vip-node1", "kube-vip-NODE-1"},
		{"part of a word", "webs cobweb node12", "webs cobweb node12"},
		{"a part of a name", "shop", "shop"},
		{"a name that is kept", "default/web in berth-system", "default/SERVICE-1 in berth-system"},
		{"between quotes", `"web"`, `"SERVICE-1"`},
		{"nothing", "", ""},
	} {
		if got := known().Text(test.text); got != test.want {
			t.Errorf("%s: got %q, want %q", test.story, got, test.want)
		}
	}
}

// TestJSONLines: keys of log lines stay, in their order.
func TestJSONLines(t *testing.T) {
	for _, test := range []struct{ story, text, want string }{
		{"an object",
			`2026-11-27T12:00:00Z {"web":"web","n":1,"a":["10.77.0.1"]}` + "\n",
			`2026-11-27T12:00:00Z {"web":"SERVICE-1","n":1,"a":["IPV4-1"]}` + "\n"},
		{"signs that are escaped", `{"m":"to\nweb \"web\" <\u0077eb>"}`,
			`{"m":"to\nSERVICE-1 \"SERVICE-1\" <SERVICE-1>"}`},
		{"not an object", "panic: web {\n", "panic: SERVICE-1 {\n"},
		{"several lines", "web\n{\"a\":\"web\"}\n", "SERVICE-1\n{\"a\":\"SERVICE-1\"}\n"},
	} {
		if got := string(known().JSONLines([]byte(test.text))); got != test.want {
			t.Errorf("%s: got %s, want %s", test.story, got, test.want)
		}
	}
}

// TestMetricsKeepTheirNames: only what stands in quotes is replaced.
func TestMetricsKeepTheirNames(t *testing.T) {
	got := string(known().Quoted([]byte(`web{node="node1",web="10.77.0.1"} 1`)))
	if want := `web{node="NODE-1",web="IPV4-1"} 1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestObject: labels that users choose are replaced, in selectors alike.
func TestObject(t *testing.T) {
	object := map[string]any{
		"kind": "Node",
		"metadata": map[string]any{
			"name": "node1",
			"labels": map[string]any{
				"acme.com/rack":          "a",
				"kubernetes.io/hostname": "node1",
				"kubernetes.io/os":       "linux",
			},
		},
		"spec": map[string]any{
			"podCIDRs":     []any{"10.244.1.0/24"},
			"matchLabels":  map[string]any{"acme.com/rack": "a", "empty": ""},
			"unlike":       map[string]any{"web": "web"},
			"nodeSelector": map[string]any{"web": map[string]any{"a": "web"}},
			"matchExpressions": []any{
				map[string]any{"key": "acme.com/rack", "operator": "In", "values": []any{"a", "b"}},
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"node1"}},
			},
		},
		"status": map[string]any{"machineID": "123", "count": int64(3)},
	}
	r := known()
	r.labels(map[string]any{"acme.com/rack": "a"}) // so that the numbers do not depend on the order
	r.label("b")
	r.token(kindLabel, "empty")
	want := map[string]any{
		"kind": "Node",
		"metadata": map[string]any{
			"name": "NODE-1",
			"labels": map[string]any{
				"LABEL-1":                "LABEL-2",
				"kubernetes.io/hostname": "NODE-1",
				"kubernetes.io/os":       "linux",
			},
		},
		"spec": map[string]any{
			"podCIDRs":     []any{"IPV4-1/24"},
			"matchLabels":  map[string]any{"LABEL-1": "LABEL-2", "LABEL-4": ""},
			"unlike":       map[string]any{"web": "SERVICE-1"},
			"nodeSelector": map[string]any{"web": map[string]any{"a": "SERVICE-1"}},
			"matchExpressions": []any{
				map[string]any{"key": "LABEL-1", "operator": "In", "values": []any{"LABEL-2", "LABEL-3"}},
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"NODE-1"}},
			},
		},
		"status": map[string]any{"machineID": "ID-1", "count": int64(3)},
	}
	if got := r.Object(object); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// TestNothingIsLeft: whatever stands around them, no known name and no address is left, and
// what is replaced once stays as it is.
func TestNothingIsLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z][a-z0-9]{2,8}(-[a-z0-9]{2,5})?`).Draw(t, "name")
		address := fmt.Sprintf("%d.%d.%d.%d", rapid.IntRange(1, 126).Draw(t, "a"), rapid.IntRange(0,
			255).Draw(t, "b"),
			rapid.IntRange(0, 255).Draw(t, "c"), rapid.IntRange(0, 255).Draw(t, "d"))
		around := rapid.SampledFrom([]string{" ", "/", `"`, ", ", "=", "(", "\n", "-", ":", "[", "."})
		r := NewRedactor()
		r.Name("NAME", name)
		text := ""
		for range rapid.IntRange(1, 6).Draw(t, "parts") {
			text += around.Draw(t, "before") + rapid.SampledFrom([]string{name, address + " "}).Draw(t,
				"part")
		}
		if strings.Contains(text, "."+address) {
			return // five numbers are no address
		}
		got := r.Text(text)
		if strings.Contains(got, name) || strings.Contains(got, address) {
			t.Fatalf("%q becomes %q", text, got)
		}
		tokens := maps.Clone(r.tokens)
		if again := r.Text(got); again != got || !maps.Equal(tokens, r.tokens) {
			t.Fatalf("%q becomes %q in turn", got, again)
		}
	})
}

// FuzzText: no text makes it panic, and it takes the text once.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "node1:::", "10.77.0.1.", "::::::", "é-web", "fd77::1.2.3.4", "-",
		"a-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := known()
		first := r.Text(text)
		if second := r.Text(text); second != first {
			t.Errorf("%q becomes %q, then %q", text, first, second)
		}
		r.JSONLines([]byte(text))
		r.Quoted([]byte(text))
	})
}
