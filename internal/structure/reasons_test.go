package structure

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// word is a constant of api/v1beta1 that users read: a reason, a cause or the type of
// a condition.
type word struct {
	name, value string
	documented  bool // its declaration has a comment that begins with the name
}

// TestWords: every reason, cause and condition type is a constant of api/v1beta1 with
// a comment, is used, and is explained in docs/. Code has no copy of one as a literal.
func TestWords(t *testing.T) {
	words := wordsOf(t)
	if len(words) < 80 {
		t.Fatalf("only %d words found: does this test still see them?", len(words))
	}
	docs := pages(t)
	used := map[string]bool{}
	values := map[string]string{}
	for _, w := range words {
		if other, twice := values[w.value]; twice && kindOf(other) == kindOf(w.name) {
			t.Errorf("%s and %s are both %q", other, w.name, w.value)
		}
		values[w.value] = w.name
	}
	for _, file := range sources(t) {
		name, _ := filepath.Rel(root, file)
		if strings.HasPrefix(name, filepath.Join("api", "")) {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := wordsIn(t, name, string(source), values)
		for _, constant := range found.used {
			used[constant] = true
		}
		for _, problem := range found.problems {
			t.Error(problem)
		}
	}
	for _, w := range words {
		if !w.documented {
			t.Errorf("%s has no comment that begins with its name and says what is the case", w.name)
		}
		if !used[w.name] {
			t.Errorf("%s is used nowhere: remove it", w.name)
		}
		if !strings.Contains(docs, "`"+w.value+"`") {
			t.Errorf("no page of docs/ explains `%s` (%s)", w.value, w.name)
		}
	}
}

// kindOf is what a constant is: Reason, Cause or Condition.
func kindOf(name string) string {
	for _, kind := range []string{"Reason", "Cause", "Condition"} {
		if strings.HasPrefix(name, kind) {
			return kind
		}
	}
	return ""
}

// wordsOf reads the constants of api/v1beta1.
func wordsOf(t *testing.T) []word {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "api", "v1beta1", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	var out []word
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range tree.Decls {
			if block, ok := declaration.(*ast.GenDecl); ok && block.Tok == token.CONST {
				out = append(out, wordsOfBlock(block)...)
			}
		}
	}
	return out
}

func wordsOfBlock(block *ast.GenDecl) []word {
	var out []word
	for _, spec := range block.Specs {
		c, ok := spec.(*ast.ValueSpec)
		if !ok || len(c.Values) != 1 || kindOf(c.Names[0].Name) == "" {
			continue
		}
		value, ok := constant(c.Values[0])
		if !ok {
			continue
		}
		comment := c.Doc.Text()
		if block.Lparen == token.NoPos {
			comment = block.Doc.Text()
		}
		out = append(out, word{
			name:       c.Names[0].Name,
			value:      value,
			documented: strings.HasPrefix(comment, c.Names[0].Name),
		})
	}
	return out
}

// pages returns all pages of docs/.
func pages(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	var out strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	return out.String()
}

// found is what one file does with words.
type found struct {
	used     []string // constants of api/v1beta1
	problems []string
}

// wordsIn reads which words a file uses. values are the names of all constants by
// their values.
func wordsIn(t *testing.T, name, source string, values map[string]string) found {
	t.Helper()
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out found
	tell := func(at token.Pos, format string, args ...any) {
		problem := fmt.Sprintf("%s: ", files.Position(at)) + fmt.Sprintf(format, args...)
		out.problems = append(out.problems, problem)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "v1beta1" {
				out.used = append(out.used, n.Sel.Name)
			}
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			// it passes on what it gets
			recorder := strings.HasPrefix(name, filepath.Join("internal", "kube"))
			if ok && f.Sel.Name == "Eventf" && !recorder && (len(n.Args) < 6 || !isWord(n.Args[3])) {
				tell(n.Pos(), "the reason of an Event is neither string(…) of a Reason nor a condition's")
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				x, ok := left.(*ast.Ident)
				if ok && strings.EqualFold(x.Name, "reason") && len(n.Rhs) == len(n.Lhs) {
					if text, is := constant(n.Rhs[i]); is && text != "" {
						tell(n.Pos(), "the reason %q is a literal: make it a constant of api/v1beta1", text)
					}
				}
			}
		case *ast.BasicLit:
			if text, is := constant(n); is && kindOf(values[text]) == "Reason" {
				tell(n.Pos(), "%q is %s: write v1beta1.%[2]s", text, values[text])
			}
		}
		return true
	})
	return out
}

// isWord reports whether an expression is string(x), or a field named Reason.
func isWord(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.CallExpr:
		f, ok := x.Fun.(*ast.Ident)
		if !ok || f.Name != "string" || len(x.Args) != 1 {
			return false
		}
		_, literal := constant(x.Args[0])
		return !literal
	case *ast.SelectorExpr:
		return x.Sel.Name == "Reason"
	}
	return false
}

// TestWordsAreRead gives the reader made-up code, to see what it finds.
func TestWordsAreRead(t *testing.T) {
	values := map[string]string{"Accepted": "ReasonAccepted", "First": "CauseFirst"}
	for _, test := range []struct{ story, statement, want string }{
		{"a constant", `x := v1beta1.ReasonAccepted`, "uses ReasonAccepted"},
		{"a copy of a constant", `x := "Accepted"`, `write v1beta1.ReasonAccepted`},
		{"a word that is no reason", `x := "First"`, ""},
		{"an Event", `r.Eventf(o, nil, kind, string(reason), "Do", "%s", note)`, ""},
		{"an Event of a condition", `r.Eventf(o, nil, kind, is.Reason, "Do", "%s", note)`, ""},
		{"an Event with a literal",
			`r.Eventf(o, nil, kind, "Made", "Do", "%s", note)`, "the reason of an Event"},
		{"a literal in disguise",
			`r.Eventf(o, nil, kind, string("Made"), "Do", "%s", note)`, "the reason of an Event"},
		{"an Event with anything",
			`r.Eventf(o, nil, kind, reason, "Do", "%s", note)`, "the reason of an Event"},
		{"a literal on its way to an Event", `kind, reason := 1, "Made"`, `the reason "Made" is a literal`},
		{"no reason", `reason := ""`, ""},
	} {
		got := wordsIn(t, "x.go", "package x\nfunc f() { "+test.statement+" }", values)
		text := strings.Join(got.problems, "\n")
		if len(got.used) > 0 {
			text += "uses " + strings.Join(got.used, " ")
		}
		if test.want == "" && text != "" || !strings.Contains(text, test.want) {
			t.Errorf("%s: got %q, want %q", test.story, text, test.want)
		}
	}
}
