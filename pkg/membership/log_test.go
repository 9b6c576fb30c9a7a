package membership

import (
	"log/slog"
	"testing"
)

func TestParseLine(t *testing.T) {
	tests := []struct {
		line  string
		level slog.Level
		text  string
	}{
		{"[DEBUG] memberlist: Stream connection from=192.0.2.1:1\n",
			slog.LevelDebug, "Stream connection from=192.0.2.1:1"},
		{"[INFO] memberlist: Suspect node3 has failed, no acks received",
			slog.LevelInfo, "Suspect node3 has failed, no acks received"},
		{"[WARN] memberlist: odd", slog.LevelWarn, "odd"},
		{"[ERR] memberlist: bad", slog.LevelError, "bad"},
		{"[ERR] Failed to shutdown transport: x", slog.LevelError, "Failed to shutdown transport: x"},
		{"Err: Could not set the deadline: x", slog.LevelWarn, "Err: Could not set the deadline: x"},
	}
	for _, tt := range tests {
		if level, text := parseLine(tt.line); level != tt.level || text != tt.text {
			t.Errorf("%q: %s %q, want %s %q", tt.line, level, text, tt.level, tt.text)
		}
	}
}
