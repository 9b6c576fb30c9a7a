package main

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var archiveOf = regexp.MustCompile(`(?m)^ +uri: (\S+)$`)

// krewManifest fills in manifests/krew/berth.yaml: the version, and the checksum of each archive. Platforms
// without an archive are left out, and an archive without a platform is an error: nobody could install it.
func krewManifest(template, version string, sums map[string]string) (string, error) {
	begin := strings.Index(template, "apiVersion:")
	if begin < 0 {
		return "", fmt.Errorf("the manifest for krew has no apiVersion")
	}
	const platform = "\n  - selector:"
	parts := strings.Split(strings.TrimRight(template[begin:], "\n"), platform)
	out := strings.Replace(parts[0], "version: VERSION", "version: "+version, 1)
	named := map[string]bool{}
	for _, part := range parts[1:] {
		uri := archiveOf.FindStringSubmatch(part)
		if uri == nil {
			return "", fmt.Errorf("the manifest for krew has a platform without a uri:\n%s", part)
		}
		archive := path.Base(uri[1])
		sum, built := sums[archive]
		if !built {
			continue
		}
		named[archive] = true
		part = strings.ReplaceAll(part, "/VERSION/", "/"+version+"/")
		out += platform + strings.Replace(part, "sha256: SHA256", "sha256: "+sum, 1)
	}
	for archive := range sums {
		if !named[archive] {
			return "", fmt.Errorf("the manifest for krew does not name %s", archive)
		}
	}
	if strings.Contains(out, "VERSION") || strings.Contains(out, "SHA256") {
		return "", fmt.Errorf("the manifest for krew has more to fill in:\n%s", out)
	}
	return out + "\n", nil
}
