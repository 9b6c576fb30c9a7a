package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/image"
	"github.com/berth-lb/berth/e2e/lab"
)

func newImage(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build images from static binaries, and load them into the nodes",
	}
	cmd.AddCommand(newImageBuild(), newImageLoad(name))
	return cmd
}

func newImageBuild() *cobra.Command {
	var spec image.Spec
	var out string
	cmd := &cobra.Command{
		Use:   "build --ref REF --out ARCHIVE FILE[:PATH[:MODE]]...",
		Short: "Build an image on an empty root from static binaries and other files",
		Long: `Build an image from files. PATH is where a file goes in the image, by default /NAME;
MODE is octal, by default 755. The first file is the entrypoint unless --entrypoint says otherwise.
The same files give the same bytes.`,
		Example: "  lab image build --ref lab.test/thing:1 --out thing.tar --user 65532 " +
			"./thing ./thing.conf:/etc/thing.conf:644",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, arg := range args {
				file, err := parseFile(arg)
				if err != nil {
					return err
				}
				spec.Files = append(spec.Files, file)
			}
			if len(spec.Entrypoint) == 0 {
				spec.Entrypoint = []string{spec.Files[0].Path}
			}
			return image.Build(spec, out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.Ref, "ref", "", "reference of the image, with a tag: lab.test/thing:1")
	flags.StringVar(&out, "out", "", "docker-archive to write")
	flags.StringArrayVar(&spec.Entrypoint, "entrypoint", nil,
		"command of a container; repeat it for each argument")
	flags.StringVar(&spec.User, "user", "", "numeric user, or user:group, that runs it (default root)")
	for _, required := range []string{"ref", "out"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
}

// parseFile reads FILE[:PATH[:MODE]].
func parseFile(arg string) (image.File, error) {
	parts := strings.SplitN(arg, ":", 3)
	file := image.File{Source: parts[0], Path: path.Join("/", filepath.Base(parts[0]))}
	if parts[0] == "" {
		return file, errors.New("empty file name")
	}
	if len(parts) > 1 {
		file.Path = parts[1]
	}
	if len(parts) > 2 {
		var mode uint32
		if _, err := fmt.Sscanf(parts[2], "%o", &mode); err != nil {
			return file, fmt.Errorf("%s: mode %q is not octal", arg, parts[2])
		}
		file.Mode = os.FileMode(mode)
	}
	return file, nil
}

func newImageLoad(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "load ARCHIVE...",
		Short: "Load docker-archives into every node",
		Long: `Load docker-archives into every node that runs, and into the others when they start.
Use them with imagePullPolicy Never or IfNotPresent.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			for _, archive := range args {
				begin := time.Now()
				if err := l.LoadImage(cmd.Context(), archive); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs  %s loaded\n", time.Since(begin).Seconds(), archive)
			}
			return nil
		},
	}
}
