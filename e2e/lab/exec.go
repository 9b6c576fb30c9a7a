package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// systemPath is where the programs of this machine are, whatever the caller's PATH says.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command returns a command that will run on the host, with the caller's environment, the cluster's programs
// in front of PATH and KUBECONFIG set. On a node it enters all of the node's namespaces: ps shows that node,
// ctr talks to its containerd, and files below /run and /var/lib are its own. On other hosts only the network
// is different. When ctx ends, the command is killed; what it started on a node may live on, see Exec.
func (h *Host) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, errors.New("no command")
	}
	full, dir := []string{tool("ip"), "netns", "exec", h.netns()}, h.lab.dir
	if n := h.lab.Node(h.name); n.index() > 0 {
		p, err := n.process()
		if err != nil {
			return nil, err
		}
		full, dir = []string{tool("nsenter"), "--target", strconv.Itoa(p.PID), "--all", "--"}, "/run/lab"
	}
	full = append(full, args...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Env = append(os.Environ(),
		"PATH="+dir+"/bin:"+systemPath+":"+os.Getenv("PATH"),
		"KUBECONFIG="+dir+"/kubeconfig/"+adminUser,
		"KUBECACHEDIR="+dir+"/kubectl-cache",
	)
	return cmd, nil
}

// Exec runs a command on the host as Command describes and returns what it wrote to standard output. The
// error holds what it wrote to standard error and wraps *exec.ExitError if it ran and failed. When ctx ends,
// the command and what it started are killed.
func (h *Host) Exec(ctx context.Context, args ...string) ([]byte, error) {
	return h.execInput(ctx, nil, args...)
}

func (h *Host) execInput(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd, err := h.Command(ctx, args...)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for those that keep the output open
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return stdout.Bytes(), fmt.Errorf("%s: %s: %w: %s",
			h.name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// Kubectl runs the cluster's own kubectl as administrator and returns what it wrote to standard output.
// Errors are as for Exec.
func (a *API) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return a.KubectlInput(ctx, nil, args...)
}

// KubectlInput is Kubectl with a standard input, for `apply -f -`.
func (a *API) KubectlInput(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	command := append([]string{a.lab.path("bin", "kubectl")}, args...)
	return a.lab.Host(HostControlPlane).execInput(ctx, stdin, command...)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
