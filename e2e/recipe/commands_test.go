package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	page := `# Page

Words:

    kubectl get nodes    # all of them
    kubectl -n x get pods -o jsonpath='{.a} # b'
    NAME   AGE

1. An item
    kubectl is no command here, but words of the item

## Next

This changes something *(not executed)*:

    kubectl label node NODE a=b

And this is
*(executed by ` + "`TestX`" + `)*:

    helm install a b
    kubectl get secrets -o yaml > file
`
	var got []string
	for _, c := range Commands(page) {
		got = append(got, fmt.Sprintf("%d %s | %s | %t %t", c.Line, c.Section, c.Text, c.Marked, c.Reads()))
	}
	want := []string{
		"5 Page | kubectl get nodes | false true",
		"6 Page | kubectl -n x get pods -o jsonpath='{.a} # b' | false true",
		"16 Next | kubectl label node NODE a=b | true false",
		"21 Next | helm install a b | true false",
		"22 Next | kubectl get secrets -o yaml > file | true false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCommandsAreTriedOrMarked: of every command in the documentation somebody knows whether it was executed.
// Those that read the suite runs (Tried); before the others the page says which test runs them, or that none
// does. Pages whose blocks have fences have tests of their own.
func TestCommandsAreTriedOrMarked(t *testing.T) {
	const root = "../.."
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, root+"/README.md")
	found := 0
	for _, path := range pages {
		name := strings.TrimPrefix(path, root+"/")
		if slices.Contains(Elsewhere, name) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range Commands(string(text)) {
			found++
			if !c.Marked && (!c.Reads() || !slices.Contains(Tried, name)) {
				t.Errorf("%s:%d: nobody runs %q, and the paragraph before its block does not say so",
					name, c.Line, c.Text)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d commands found: does this test still see them?", found)
	}
	for _, name := range append(slices.Clone(Tried), Elsewhere...) {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}
