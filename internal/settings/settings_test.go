package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/settings"
)

// values has a setting of each type that processes use.
type values struct {
	Text  string        `mapstructure:"some-text"`
	Wait  time.Duration `mapstructure:"some-wait"`
	Count int           `mapstructure:"some-count"`
	Port  uint16        `mapstructure:"some-port"`
	On    bool          `mapstructure:"some-switch"`
	List  []string      `mapstructure:"some-list"`
}

var defaults = values{Text: "default", Wait: time.Second, Count: 1, Port: 7, On: true}

// load starts a process with arguments, environment and, unless it is empty,
// a settings file of a type such as yaml.
func load(t *testing.T, args []string, env map[string]string, fileType, file string) (values, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "process", Version: "1", SilenceErrors: true, SilenceUsage: true}
	flags := cmd.Flags()
	settings.AddFileFlag(flags)
	flags.String("some-text", defaults.Text, "Text.")
	flags.Duration("some-wait", defaults.Wait, "Wait.")
	flags.Int("some-count", defaults.Count, "Count.")
	flags.Uint16("some-port", defaults.Port, "Port.")
	flags.Bool("some-switch", defaults.On, "Switch.")
	flags.StringArray("some-list", nil, "List.")
	for name, value := range env {
		t.Setenv(name, value)
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "settings."+fileType)
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config="+path)
	}
	var got values
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return settings.Load(cmd, &got) }
	cmd.SetArgs(args)
	err := cmd.Execute()
	return got, err
}

func TestFlagOutweighsEnvironmentOutweighsFile(t *testing.T) {
	const file = "some-text: file\nsome-wait: 3m\nsome-count: 3\nsome-port: 30\n" +
		"some-switch: false\nsome-list: [f, g]\n"
	fromFile := values{Text: "file", Wait: 3 * time.Minute, Count: 3, Port: 30, List: []string{"f", "g"}}
	env := map[string]string{
		"BERTH_SOME_TEXT": "env", "BERTH_SOME_WAIT": "2m", "BERTH_SOME_COUNT": "2",
		"BERTH_SOME_PORT": "20", "BERTH_SOME_SWITCH": "false", "BERTH_SOME_LIST": "d{1,2}\n e",
	}
	fromEnv := values{Text: "env", Wait: 2 * time.Minute, Count: 2, Port: 20, List: []string{"d{1,2}", "e"}}
	args := []string{
		"--some-text=flag", "--some-wait=1m", "--some-count=10", "--some-port=11", "--some-switch=false",
		"--some-list=a,b", "--some-list=c d",
	}
	fromFlags := values{Text: "flag", Wait: time.Minute, Count: 10, Port: 11, List: []string{"a,b", "c d"}}
	for _, test := range []struct {
		story          string
		args           []string
		env            map[string]string
		fileType, file string
		want           values
	}{
		{"nothing is said", nil, nil, "", "", defaults},
		{"a file", nil, nil, "yaml", file, fromFile},
		{"the environment outweighs the file", nil, env, "yaml", file, fromEnv},
		{"a flag outweighs both", args, env, "yaml", file, fromFlags},
		{"also when it says the default", []string{"--some-text=default"}, env, "", "",
			values{
				Text:  "default",
				Wait:  2 * time.Minute,
				Count: 2,
				Port:  20,
				List:  []string{"d{1,2}", "e"},
			}},
		{"each setting by itself", []string{"--some-count=10"}, map[string]string{"BERTH_SOME_TEXT": "env"},
			"yaml", "some-wait: 3m\n",
			values{Text: "env", Wait: 3 * time.Minute, Count: 10, Port: 7, On: true}},
		{"an empty variable says nothing", nil, map[string]string{"BERTH_SOME_TEXT": ""}, "", "", defaults},
		{"or has no value in the file", nil, nil, "yaml", "some-text:\n", defaults},
		{"but a text can be empty there",
			nil, nil, "yaml", "some-text: ''\n", values{Wait: time.Second, Count: 1, Port: 7, On: true}},
		{"a number is a text too", nil, nil,
			"yaml", "some-text: 0\n", values{Text: "0", Wait: time.Second, Count: 1, Port: 7, On: true}},
		{"a list in the file keeps spaces", nil, nil, "yaml", "some-list: ['a b', 'c,d', 1]\n",
			values{
				Text:  "default",
				Wait:  time.Second,
				Count: 1,
				Port:  7,
				On:    true,
				List:  []string{"a b", "c,d", "1"},
			}},
		{"a text there is a list of words", nil, nil, "yaml", "some-list: |\n  a,b\n  c d\n",
			values{
				Text:  "default",
				Wait:  time.Second,
				Count: 1,
				Port:  7,
				On:    true,
				List:  []string{"a,b", "c", "d"},
			}},
		{"what asks for help or the version is no setting",
			nil, map[string]string{"BERTH_HELP": "perhaps", "BERTH_VERSION": "1.2"}, "", "", defaults},
		{"a flag hides what cannot be read",
			[]string{"--some-port=11"}, map[string]string{"BERTH_SOME_PORT": "70000"}, "", "",
			values{Text: "default", Wait: time.Second, Count: 1, Port: 11, On: true}},
		{"so does the environment",
			nil, map[string]string{"BERTH_SOME_PORT": "20"}, "yaml", "some-port: 70000\n",
			values{Text: "default", Wait: time.Second, Count: 1, Port: 20, On: true}},
		{"TOML", nil, nil, "toml", "some-wait = \"3m\"\nsome-port = 30\n",
			values{Text: "default", Wait: 3 * time.Minute, Count: 1, Port: 30, On: true}},
		{"JSON", nil, nil, "json", `{"some-list": ["f"], "some-switch": false, "some-count": 1000000}`,
			values{Text: "default", Wait: time.Second, Count: 1000000, Port: 7, List: []string{"f"}}},
	} {
		t.Run(test.story, func(t *testing.T) {
			got, err := load(t, test.args, test.env, test.fileType, test.file)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.List) == 0 {
				got.List = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheFileCanBeNamedInTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte("some-text: file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(t, nil, map[string]string{"BERTH_CONFIG": path}, "", "")
	if err != nil || got.Text != "file" {
		t.Errorf("got %q, %v", got.Text, err)
	}
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	for _, test := range []struct {
		story          string
		args           []string
		env            map[string]string
		fileType, file string
		says           []string
	}{
		{"a key that is no setting",
			nil, nil, "yaml", "some-txet: x\n", []string{"--config", `"some-txet" is no setting`}},
		{"two of them",
			nil, nil, "yaml", "one: x\ntwo: y\n", []string{`"one" is no setting`, `"two" is no setting`}},
		{"a key within a key", nil, nil, "yaml", "some: {text: x}\n", []string{"is no setting"}},
		{"a file that does not exist", []string{"--config=/does/not/exist.yaml"}, nil,
			"", "", []string{"--config", "/does/not/exist.yaml"}},
		{"a file that is not YAML", nil, nil, "yaml", "\tx", []string{"--config"}},
		{"a wait without a unit, as a flag", []string{"--some-wait=5"}, nil, "", "", []string{"--some-wait"}},
		{"keys that name no setting of a process", nil, nil,
			"yaml", "config: x\nhelp: true\n", []string{`"config" is no setting`, `"help" is no setting`}},
		{"a wait that is none, in the environment", nil, map[string]string{"BERTH_SOME_WAIT": "soon"}, "", "",
			[]string{`--some-wait (BERTH_SOME_WAIT): "soon" is not valid: use a number with its unit`}},
		{"a wait without a unit, in the file", nil, nil, "yaml", "some-wait: 5\n",
			[]string{`--some-wait (BERTH_SOME_WAIT): "5" is not valid: use a number with its unit`}},
		{"a port beyond what there are, in the environment",
			nil, map[string]string{"BERTH_SOME_PORT": "70000"}, "", "",
			[]string{`--some-port (BERTH_SOME_PORT): "70000" is not valid: ` +
				`use a whole number from 0 to 65535`}},
		{"and in the file", nil, nil, "toml", "some-port = 70000\n",
			[]string{`--some-port (BERTH_SOME_PORT): "70000" is not valid: ` +
				`use a whole number from 0 to 65535`}},
		{"a count that is none, in the file", nil, nil, "yaml", "some-count: many\n",
			[]string{`--some-count (BERTH_SOME_COUNT): "many" is not valid: use a whole number`}},
		{"half a count", nil, nil, "json", `{"some-count": 1.5}`,
			[]string{`--some-count (BERTH_SOME_COUNT): "1.5" is not valid: use a whole number`}},
		{"a list for a count", nil, nil, "yaml", "some-count: [1]\n",
			[]string{`--some-count (BERTH_SOME_COUNT): "[1]" is not valid: use a whole number`}},
		{"a list for a text", nil, nil, "yaml", "some-text: [a]\n",
			[]string{`--some-text (BERTH_SOME_TEXT): "[a]" is not valid: use a single value`}},
		{"a date for a text", nil, nil, "yaml",
			"some-text: 2001-02-03\n", []string{`--some-text (BERTH_SOME_TEXT): "2001-02-03 `, "in quotes"}},
		{"a list within a list", nil, nil, "yaml", "some-list: [[a]]\n",
			[]string{`--some-list (BERTH_SOME_LIST): "[[a]]" is not valid: use a list`}},
		{"a switch that is none, in the environment",
			nil, map[string]string{"BERTH_SOME_SWITCH": "perhaps"}, "", "",
			[]string{`--some-switch (BERTH_SOME_SWITCH): "perhaps" is not valid: use true or false`}},
		{"all of them at once, a line for each",
			nil, map[string]string{"BERTH_SOME_PORT": "-1"}, "yaml", "some-count: many\nsome-txet: x\n",
			[]string{"\"some-txet\" is no setting\n--some-count (BERTH_SOME_COUNT): \"many\" is not valid: " +
				"use a whole number\n--some-port (BERTH_SOME_PORT): \"-1\" is not valid: "}},
		{"a flag that there is not", []string{"--some-txet=x"}, nil, "", "", []string{"--some-txet"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			got, err := load(t, test.args, test.env, test.fileType, test.file)
			if err == nil {
				t.Fatalf("no error, and %+v", got)
			}
			for _, words := range test.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("the error is %q, want %q in it", err, words)
				}
			}
		})
	}
}

func TestInvalidNamesFlagAndVariable(t *testing.T) {
	got := settings.Invalid("some-wait", time.Hour, "from 1s to 5m").Error()
	if want := `--some-wait (BERTH_SOME_WAIT): "1h0m0s" is not valid: from 1s to 5m`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
