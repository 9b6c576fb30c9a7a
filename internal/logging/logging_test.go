package logging_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/berth-lb/berth/internal/logging"
)

func TestLevelAndFormat(t *testing.T) {
	for _, test := range []struct {
		settings logging.Settings
		lines    int
		json     bool
	}{
		{logging.Settings{Level: "debug", Format: "json"}, 4, true},
		{logging.Settings{Level: "info", Format: "text"}, 3, false},
		{logging.Settings{Level: "WARN", Format: "JSON"}, 2, true},
		{logging.Settings{Level: "error", Format: "text"}, 1, false},
	} {
		t.Run(test.settings.Level+" "+test.settings.Format, func(t *testing.T) {
			var out bytes.Buffer
			log, err := logging.New(test.settings, &out)
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("said")
			log.Info("said")
			log.Warn("said")
			log.Error("said", "reason", "test")
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) != test.lines {
				t.Errorf("%d lines, want %d:\n%s", len(lines), test.lines, out.String())
			}
			if json.Valid([]byte(lines[0])) != test.json {
				t.Errorf("the first line is %s", lines[0])
			}
		})
	}
}

func TestUnusableSettingsAreNamed(t *testing.T) {
	for _, test := range []struct {
		settings logging.Settings
		says     string
	}{
		{logging.Settings{Level: "loud", Format: "json"}, "--log-level (BERTH_LOG_LEVEL)"},
		{logging.Settings{Level: "info", Format: "xml"}, "--log-format (BERTH_LOG_FORMAT)"},
	} {
		_, err := logging.New(test.settings, &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("got %v, want %q in it", err, test.says)
		}
	}
}

// TestLibrariesLogTheSameWay: what client-go has to say comes out in the
// chosen format as well. (So does what controller-runtime says, but only the
// first logger of a process counts there.)
func TestLibrariesLogTheSameWay(t *testing.T) {
	var out bytes.Buffer
	if _, err := logging.New(logging.Settings{Level: "info", Format: "json"}, &out); err != nil {
		t.Fatal(err)
	}
	klog.InfoS("said by client-go", "key", "value")
	klog.Flush()
	if !json.Valid(out.Bytes()) || !strings.Contains(out.String(), "said by client-go") {
		t.Errorf("the line is %s", out.String())
	}
}

func TestKeysAreOfOneStyle(t *testing.T) {
	for key, meaning := range logging.Keys {
		if key == "" || strings.ToLower(key) != key || strings.ContainsAny(key, " _.") {
			t.Errorf("key %q: want lower case, with a dash between words", key)
		}
		if meaning == "" {
			t.Errorf("key %q has no explanation", key)
		}
	}
}
