package view

import "testing"

func TestFirstNamed(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"node1"}, "node1"},
		{[]string{"node1", "node2", "node3"}, "node1, node2, node3"},
		{[]string{"node1", "node2", "node3", "node4", "node5"}, "node1, node2, node3 and 2 more"},
	} {
		if got := firstNamed(test.names); got != test.want {
			t.Errorf("firstNamed(%q) = %q, want %q", test.names, got, test.want)
		}
	}
}
