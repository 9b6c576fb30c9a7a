package recipe

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	page := strings.ReplaceAll(`# Page

## First

~~~sh
kubectl get nodes
## no heading
~~~

Then:

~~~yaml
kind: Pool
~~~

## Words only

~~~
for reading
~~~

## Second

~~~sh
true
~~~
`, "~~~", "```")
	got, err := Parse(page)
	want := []Recipe{
		{"First", []Block{{Shell, "kubectl get nodes\n## no heading\n", 5}, {YAML, "kind: Pool\n", 12}}},
		{"Second", []Block{{Shell, "true\n", 24}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for story, page := range map[string]string{
		"a fence is not closed":           "## A\n```sh\ntrue\n",
		"a block has no heading":          "```sh\ntrue\n```\n",
		"two sections have the same name": "## A\n## A\n",
	} {
		if got, err := Parse(page); err == nil {
			t.Errorf("%s: no error, %+v", story, got)
		}
	}
}
