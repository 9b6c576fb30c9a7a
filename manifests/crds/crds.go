// Package crds has the definitions of Berth's kinds, as they are installed.
package crds

import "embed"

// Files are the CustomResourceDefinitions, one a file, in YAML.
//
//go:embed berth.io_*.yaml
var Files embed.FS
