package main

import (
	"strings"
	"testing"
)

func TestBroken(t *testing.T) {
	overlap := []result{{Run: 3, Longest: 1200, Overlaps: []string{"10.77.0.1 a b 1200 ms"}}}
	changed := []result{{Run: 1, Changes: 2, FirstChange: 40}}
	for _, test := range []struct {
		story   string
		sc      scenario
		results []result
		want    string
	}{
		{"within the window", scenario{}, []result{{Longest: 1000}}, ""},
		{"longer than the window", scenario{}, overlap, "run 3: two at once for 1200 ms"},
		{"a change that has a cause", scenario{}, changed, ""},
		{"a change without one", scenario{still: true}, changed, "run 1: 2 changes of owner"},
	} {
		t.Run(test.story, func(t *testing.T) {
			err := broken(test.sc, test.results, 1000)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestScenariosAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, sc := range scenarios(1) {
		if names[sc.name] {
			t.Errorf("two are called %s", sc.name)
		}
		names[sc.name] = true
		if sc.title == "" || (sc.fault == nil || sc.restore == nil) != sc.chaos || sc.window == 0 ||
			kinds()[sc.set].count == 0 {
			t.Errorf("%s lacks something", sc.name)
		}
	}
}
