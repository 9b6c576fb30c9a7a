package settings_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/settings"
)

func TestUnknownVariables(t *testing.T) {
	cmd := &cobra.Command{}
	settings.AddFileFlag(cmd.Flags())
	cmd.Flags().String("log-level", "", "")
	cmd.Flags().Int("member-port", 0, "")
	for _, test := range []struct {
		story   string
		environ []string
		want    []settings.Unknown
	}{
		{"settings", []string{
			"BERTH_LOG_LEVEL=info", "BERTH_MEMBER_PORT=7947", "BERTH_CONFIG=/x", "PATH=/bin", "BERTHA=1",
		}, nil},
		{"a letter is missing",
			[]string{"BERTH_LOG_LVL=info"}, []settings.Unknown{{"BERTH_LOG_LVL", "BERTH_LOG_LEVEL"}}},
		{"it is empty",
			[]string{"BERTH_LOGLEVEL="}, []settings.Unknown{{"BERTH_LOGLEVEL", "BERTH_LOG_LEVEL"}}},
		{"nothing is like it, and all are in order", []string{"BERTH_WEATHER=fine", "BERTH_A=1"},
			[]settings.Unknown{{"BERTH_A", ""}, {"BERTH_WEATHER", ""}}},
		{"flags that are no settings", []string{"BERTH_HELP=true"}, []settings.Unknown{{"BERTH_HELP", ""}}},
		{"a Service of the namespace", []string{
			"BERTH_METRICS_SERVICE_HOST=10.0.0.1",
			"BERTH_METRICS_SERVICE_PORT=80",
			"BERTH_METRICS_SERVICE_PORT_WEB=80",
			"BERTH_METRICS_PORT=tcp://10.0.0.1:80",
			"BERTH_METRICS_PORT_80_TCP=tcp://10.0.0.1:80",
			"BERTH_METRICS_PORT_80_TCP_ADDR=10.0.0.1",
		}, nil},
		{"what only looks like one", []string{"BERTH_MEMBR_PORT=7947", "BERTH_SERVICE_PORT=1"},
			[]settings.Unknown{{"BERTH_MEMBR_PORT", "BERTH_MEMBER_PORT"}, {"BERTH_SERVICE_PORT", ""}}},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := settings.UnknownVariables(cmd, test.environ); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnknownVariablesAreLogged(t *testing.T) {
	cmd := &cobra.Command{}
	cmd.Flags().String("log-level", "", "")
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	settings.WarnOfUnknown(log, cmd, []string{"BERTH_LOG_LVL=secret", "BERTH_WEATHER=fine"})
	text := out.String()
	for _, want := range []string{
		"variable=BERTH_LOG_LVL", "Did you mean BERTH_LOG_LEVEL?", "variable=BERTH_WEATHER", "See --help",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("logged is %s, want %q in it", text, want)
		}
	}
	if strings.Contains(text, "secret") {
		t.Errorf("the value is logged: %s", text)
	}
}
