package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
)

// billOf returns the software bill of materials of a program, as CycloneDX JSON: each module that the linker
// put into it, with version and checksum, and Go's own library.
func billOf(p program, version string, at time.Time) ([]byte, error) {
	generator, err := bin.NewGenerator(p.path,
		bin.WithIncludeStdlib(true),
		bin.WithVersionOverride(version),
		bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return nil, err
	}
	bill, err := generator.Generate()
	if err != nil {
		return nil, fmt.Errorf("bill of materials of %s for %s: %w", p.name, p.platform, err)
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	// Another program has another number, the same program has the same.
	sum := sha256.Sum256(data)
	bill.SerialNumber = uuid.NewSHA1(uuid.NameSpaceOID, sum[:]).URN()
	bill.Metadata.Timestamp = at.Format(time.RFC3339)
	info, err := buildinfo.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	if err := complete(bill, info); err != nil {
		return nil, fmt.Errorf("bill of materials of %s for %s: %w", p.name, p.platform, err)
	}
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.EncodeVersion(bill, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// complete returns an error that names each module of the build info that the bill lacks.
func complete(bill *cdx.BOM, info *debug.BuildInfo) error {
	type module struct{ path, version string }
	listed := map[module]bool{}
	if bill.Components != nil {
		for _, c := range *bill.Components {
			listed[module{c.Name, c.Version}] = true
		}
	}
	var problems []error
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		if !listed[module{dep.Path, dep.Version}] {
			problems = append(problems, fmt.Errorf("%s %s is missing", dep.Path, dep.Version))
		}
	}
	if !listed[module{"std", info.GoVersion}] {
		problems = append(problems, fmt.Errorf("the standard library of %s is missing", info.GoVersion))
	}
	if m := bill.Metadata; m == nil || m.Component == nil || m.Component.Name != info.Main.Path {
		problems = append(problems, fmt.Errorf("it is not of %s", info.Main.Path))
	}
	return errors.Join(problems...)
}
