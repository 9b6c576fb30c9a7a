package peering

import (
	"slices"
	"testing"
)

func TestSince(t *testing.T) {
	before := Downs{"BFD with 10.77.0.11": {Up: true, Count: 2}, "BGP with 10.77.0.11": {Up: true}}
	for _, test := range []struct {
		story string
		now   Downs
		want  []string
	}{
		{"all went well",
			Downs{"BFD with 10.77.0.11": {Up: true, Count: 2}, "BGP with 10.77.0.11": {Up: true}}, nil},
		{"one is new", Downs{
			"BFD with 10.77.0.11": {Up: true, Count: 2},
			"BGP with 10.77.0.11": {Up: true},
			"BGP with fd77::11":   {},
		}, nil},
		{"one was down for a moment",
			Downs{"BFD with 10.77.0.11": {Up: true, Count: 5}, "BGP with 10.77.0.11": {Up: true}},
			[]string{"BFD with 10.77.0.11: went down 3 times"}},
		{"one is down", Downs{"BFD with 10.77.0.11": {Up: true, Count: 2}, "BGP with 10.77.0.11": {}},
			[]string{"BGP with 10.77.0.11: not up"}},
		{"all are away", Downs{},
			[]string{"BFD with 10.77.0.11: no longer there", "BGP with 10.77.0.11: no longer there"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := test.now.Since(before); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
