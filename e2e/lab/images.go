package lab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/berth-lb/berth/e2e/image"
)

// References of the images that every node has.
const (
	// WebImage answers HTTP and UDP on port 8080 with one line: "pod=… node=… client=… host=…", and echoes on
	// websockets. It takes the names of pod and node from the environment, POD_NAME and NODE_NAME, and runs
	// as user 65532.
	WebImage = "lab.test/web:1"

	// StrangerImage is the program stranger, which attacks what it is told to, as user 65532.
	StrangerImage = "lab.test/stranger:1"

	pauseRef = "lab.test/pause:1"
)

// LoadImage loads a docker-archive, as package image builds them, into every node that runs, and into the
// others when they start. An image of the same reference is replaced; pods that run keep the one they started
// with. Use imagePullPolicy Never or IfNotPresent: there is no registry.
func (l *Lab) LoadImage(ctx context.Context, archive string) error {
	kept, err := l.keepImage(archive)
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	nodes := l.runningNodes()
	errs := make([]error, len(nodes))
	for i, node := range nodes {
		wait.Go(func() {
			_, errs[i] = l.Node(node).Exec(ctx, "ctr", "-n", "k8s.io", "images", "import",
				"/run/lab/images/"+kept)
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// keepImage copies an archive to where nodes look for images when they start, and returns its name there.
func (l *Lab) keepImage(archive string) (string, error) {
	refs, err := image.Refs(archive)
	if err != nil {
		return "", err
	}
	name := imageFile(refs[0])
	if err := copyFile(archive, l.path("images", name)); err != nil {
		return "", fmt.Errorf("keep image %s: %w", refs[0], err)
	}
	return name, nil
}

// imageFile turns a reference into the name of a file, and imageRef turns it back.
func imageFile(ref string) string { return url.PathEscape(ref) + ".tar" }

func imageRef(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), ".tar")
	if ref, err := url.PathUnescape(name); err == nil {
		return ref
	}
	return name
}
