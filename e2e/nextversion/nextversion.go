// Package nextversion makes a speaker of a version that does not exist yet: what it
// publishes has more in it than this version knows. With it the lab shows
// that two versions work side by side, before there are two.
//
// The changes are replacements in today's sources, handed to the compiler as an
// overlay. A source that no longer has what is to be replaced is an error: then the
// change wants to be written anew.
package nextversion

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Version is what the program calls itself.
const Version = "next"

// change replaces a text that a file, below the root of the sources, has once.
type change struct{ file, old, with string }

// changes are all that the next version does otherwise. Each is of a kind that a
// later minor version may make.
var changes = []change{
	// A later minor, more at the end of each head, entry and word on a member's life,
	// and in whole states a kind of record that is not known.
	{"pkg/membership/kv/codec.go", "Minor = 0", "Minor = 1"},
	{"pkg/membership/kv/codec.go",
		"\tp.buf = appendText(p.buf, entry)\n", "\tp.buf = appendText(p.buf, append(entry, \"+\"...))\n"},
	{"pkg/membership/kv/codec.go",
		"\tp.buf = appendText(p.buf, head)\n", "\tp.buf = appendText(p.buf, append(head, \"next\"...))\n"},
	{"pkg/membership/kv/codec.go", "\t\treturn nil\n\t}\n\treturn p.buf\n",
		"\t\treturn nil\n\t}\n\tif p.limit > 1200 {\n" +
			"\t\tp.buf = append(p.buf, 77, 0, 0, 0, 4, 'n', 'e', 'x', 't')\n\t}\n\treturn p.buf\n"},
	{"pkg/membership/publish.go", "byte(at.Port()), byte(len(addr))}, addr...)\n",
		"byte(at.Port()), byte(len(addr))}, append(addr, \"next\"...)...)\n"},
	// A mark of every claim.
	{"internal/speaker/members/claims.go", "\t\tout = append(append(out, ':'), places[c]...)\n",
		"\t\tout = append(append(out, 'n', ':'), places[c]...)\n"},
	// A stage between starting and ready, and a key that nobody knows.
	{"speaker/lifecycle.go", "\tsp.tracker.SetStage(announcement.StageReady)\n",
		"\tsp.tracker.SetStage(\"warming\")\n" +
			"\t_ = sp.member.members.Publish(\"weather\", []byte(\"fine\"))\n" +
			"\ttime.Sleep(time.Second)\n\tsp.tracker.SetStage(announcement.StageReady)\n"},
	// More on each link.
	{"internal/speaker/members/links.go", "\t\tout[linkKey(l.Name, part)] = value\n\t}\n\treturn out\n",
		"\t\tif len(value)+9 <= membership.MaxValue {\n" +
			"\t\t\tvalue = append(value, \" mtu=1500\"...)\n\t\t}\n" +
			"\t\tout[linkKey(l.Name, part)] = value\n\t}\n\treturn out\n"},
	// A word on a kernel that is not known, in the place of none.
	{"internal/speaker/members/codec.go", "const kernelUnknown = \"?\"", "const kernelUnknown = \"dozes\""},
}

// Changed returns the changed sources: the text of each file, by its path below root.
func Changed(root string) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range changes {
		text, known := out[c.file]
		if !known {
			read, err := os.ReadFile(filepath.Join(root, c.file))
			if err != nil {
				return nil, err
			}
			text = string(read)
		}
		if n := strings.Count(text, c.old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, not once:\n%s", c.file, n, c.old)
		}
		out[c.file] = strings.Replace(text, c.old, c.with, 1)
	}
	return out, nil
}

// Build builds the speaker of the next version into a file.
func Build(ctx context.Context, root, file string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "nextversion")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // of no use any more
	changed, err := Changed(root)
	if err != nil {
		return err
	}
	replace := map[string]string{}
	for path, text := range changed {
		copied := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return err
		}
		replace[filepath.Join(root, path)] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-tags", "grpcnotrace", "-trimpath",
		"-ldflags", "-s -w -X github.com/berth-lb/berth/internal/version.released="+Version,
		"-o", file, "./speaker")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w:\n%s", err, text)
	}
	return nil
}
