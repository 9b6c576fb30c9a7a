// Package log has the logger of an ACME client.
package log

import "log/slog"

// SetDefault does nothing, because nothing is logged.
func SetDefault(*slog.Logger) {}
