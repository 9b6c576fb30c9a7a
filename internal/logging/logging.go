// Package logging makes the structured logger of a process and lists the keys
// that Berth's own log lines use.
package logging

import (
	"io"
	"log/slog"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/berth-lb/berth/internal/settings"
)

// Settings choose what is logged and how.
type Settings struct {
	Level  string `mapstructure:"log-level"`
	Format string `mapstructure:"log-format"`
}

// AddFlags defines the logging flags.
func AddFlags(flags *pflag.FlagSet) {
	flags.String("log-level", "info", "Least severe level that is logged: debug, info, warn or error.")
	flags.String("log-format", "json", "Format of log lines: json or text.")
}

// New returns a logger that writes to w, and has the libraries that log on
// their own (client-go, controller-runtime) write through it. The error names
// the setting that cannot be used.
func New(s Settings, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Level)); err != nil {
		return nil, settings.Invalid("log-level", s.Level, "use debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler
	switch strings.ToLower(s.Format) {
	case "json":
		handler = slog.NewJSONHandler(w, options)
	case "text":
		handler = slog.NewTextHandler(w, options)
	default:
		return nil, settings.Invalid("log-format", s.Format, "use json or text")
	}
	klog.SetSlogLogger(slog.New(handler))
	ctrllog.SetLogger(logr.FromSlogHandler(handler))
	return slog.New(handler), nil
}

// Keys are the keys of Berth's own log lines, with what their values are. A
// test holds every log call to them; docs/logs.md shows them to users.
var Keys = map[string]string{
	"address":    "IP address of a Service, or of a other speaker",
	"addresses":  "several of these",
	"bytes":      "size of a message",
	"capability": "capabilities of BGP, by IANA's names",
	"cause":      "cause of a takeover, as in conditions and Events",
	"count":      "how many",
	"detail":     "text of the memberlist library",
	"duration":   "how long something took, or may take",
	"entry":      "name of an entry of a Secret; never what is in it",
	"error":      "what went wrong",
	"format":     "format in which a other speaker says what it says",
	"generation": "of a claim: how many owners the address has had",
	"kind":       "kind of an API object",
	"link":       "network interface of the node",
	"links":      "several of these",
	"mac":        "link-layer address",
	"message":    "reason in words, as in conditions and Events",
	"name":       "name of an API object",
	"node":       "name of a Kubernetes node",
	"owner":      "who has or announces an address: a Service, or a node",
	"peer":       "name of a BGPPeer",
	"prefixes":   "addresses of a link, with the lengths of their prefixes; or the prefix of a route",
	"protocol":   "arp or ndp",
	"reason":     "reason word, as in conditions and Events",
	"service":    "Service, as namespace/name",
	"services":   "several of these",
	"up":         "whether a link is up and has a carrier",
	"variable":   "name of an environment variable; never its value",
	"version":    "version of the program",
}
