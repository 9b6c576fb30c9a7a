package main

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
)

var imagePattern = regexp.MustCompile(`(?m)^\s*image: (\S+)$`)

// images returns the references of the images that the suite's manifests name, but for those of meshes.
func images(manifests fs.FS) ([]string, error) {
	found := map[string]bool{}
	for _, pattern := range []string{"base/*.yaml", "tests/*.yaml"} {
		files, err := fs.Glob(manifests, pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := fs.ReadFile(manifests, file)
			if err != nil {
				return nil, fmt.Errorf("the suite's manifests: %w", err)
			}
			for _, match := range imagePattern.FindAllSubmatch(text, -1) {
				found[string(match[1])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}
