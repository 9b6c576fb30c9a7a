package render

import (
	"slices"
	"testing"
)

func TestDifferences(t *testing.T) {
	before, err := Objects([]byte("kind: A\nmetadata: {name: x}\n" +
		"spec: {count: 1, list: [a, b], gone: {y: z}}\n" +
		"---\nkind: B\nmetadata: {name: x, namespace: ns}\n---\n# nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := Objects([]byte("kind: A\nmetadata: {name: x}\nspec: {count: 2, list: [a], new: q}\n" +
		"---\nkind: C\nmetadata: {name: x}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"A x: spec.count: 2, was 1",
		"A x: spec.gone: removed",
		`A x: spec.list[1]: removed "b"`,
		`A x: spec.new: added "q"`,
		"B x in ns: removed",
		"C x: added",
	}
	if got := Differences(before, after); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := Differences(before, before); len(got) > 0 {
		t.Errorf("an installation differs from itself: %q", got)
	}
}
