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

// required are the settings without a default.
var required = []string{"--node-name=node1", "--member-address=192.0.2.1"}

func TestFlagOutweighsEnvironmentOutweighsFile(t *testing.T) {
	file := "--config=" + settingsFile(t, "member-settle-timeout: 30s\nexclude-interfaces: [^file, other]\n")
	for _, test := range []struct {
		story    string
		args     []string
		env, too string
		want     time.Duration
		links    []string
	}{
		{"nothing is said", nil, "", "", 5 * time.Second, nil},
		{"a file", []string{file}, "", "", 30 * time.Second, []string{"^file", "other"}},
		{"the environment outweighs the file", []string{file}, "20s", "^env,other", 20 * time.Second, []string{"^env", "other"}},
		{"a flag outweighs both", []string{file, "--member-settle-timeout=10s", "--exclude-interfaces=^flag"}, "20s", "^env,other",
			10 * time.Second, []string{"^flag"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			t.Setenv("BERTH_MEMBER_SETTLE_TIMEOUT", test.env)
			t.Setenv("BERTH_EXCLUDE_INTERFACES", test.too)
			got := started(t, test.args...)
			if got.Member.SettleTimeout != test.want || !slices.Equal(got.ExcludeLinks, test.links) {
				t.Errorf("got %s and %q, want %s and %q", got.Member.SettleTimeout, got.ExcludeLinks, test.want, test.links)
			}
		})
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := started(t, required...).validate(); err != nil {
		t.Error(err)
	}
	// What is missing then is a cluster.
	if err := refusal(t, required...); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("got %v", err)
	}
	if port := started(t, required...).Member.Port; port != 7947 {
		t.Errorf("the default of --member-port is %d: change the manifests too", port)
	}
}

func TestBadValuesAreRefusedByName(t *testing.T) {
	for _, test := range []struct{ flag, value string }{
		{"node-name", ""},
		{"member-address", ""},
		{"member-address", "node1"},
		{"member-address", "192.0.2.1:7947"},
		{"member-address", "0.0.0.0"}, // fellows could not reach it
		{"member-port", "0"},
		{"member-probe-interval", "49ms"},
		{"member-probe-interval", "2m"},
		{"member-probe-timeout", "9ms"},
		{"member-probe-timeout", "250ms"}, // the interval: it must be less
		{"member-suspicion", "0"},
		{"member-suspicion", "21"},
		{"member-settle-timeout", "-1s"},
		{"member-settle-timeout", "6m"},
		{"announcement-count", "0"},
		{"announcement-count", "101"},
		{"announcement-interval", "9ms"},
		{"announcement-interval", "2m"},
		{"exclude-interfaces", "eth["},
		{"log-level", "loud"},
		{"log-format", "xml"},
		{"namespace", ""},
		{"member-secret", ""},
		{"metrics-bind-address", "9740"},
	} {
		t.Run(test.flag+"="+test.value, func(t *testing.T) {
			err := refusal(t, append(slices.Clone(required), "--"+test.flag+"="+test.value)...)
			if err == nil || !strings.Contains(err.Error(), "--"+test.flag+" ("+variable(test.flag)+")") {
				t.Errorf("got %v, want an error that names --%s and %s", err, test.flag, variable(test.flag))
			}
		})
	}
}

func TestAllBadValuesAreToldAtOnce(t *testing.T) {
	err := refusal(t, "--announcement-count=0", "--member-suspicion=0")
	for _, flag := range []string{"--node-name", "--member-address", "--announcement-count", "--member-suspicion"} {
		if err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("got %v, want %s in it", err, flag)
		}
	}
}

func TestExcludedLinks(t *testing.T) {
	for _, test := range []struct {
		story string
		args  []string
		link  string
		want  bool
	}{
		{"container links are excluded unasked", nil, "veth1a2b", true},
		{"others are not", nil, "eth0", false},
		{"what is said replaces that", []string{"--exclude-interfaces=^storage"}, "veth1a2b", false},
		{"and is a pattern", []string{"--exclude-interfaces=^storage"}, "storage0", true},
	} {
		t.Run(test.story, func(t *testing.T) {
			patterns, err := started(t, test.args...).excludedLinks()
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(test.link) }); got != test.want {
				t.Errorf("%s is excluded: %t", test.link, got)
			}
		})
	}
}
