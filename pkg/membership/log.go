package membership

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// memberlist writes a line for each bad packet, so anybody who can reach the port
// could fill the disk.
const (
	logPerSecond = 5
	logBurst     = 100
)

// logWriter turns memberlist's lines, "[WARN] memberlist: text", into records.
// Lines beyond a rate are dropped.
type logWriter struct {
	log   *slog.Logger
	limit *rate.Limiter
	// muted is set when Run ends: timers of memberlist run on and may still log.
	muted atomic.Bool
}

func newLogWriter(l *slog.Logger) *logWriter {
	return &logWriter{log: l, limit: rate.NewLimiter(logPerSecond, logBurst)}
}

// logger is what memberlist wants to have.
func (w *logWriter) logger() *log.Logger { return log.New(w, "", 0) }

// Write implements io.Writer for one line.
func (w *logWriter) Write(b []byte) (int, error) {
	level, text := parseLine(string(b))
	if !w.muted.Load() && w.log.Enabled(context.Background(), level) && w.limit.Allow() {
		w.log.Log(context.Background(), level, "memberlist", "message", text)
	}
	return len(b), nil
}

// parseLine separates the level from the text. Lines without a level are
// warnings: memberlist writes some of its errors so.
func parseLine(line string) (slog.Level, string) {
	line = strings.TrimSpace(line)
	level := slog.LevelWarn
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		line = rest
		switch tag {
		case "[DEBUG":
			level = slog.LevelDebug
		case "[INFO":
			level = slog.LevelInfo
		case "[ERR", "[ERROR":
			level = slog.LevelError
		}
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}
