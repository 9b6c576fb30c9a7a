package settings

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-lb/berth/internal/nearest"
)

// Unknown is a BERTH_ variable of the environment that is no setting.
type Unknown struct {
	Name string
	// Nearest is the variable that was likely meant, "" when none is similar.
	Nearest string
}

// UnknownVariables returns the BERTH_ variables of an environment, as of os.Environ,
// that are no setting of a command, sorted by name. Those that Kubernetes makes of Services
// whose name begins so are left out (the kubelet does, unless enableServiceLinks is
// false).
func UnknownVariables(cmd *cobra.Command, environ []string) []Unknown {
	const prefix = EnvPrefix + "_"
	var known []string // without the prefix, in which all are alike
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if isSetting(f) || f.Name == FileFlag {
			known = append(known, strings.TrimPrefix(variable(f.Name), prefix))
		}
	})
	var names []string
	for _, entry := range environ {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	var out []Unknown
	for _, name := range slices.Sorted(slices.Values(names)) {
		rest := strings.TrimPrefix(name, prefix)
		if slices.Contains(known, rest) || ofService(name, names) {
			continue
		}
		u := Unknown{Name: name}
		if near := nearest.Of(rest, known); near != "" {
			u.Nearest = prefix + near
		}
		out = append(out, u)
	}
	return out
}

// ofService reports whether a variable is one of those that describe a Service: they
// all begin with its name, and one is NAME_SERVICE_HOST.
func ofService(name string, all []string) bool {
	const host = "_SERVICE_HOST"
	return slices.ContainsFunc(all, func(other string) bool {
		service, ok := strings.CutSuffix(other, host)
		if !ok {
			return false
		}
		rest, ok := strings.CutPrefix(name, service)
		return ok && (rest == "_PORT" ||
			strings.HasPrefix(rest, "_PORT_") || strings.HasPrefix(rest, "_SERVICE_"))
	})
}

// WarnOfUnknown logs the variables that are no setting. They are no error: they may
// be meant for another program that shares the environment.
func WarnOfUnknown(log *slog.Logger, cmd *cobra.Command, environ []string) {
	for _, u := range UnknownVariables(cmd, environ) {
		message := "Nobody reads it. See --help for the settings that there are."
		if u.Nearest != "" {
			message = "Nobody reads it. Did you mean " + u.Nearest + "?"
		}
		log.Warn("environment variable is not a setting", "variable", u.Name, "message", message)
	}
}

// variable returns the environment variable of a flag.
func variable(flag string) string {
	return EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
