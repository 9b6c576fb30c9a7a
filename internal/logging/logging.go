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
	"address":      "an IP address: of a Service, a speaker or a router; the message says whose",
	"addresses":    "several of these",
	"capabilities": "capabilities of BGP, by IANA's names",
	"cause":        "cause of a takeover, as in conditions and Events",
	"conflict":     "kind of a conflict, as in Speaker objects",
	"count":        "how many",
	"duration":     "how long something took, or may take",
	"entry":        "name of an entry of a Secret; never what is in it",
	"error":        "what went wrong",
	"format":       "format in which another speaker publishes",
	"generation":   "of a claim: how many owners the address has had",
	"holder":       "Service that holds an address, as namespace/name",
	"kind":         "kind of an API object",
	"link":         "network interface of the node",
	"links":        "several of these",
	"mac":          "link-layer address",
	"message":      "explanation in words: the message of a condition, or the text of a library",
	"name":         "name of an API object",
	"node":         "name of a Kubernetes node",
	"owner":        "node that owns an address by layer 2",
	"peer":         "name of a BGPPeer",
	"prefix":       "prefix of a route",
	"prefixes":     "addresses of a link, with the lengths of their prefixes",
	"protocol":     "arp or ndp",
	"reason":       "one word: a reason of conditions and Events, or of BFD why a session went down",
	"service":      "Service, as namespace/name",
	"services":     "several of these",
	"socket":       "which socket of BFD",
	"state":        "state of a member: left or dead",
	"up":           "whether a link is up and has a carrier",
	"variable":     "name of an environment variable; never its value",
	"verdict":      "what became of a connection or packet, as in metrics",
	"version":      "version of the program",
}
