package structure

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/logging"
)

// logCall is one call of a *slog.Logger.
type logCall struct {
	at      string // file:line
	problem string // "" when the call can be understood
	keys    []string
}

func TestLogLines(t *testing.T) {
	calls := 0
	for _, file := range sources(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, file)
		for _, call := range logCalls(t, name, string(source)) {
			calls++
			if call.problem != "" {
				t.Errorf("%s: %s", call.at, call.problem)
			}
			for _, key := range call.keys {
				if _, known := logging.Keys[key]; !known {
					t.Errorf("%s: the key %q is not in the list of internal/logging. "+
						"Whoever searches logs relies on "+
						"one word for one thing: use a key of the list, or add this one to it "+
						"and to docs/logs.md", call.at, key)
				}
			}
		}
	}
	if calls < 20 {
		t.Errorf("only %d log calls found: does this test still see them?", calls)
	}
}

// TestLogKeysAreDocumented: docs/logs.md has a table row for each key, and for
// no other.
func TestLogKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "logs.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := documentedKeys(string(page))
	for _, key := range slices.Sorted(maps.Keys(logging.Keys)) {
		if !slices.Contains(documented, key) {
			t.Errorf("docs/logs.md has no row for the key %q (%s)", key, logging.Keys[key])
		}
	}
	for _, key := range documented {
		if _, known := logging.Keys[key]; !known {
			t.Errorf("docs/logs.md tells of the key %q, which internal/logging does not list", key)
		}
	}
}

// root is the root of the module.
var root = filepath.Join("..", "..")

// sources are the files of the root module whose log lines users see.
func sources(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if err == nil || strings.HasPrefix(entry.Name(), ".") {
				return filepath.SkipDir // another module
			}
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// loggers are the names under which code has a *slog.Logger.
var loggers = []string{"log", "logger", "Logger", "slog"}

// plain are the methods of a logger with a message and pairs of key and value,
// by the position of the message; With has pairs only.
var plain = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0,
	"DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1,
	"Log": 2, "With": -1,
}

// logCalls finds the log calls of a source file.
func logCalls(t *testing.T, name, source string) []logCall {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if logsOtherwise(file) {
		return nil
	}
	var out []logCall
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !isLogger(method.X) {
			return true
		}
		position := files.Position(call.Pos())
		at := fmt.Sprintf("%s:%d", position.Filename, position.Line)
		message, known := plain[method.Sel.Name]
		switch {
		case known:
			out = append(out, readCall(at, message, call))
		case method.Sel.Name == "LogAttrs" || method.Sel.Name == "WithGroup":
			out = append(out, logCall{
				at:      at,
				problem: "this test reads pairs of key and value only: do not use " + method.Sel.Name,
			})
		}
		return true
	})
	return out
}

// logsOtherwise reports whether the log of a file is another library's: it imports one, and
// not log/slog. Most files that log import neither: they have their logger from a struct.
func logsOtherwise(file *ast.File) bool {
	imports := func(names ...string) bool {
		return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
			return slices.Contains(names, strings.Trim(i.Path.Value, `"`))
		})
	}
	return imports("log", "github.com/go-logr/logr", "sigs.k8s.io/controller-runtime/pkg/log") &&
		!imports("log/slog")
}

// isLogger tells by its name whether an expression is a logger: log, x.log,
// or what a With on one of these returns.
func isLogger(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return slices.Contains(loggers, x.Name)
	case *ast.SelectorExpr:
		return slices.Contains(loggers, x.Sel.Name)
	case *ast.CallExpr:
		with, ok := x.Fun.(*ast.SelectorExpr)
		return ok && with.Sel.Name == "With" && isLogger(with.X)
	}
	return false
}

// readCall checks the message, at its position among the arguments (-1 for
// none), and takes the keys out of what comes after it.
func readCall(at string, message int, call *ast.CallExpr) logCall {
	out := logCall{at: at}
	if len(call.Args) <= message {
		out.problem = "a log call without a message"
		return out
	}
	if message >= 0 {
		if _, ok := constant(call.Args[message]); !ok {
			out.problem = "the message is not a constant: what differs from line to line belongs into a key"
			return out
		}
	}
	for i, arg := range call.Args[message+1:] {
		if i%2 != 0 {
			continue
		}
		key, ok := constant(arg)
		if !ok {
			out.problem = "a key is not a constant"
			return out
		}
		out.keys = append(out.keys, key)
	}
	return out
}

// constant is the value of a string literal.
func constant(x ast.Expr) (string, bool) {
	literal, ok := x.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(literal.Value)
	return value, err == nil
}

// documentedKeys are the keys in the first column of a Markdown page's tables.
func documentedKeys(page string) []string {
	var out []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(page, -1) {
		out = append(out, row[1])
	}
	return out
}

// TestLogCallsAreRead gives the reader made-up code, to see what it finds.
func TestLogCallsAreRead(t *testing.T) {
	for _, test := range []struct{ story, statement, want string }{
		{"message and keys", `log.Info("said", "node", 1, "reason", x)`, "node reason"},
		{"of a field", `r.log.Warn("said", "link", 1)`, "link"},
		{"of a field of a field", `a.b.Logger.Error("said", "error", err)`, "error"},
		{"given once for all", `log.With("address", a).Info("said", "links", b)`, "links address"},
		{"with a context", `log.InfoContext(ctx, "said", "node", 1)`, "node"},
		{"with a level", `w.log.Log(ctx, level, "said", "message", text)`, "message"},
		{"no logger", `http.Error(w, missing, 503); t.Log("x", "y")`, ""},
		{"a message made up", `log.Info("said " + x)`, "! the message is not a constant"},
		{"a message put together", `log.Info(fmt.Sprintf("said %s", x))`, "! the message is not a constant"},
		{"a key made up", `log.Info("said", key, 1)`, "! a key is not a constant"},
		{"attributes", `log.LogAttrs(ctx, level, "said", slog.Int("a", 1))`, "! this test reads pairs"},
	} {
		t.Run(test.story, func(t *testing.T) {
			source := "package x\nimport \"log/slog\"\nfunc f() { " + test.statement + " }"
			var got []string
			for _, call := range logCalls(t, "x.go", source) {
				if call.problem != "" {
					got = append(got, "! "+call.problem)
				}
				got = append(got, call.keys...)
			}
			if text := strings.Join(got, " "); text != test.want &&
				(!strings.HasPrefix(test.want, "!") || !strings.HasPrefix(text, test.want)) {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
	for _, test := range []struct {
		story, imports string
		read           bool
	}{
		{"slog", `import "log/slog"`, true},
		{"a logger from a struct", `import "fmt"`, true},
		{"another library's", `import "log"`, false},
		{"both", "import \"log\"\nimport \"log/slog\"", true},
	} {
		source := "package x\n" + test.imports + "\nfunc f() { l.m.log.Info(`said`, `node`, 1) }"
		if calls := logCalls(t, "x.go", source); (len(calls) == 1) != test.read {
			t.Errorf("%s: read %d calls", test.story, len(calls))
		}
	}
	got := documentedKeys("| key | what |\n|---|---|\n| `node` | name |\n| text `link` | no |\n")
	if len(got) != 1 || got[0] != "node" {
		t.Errorf("the table has the keys %v", got)
	}
}
