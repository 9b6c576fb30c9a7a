package lab

import (
	"reflect"
	"strings"
	"testing"
)

// TestHandlesSayWhatThereIs: a handle for what is not there is no error; the first thing done with it is, and
// lists what there is.
func TestHandlesSayWhatThereIs(t *testing.T) {
	options, err := Options{Nodes: 2}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{options: options, dir: t.TempDir()}
	_, commandErr := l.Host("nowhere").Command(t.Context(), "true")
	_, vtyshErr := l.Router(HostClient).Vtysh(t.Context(), "show version")
	for _, test := range []struct {
		story string
		err   error
		says  string
	}{
		{"no host", commandErr, "the hosts are sw, cp, router, client, ext, router2, stranger, node1, node2"},
		{"no node", l.Node("node3").Cut(t.Context()), "the nodes are node1, node2"},
		{"a host that is no node",
			l.Node(HostClient).LeaveVLAN(t.Context(), ManagementLAN), "the nodes are node1, node2"},
		{"a node that is parted from none",
			l.Network().Part(t.Context(), "node1", "node3"), `no node "node3"`},
		{"a host that is no router", vtyshErr, "the routers are router and router2"},
		{"a router that was not started", l.Router(HostRouter2).Crash(t.Context()), "was never started"},
		{"no component", l.Component("node1").Start(t.Context()),
			"the components are etcd, apiserver, controller-manager, scheduler"},
		{"a node that is down", l.Node("node1").Crash(t.Context()), "lab start NODE"},
	} {
		t.Run(test.story, func(t *testing.T) {
			if test.err == nil || !strings.Contains(test.err.Error(), test.says) {
				t.Errorf("got %v, want %q", test.err, test.says)
			}
		})
	}
}

// TestHandlesAreSmall: whoever looks for what can be done to something finds it in a list that fits on a
// screen.
func TestHandlesAreSmall(t *testing.T) {
	const most = 25 // of Node, a host's among them
	for _, handle := range []any{&Lab{}, &Host{}, &Node{}, &Router{}, &Component{}, &API{}, &Network{}} {
		if kind := reflect.TypeOf(handle); kind.NumMethod() > most {
			t.Errorf("%s has %d methods", kind, kind.NumMethod())
		}
	}
}
