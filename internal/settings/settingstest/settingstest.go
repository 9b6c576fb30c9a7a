// Package settingstest is what the tests of the two processes' settings
// share.
package settingstest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-lb/berth/internal/settings"
)

// A Process is one whose settings, a struct S, are tested.
type Process[S any] struct {
	Command  func() *cobra.Command // as main makes it
	AddFlags func(*cobra.Command)
}

// Started is what the process would run with: all defaults that are not
// overruled by arguments.
func (p Process[S]) Started(t *testing.T, args ...string) S {
	t.Helper()
	var s S
	cmd := &cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error { return settings.Load(cmd, &s) }}
	p.AddFlags(cmd)
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Refusal starts the process, as a user does, and returns why it does not
// run. It would end at once: its context has.
func (p Process[S]) Refusal(t *testing.T, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := p.Command()
	cmd.SetArgs(append(slices.Clone(args), "--health-bind-address=0", "--kubeconfig=/does/not/exist"))
	return cmd.ExecuteContext(ctx)
}

// CheckNames holds an error to name a flag and its environment variable.
func CheckNames(t *testing.T, err error, flag string) {
	t.Helper()
	want := "--" + flag + " (" + variable(flag) + ")"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want an error that names %s", err, want)
	}
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// File writes a settings file and returns the argument that names it.
func File(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--" + settings.FileFlag + "=" + path
}

func (p Process[S]) flags() *pflag.FlagSet {
	cmd := &cobra.Command{}
	p.AddFlags(cmd)
	return cmd.Flags()
}

// CheckFields looks for flags without a field and fields without a flag: a
// flag that nobody reads would be set in vain.
func (p Process[S]) CheckFields(t *testing.T) {
	t.Helper()
	want := []string{settings.FileFlag}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for field := range typ.Fields() {
			if tag := field.Tag.Get("mapstructure"); tag == ",squash" {
				walk(field.Type)
			} else {
				want = append(want, tag)
			}
		}
	}
	walk(reflect.TypeFor[S]())
	slices.Sort(want)
	var got []string
	p.flags().VisitAll(func(f *pflag.Flag) { got = append(got, f.Name) })
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the flags are\n%q, the fields\n%q", got, want)
	}
}

// CheckHelp looks whether --help explains every flag.
func (p Process[S]) CheckHelp(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	cmd := p.Command()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	unit := regexp.MustCompile(`\b[0-9]+(ms|s|m)\b`)
	p.flags().VisitAll(func(f *pflag.Flag) {
		_, help, ok := strings.Cut(out.String(), "--"+f.Name+" ")
		if !ok {
			t.Errorf("--help does not tell of --%s", f.Name)
		}
		help, _, _ = strings.Cut(help, "\n")
		if !strings.Contains(f.Usage, " ") || !strings.HasSuffix(f.Usage, ".") {
			t.Errorf("--%s is explained by %q, want a sentence", f.Name, f.Usage)
		}
		if f.Value.Type() == "duration" && !unit.MatchString(help) {
			t.Errorf("--%s is a time, and its help shows no unit: %s", f.Name, help)
		}
	})
}

// CheckUnknownKey looks whether a key of the file that is no setting is
// refused.
func (p Process[S]) CheckUnknownKey(t *testing.T) {
	t.Helper()
	err := p.Refusal(t, File(t, "no-such-setting: 1\n"))
	if err == nil || !strings.Contains(err.Error(), `"no-such-setting" is no setting`) {
		t.Errorf("got %v", err)
	}
}
