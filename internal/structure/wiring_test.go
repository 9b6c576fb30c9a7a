package structure

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wired are the packages whose parts are wired by constructors alone: what a part needs
// it has from the beginning, and nobody has to know in which order to set it later.
var wired = []string{
	"controller", "internal/controller/...",
	"speaker", "internal/speaker/...", "internal/cluster/...",
}

// setLater are the assignments that are not so yet, as setLaterIn names them. It only
// shrinks: whoever gives a constructor what it needs takes a line out.
var setLater = []string{}

// TestWiringIsSetByConstructors finds fields that connect parts (callbacks, interfaces,
// and pointers to what has a constructor) and are assigned outside the constructor of
// their struct. It reads syntax only, so it sees what it can resolve within a package.
func TestWiringIsSetByConstructors(t *testing.T) {
	packages := listPackages(t)
	made := map[string]bool{}
	parsed := map[string][]*ast.File{}
	for _, p := range packages {
		name, _ := ours(p.ImportPath)
		for _, file := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			parsed[name] = append(parsed[name], parse(t, string(source)))
		}
		maps.Copy(made, madeBy(parsed[name]))
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		if !slices.ContainsFunc(wired, func(w string) bool { return matches(w, name) }) {
			continue
		}
		for _, at := range setLaterIn(parsed[name], made) {
			found = append(found, name+": "+at)
		}
	}
	for _, at := range found {
		if !slices.Contains(setLater, at) {
			t.Errorf("%s is assigned outside a constructor: give it to the constructor, "+
				"or use a queue, a signal or a parameter", at)
		}
	}
	for _, at := range setLater {
		if !slices.Contains(found, at) {
			t.Errorf("%s is no exception any more: take it out of the list", at)
		}
	}
}

func parse(t *testing.T, source string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// madeBy returns the types, as package.Type, that have a constructor.
func madeBy(files []*ast.File) map[string]bool {
	out := map[string]bool{}
	for _, file := range files {
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok {
				for _, name := range constructs(f) {
					out[file.Name.Name+"."+name] = true
				}
			}
		}
	}
	return out
}

// constructs returns the types that a function is a constructor of: it is called New or
// new something, and returns them or pointers to them.
func constructs(f *ast.FuncDecl) []string {
	if f.Recv != nil || f.Type.Results == nil || !strings.HasPrefix(strings.ToLower(f.Name.Name), "new") {
		return nil
	}
	var out []string
	for _, r := range f.Type.Results.List {
		of := r.Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		if name, ok := of.(*ast.Ident); ok {
			out = append(out, name.Name)
		}
	}
	return out
}

// wiring is what setLaterIn knows of a package.
type wiring struct {
	pkg     string
	made    map[string]bool
	types   map[string]ast.Expr            // declared in the package
	structs map[string]map[string]ast.Expr // fields by struct
	makers  map[string]string              // constructors, and the first type that each makes
}

// setLaterIn returns the assignments of wiring outside constructors, as
// function: Struct.field, sorted.
func setLaterIn(files []*ast.File, made map[string]bool) []string {
	w := wiring{
		made:    made,
		types:   map[string]ast.Expr{},
		structs: map[string]map[string]ast.Expr{},
		makers:  map[string]string{},
	}
	var functions []*ast.FuncDecl
	for _, file := range files {
		w.pkg = file.Name.Name
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				functions = append(functions, decl)
				if names := constructs(decl); len(names) > 0 {
					w.makers[decl.Name.Name] = names[0]
				}
			case *ast.GenDecl:
				w.declare(decl)
			}
		}
	}
	var out []string
	for _, f := range functions {
		if f.Body != nil {
			out = append(out, w.setLater(f)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (w *wiring) declare(decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		w.types[spec.Name.Name] = spec.Type
		of, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		fields := map[string]ast.Expr{}
		for _, field := range of.Fields.List {
			for _, name := range field.Names {
				fields[name.Name] = field.Type
			}
			if len(field.Names) == 0 {
				fields[typeName(field.Type)] = field.Type
			}
		}
		w.structs[spec.Name.Name] = fields
	}
}

// connects reports whether a field of a type connects parts.
func (w *wiring) connects(of ast.Expr) bool {
	switch of := of.(type) {
	case *ast.FuncType:
		return true
	case *ast.InterfaceType:
		return len(of.Methods.List) > 0
	case *ast.Ident:
		switch w.types[of.Name].(type) {
		case *ast.FuncType, *ast.InterfaceType:
			return true
		}
	case *ast.StarExpr:
		switch x := of.X.(type) {
		case *ast.Ident:
			return w.made[w.pkg+"."+x.Name]
		case *ast.SelectorExpr:
			pkg, ok := x.X.(*ast.Ident)
			return ok && w.made[pkg.Name+"."+x.Sel.Name]
		}
	}
	return false
}

// setLater returns the assignments of a function.
func (w *wiring) setLater(f *ast.FuncDecl) []string {
	where := f.Name.Name
	known := map[string]string{} // variables, and the structs that they are or point to
	declare := func(list *ast.FieldList) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			for _, name := range field.Names {
				known[name.Name] = typeName(field.Type)
			}
		}
	}
	if f.Recv != nil {
		where = typeName(f.Recv.List[0].Type) + "." + where
		declare(f.Recv)
	}
	declare(f.Type.Params)
	declare(f.Type.Results)
	var out []string
	var visit func(n ast.Node, later bool)
	visit = func(n ast.Node, later bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit: // runs later
				declare(n.Type.Params)
				visit(n.Body, true)
				return false
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if name, ok := left.(*ast.Ident); ok && len(n.Rhs) == len(n.Lhs) {
						known[name.Name] = w.structOf(n.Rhs[i], known)
					}
					sel, ok := left.(*ast.SelectorExpr)
					if !ok {
						continue
					}
					owner := w.structOf(sel.X, known)
					_, plain := sel.X.(*ast.Ident)
					constructed := plain && !later && slices.Contains(constructs(f), owner)
					if w.connects(w.structs[owner][sel.Sel.Name]) && !constructed {
						out = append(out, fmt.Sprintf("%s: %s.%s", where, owner, sel.Sel.Name))
					}
				}
			}
			return true
		})
	}
	visit(f.Body, false)
	return out
}

// structOf returns the struct that an expression is or points to; "" when that cannot be
// told.
func (w *wiring) structOf(x ast.Expr, known map[string]string) string {
	switch x := x.(type) {
	case *ast.Ident:
		return known[x.Name]
	case *ast.SelectorExpr:
		return typeName(w.structs[w.structOf(x.X, known)][x.Sel.Name])
	case *ast.UnaryExpr:
		return w.structOf(x.X, known)
	case *ast.ParenExpr:
		return w.structOf(x.X, known)
	case *ast.CompositeLit:
		return typeName(x.Type)
	case *ast.CallExpr:
		if name, ok := x.Fun.(*ast.Ident); ok {
			if name.Name == "new" && len(x.Args) == 1 {
				return typeName(x.Args[0])
			}
			return w.makers[name.Name]
		}
	}
	return ""
}

func TestWiringThatIsSetLaterIsFound(t *testing.T) {
	const head = `package shop
type till struct {
	log func(string); total int; drawer *drawer
	bank interface{ Pay() }; name *string; hook hook
}
type drawer struct { coins int; owner *till }
type hook func()
type shop struct { till *till; next *other }
type other struct{}
func newDrawer() *drawer { return &drawer{} }
`
	for _, test := range []struct {
		story, source string
		want          []string
	}{
		{"a constructor sets its own",
			"func newTill() *till { t := &till{}; t.log = nil; t.drawer = newDrawer(); return t }", nil},
		{"also when it can fail",
			"func newTill() (*till, error) { t := till{}; t.log = nil; return &t, nil }", nil},
		{"but not those of another", "func newShop() *shop { s := &shop{}; s.till.log = nil; return s }",
			[]string{"newShop: till.log"}},
		{"a callback", "func f(t *till) { t.log = func(string) {} }", []string{"f: till.log"}},
		{"a named one", "func f(t *till) { t.hook = nil }", []string{"f: till.hook"}},
		{"an interface, by a method",
			"func (t *till) open() { t.bank = nil }", []string{"till.open: till.bank"}},
		{"what has a constructor, by its maker's variable",
			"func f() { d := new(till); d.drawer = nil }", []string{"f: till.drawer"}},
		{"a constructor's closure runs later",
			"func newTill() *till { t := &till{}; go func() { t.log = nil }(); return t }",
			[]string{"newTill: till.log"}},
		{"state is no wiring", "func (t *till) sell() { t.total = 3; t.name = nil }", nil},
		{"what nobody constructs is a value", "func f(s *shop) { s.next = nil }", nil},
		{"a variable of another package", "func f(t *bank.till) { x := t.y; x.log = nil }", nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			files := []*ast.File{parse(t, head+test.source)}
			if got := setLaterIn(files, madeBy(files)); !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
