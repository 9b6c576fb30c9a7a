package suite

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/recipe"
)

// TestCommandsOfPages: the commands with which the documentation has its readers look are typed as they
// stand, with names of this cluster in place of those in capitals. kubectl takes each, and finds what it
// asks for.
func TestCommandsOfPages(t *testing.T) {
	fullOnly(t, "a minute; a test of e2e/recipe knows of each command who runs it")
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "tor", Address: first().of(lab.RouterAddresses)}.Manifest())
	apply(t, web("pages", "node1"))
	apply(t, pool("pages", spans(119, 119)))
	apply(t, service("pages", "pages", ""))
	addr := hasAddress(t, "pages")
	served(t, addr)
	pod := kubectl(t, "-n", system, "get", "pods", "-l", "app.kubernetes.io/component=speaker",
		"-o", "jsonpath={.items[0].metadata.name}")
	names := strings.NewReplacer(
		"CRD_PLURAL", "ipaddresspools",
		"KIND NAME", "ipaddresspool pages",
		"bgppeer NAME", "bgppeer tor",
		"NAMESPACE", "default",
		"NAME", "pages",
		"NODE:", "NODE:", // the head of a column
		"NODE", "node1",
		"POOL", "pages",
		"PEER", "tor",
		"POD:", "POD:",
		"POD", pod,
		"192.168.1.240", addr,
		"service hello", "service pages",
	)
	typed := 0
	for _, page := range recipe.Tried {
		text, err := os.ReadFile(root + "/" + page)
		succeeds(t, err)
		for _, c := range recipe.Commands(string(text)) {
			if !c.Reads() || c.Not {
				continue
			}
			typed++
			command := names.Replace(c.Text)
			out, err := inShell(t, command)
			if err != nil || strings.Contains(out, "Error from server (NotFound)") {
				t.Errorf("%s:%d: %v\n%s\n%s", page, c.Line, err, command, out)
			}
		}
	}
	if typed < 50 {
		t.Errorf("only %d commands were typed", typed)
	}
}

// inShell types a line on the control plane. Of programs in a row the first counts: the others look for words
// that need not be there.
func inShell(t *testing.T, line string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	on := cluster.Host(lab.HostControlPlane)
	shell, err := on.Command(ctx, "bash", "-c", line+"; exit ${PIPESTATUS[0]}")
	succeeds(t, err)
	shell.Dir = t.TempDir()
	out, err := shell.CombinedOutput()
	return string(out), err
}
