package rules

import (
	"strings"
	"testing"
)

func TestObjectHasTheRules(t *testing.T) {
	for _, test := range []struct{ story, source, want, err string }{
		{
			"groups and comments",
			"# about\ngroups:\n# of one\n- name: one\n  rules:\n\n  - alert: A\n    expr: up == 0\n",
			"spec:\n  groups:\n  # of one\n  - name: one\n    rules:\n\n" +
				"    - alert: A\n      expr: up == 0\n",
			"",
		},
		{"nothing", "# about\n", "", "no line"},
		{"a field that there is not", "#\ngroups:\n- name: one\n  rulez: []\n", "", "rulez"},
	} {
		t.Run(test.story, func(t *testing.T) {
			got, err := Object([]byte(test.source))
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("the error is %v, want %q in it", err, test.err)
				}
			case err != nil:
				t.Error(err)
			case !strings.HasSuffix(string(got), test.want):
				t.Errorf("got %s", got)
			}
		})
	}
}
