// Package version tells which version of Berth a program is.
package version

import "runtime/debug"

// released is set by the linker for released versions.
var released = ""

// String is the released version, or else the commit the program was built
// from.
func String() string {
	if released != "" {
		return released
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unreleased"
}
