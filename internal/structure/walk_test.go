package structure

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// walk begins the heading of the section of DESIGN.md that follows an address from a
// Service to a frame, and the like.
const walk = "## 3. "

// gone are names that the walk has and the sources have not. It only shrinks: whoever
// writes that step anew takes its names out.
var gone = []string{}

// TestTheWalkNamesWhatExists: a reader of DESIGN.md finds each function that the walk
// names.
func TestTheWalkNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "DESIGN.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := newDeclared()
	for _, file := range sources(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		known.add(t, string(source))
	}
	names := walkNames(string(page))
	if len(names) < 20 {
		t.Fatalf("only %d names found: does this test still see the walk?", len(names))
	}
	for _, name := range names {
		if !known.has(name) && !slices.Contains(gone, name) {
			t.Errorf("DESIGN.md names %s, which is nowhere declared", name)
		}
	}
	for _, name := range gone {
		if !slices.Contains(names, name) || known.has(name) {
			t.Errorf("%s is no exception any more: take it out of the list", name)
		}
	}
}

var codeWord = regexp.MustCompile("`([A-Za-z][A-Za-z0-9]*(?:\\.[A-Za-z][A-Za-z0-9]*)*)`")

// walkNames returns the names of code in the walk, sorted: words in backticks that are
// identifiers, perhaps with what they belong to.
func walkNames(page string) []string {
	var out []string
	in := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "## ") {
			in = strings.HasPrefix(line, walk)
		}
		if !in {
			continue
		}
		for _, m := range codeWord.FindAllStringSubmatch(line, -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// declared is what sources declare: single names, and names with the package, type or
// struct that they belong to.
type declared struct{ single, qualified map[string]bool }

func newDeclared() declared { return declared{map[string]bool{}, map[string]bool{}} }

// has reports whether something is declared: the last one or two parts of its name
// count.
func (d declared) has(name string) bool {
	parts := strings.Split(name, ".")
	last := parts[len(parts)-1]
	if len(parts) == 1 {
		return d.single[last]
	}
	return d.qualified[parts[len(parts)-2]+"."+last]
}

// add takes in the declarations of a source.
func (d declared) add(t *testing.T, source string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	of := func(owner, name string) { d.single[name], d.qualified[owner+"."+name] = true, true }
	d.single[file.Name.Name] = true
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			owner := file.Name.Name
			if decl.Recv != nil {
				owner = typeName(decl.Recv.List[0].Type)
			}
			of(owner, decl.Name.Name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						of(file.Name.Name, name.Name)
					}
				case *ast.TypeSpec:
					of(file.Name.Name, spec.Name.Name)
					for _, name := range members(spec.Type) {
						of(spec.Name.Name, name)
					}
				}
			}
		}
	}
}

// members returns the names of the fields of a struct, or the methods of an interface.
func members(of ast.Expr) []string {
	var list *ast.FieldList
	switch of := of.(type) {
	case *ast.StructType:
		list = of.Fields
	case *ast.InterfaceType:
		list = of.Methods
	default:
		return nil
	}
	var out []string
	for _, field := range list.List {
		for _, name := range field.Names {
			out = append(out, name.Name)
		}
	}
	return out
}

// typeName returns the name of a type without its package, pointer and parameters; ""
// when it has none.
func typeName(of ast.Expr) string {
	switch of := of.(type) {
	case *ast.Ident:
		return of.Name
	case *ast.StarExpr:
		return typeName(of.X)
	case *ast.SelectorExpr:
		return of.Sel.Name
	case *ast.IndexExpr:
		return typeName(of.X)
	case *ast.IndexListExpr:
		return typeName(of.X)
	}
	return ""
}

func TestDeclaredNames(t *testing.T) {
	known := newDeclared()
	known.add(t, `package shop
type Basket[T any] struct{ items []T }
func (b *Basket[T]) Add(x T) {}
type payer interface{ Pay() error }
func Open() {}
const Max = 3
`)
	for name, want := range map[string]bool{
		"Basket":         true,
		"Basket.Add":     true,
		"Basket.items":   true,
		"Add":            true,
		"shop.Open":      true,
		"shop.Max":       true,
		"payer.Pay":      true,
		"mall.shop.Open": true,
		"shop":           true,
		"shop.Add":       false,
		"Basket.Open":    false,
		"Close":          false,
		"shop.Close":     false,
	} {
		if got := known.has(name); got != want {
			t.Errorf("%s is declared: %t, want %t", name, got, want)
		}
	}
	page := "## 2. Before\n`not`\n" + walk + "Walk\n`Basket.Add` calls `shop.Open`, " +
		"not `two words` or `berth.io/x`.\n### More\n`Add`\n## 4. After\n`nor`\n"
	if got := walkNames(page); !slices.Equal(got, []string{"Add", "Basket.Add", "shop.Open"}) {
		t.Errorf("names %q", got)
	}
}
