package main

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
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-lb/berth/internal/settings"
)

// started is what the process would run with: all defaults that are not
// overruled by arguments.
func started(t *testing.T, args ...string) processSettings {
	t.Helper()
	var s processSettings
	cmd := &cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error { return settings.Load(cmd, &s) }}
	addFlags(cmd)
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	return s
}

// refusal starts the process, as a user does, and returns why it does not
// run. It would end at once: its context has.
func refusal(t *testing.T, args ...string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := command()
	cmd.SetArgs(append(args, "--health-bind-address=0", "--kubeconfig=/does/not/exist"))
	return cmd.ExecuteContext(ctx)
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "BERTH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func settingsFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags() *pflag.FlagSet {
	cmd := &cobra.Command{}
	addFlags(cmd)
	return cmd.Flags()
}

// TestEveryFlagIsReadAndEveryFieldHasAFlag: a flag that nobody reads would be
// set in vain.
func TestEveryFlagIsReadAndEveryFieldHasAFlag(t *testing.T) {
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
	walk(reflect.TypeFor[processSettings]())
	slices.Sort(want)
	var got []string
	flags().VisitAll(func(f *pflag.Flag) { got = append(got, f.Name) })
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the flags are\n%q, the fields\n%q", got, want)
	}
}

func TestHelpExplainsEveryFlag(t *testing.T) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	unit := regexp.MustCompile(`\b[0-9]+(ms|s|m)\b`)
	flags().VisitAll(func(f *pflag.Flag) {
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

func TestUnknownKeyOfTheFileIsRefused(t *testing.T) {
	err := refusal(t, "--config="+settingsFile(t, "no-such-setting: 1\n"))
	if err == nil || !strings.Contains(err.Error(), `"no-such-setting" is no setting`) {
		t.Errorf("got %v", err)
	}
}

func TestFlagOutweighsEnvironmentOutweighsFile(t *testing.T) {
	file := "--config=" + settingsFile(t, "leader-lease-duration: 30s\nlog-level: warn\n")
	for _, test := range []struct {
		story string
		args  []string
		env   string
		want  time.Duration
	}{
		{"nothing is said", nil, "", 6 * time.Second},
		{"a file", []string{file}, "", 30 * time.Second},
		{"the environment outweighs the file", []string{file}, "20s", 20 * time.Second},
		{"a flag outweighs both", []string{file, "--leader-lease-duration=10s"}, "20s", 10 * time.Second},
	} {
		t.Run(test.story, func(t *testing.T) {
			t.Setenv("BERTH_LEADER_LEASE_DURATION", test.env)
			if got := started(t, test.args...).Lease; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := started(t).validate(); err != nil {
		t.Error(err)
	}
	// What is missing then is a cluster.
	if err := refusal(t); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v", err)
	}
}

func TestBadValuesAreRefusedByName(t *testing.T) {
	for _, test := range []struct{ flag, value string }{
		{"leader-lease-duration", "2s"},
		{"leader-lease-duration", "6m"},
		{"leader-lease-duration", "0s"},
		{"log-level", "loud"},
		{"log-format", "xml"},
		{"namespace", ""},
		{"member-secret", ""},
		{"metrics-bind-address", "9740"},
		{"metrics-bind-address", ""},
	} {
		t.Run(test.flag+"="+test.value, func(t *testing.T) {
			err := refusal(t, "--"+test.flag+"="+test.value)
			if err == nil || !strings.Contains(err.Error(), "--"+test.flag+" ("+variable(test.flag)+")") {
				t.Errorf("got %v, want an error that names --%s and %s", err, test.flag, variable(test.flag))
			}
		})
	}
}

func TestBadHealthAddressIsRefusedByName(t *testing.T) {
	err := started(t, "--health-bind-address=localhost").validate()
	if err == nil || !strings.Contains(err.Error(), "--health-bind-address (BERTH_HEALTH_BIND_ADDRESS)") {
		t.Errorf("got %v", err)
	}
}

func TestAllBadValuesAreToldAtOnce(t *testing.T) {
	err := refusal(t, "--leader-lease-duration=1s", "--metrics-bind-address=x")
	for _, flag := range []string{"--leader-lease-duration", "--metrics-bind-address"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want %s in it", err, flag)
		}
	}
}
