package netnstest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The environment tells the child what it is and the tests why there is none.
const (
	insideEnv  = "BERTH_NETNSTEST_INSIDE"
	netnsDir   = "/run/netns"
	insideMark = "1"
	listMark   = "list" // the tests are only listed
)

// unavailable says why there are no namespaces, and is nil inside of one.
var unavailable = errors.New("the test package does not call netnstest.Main from TestMain")

// Main is the body of TestMain: it runs the tests in private namespaces, or in
// this process when none can be made, and exits with their code.
func Main(m *testing.M) {
	if os.Getenv(insideEnv) == insideMark {
		if unavailable = furnish(); unavailable != nil {
			fmt.Fprintln(os.Stderr, "netnstest:", unavailable)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	if os.Getenv(insideEnv) == listMark {
		os.Exit(m.Run())
	}
	code, err := reexec()
	if err == nil {
		os.Exit(code)
	}
	unavailable = err
	os.Exit(m.Run())
}

// reexec runs this binary again in new namespaces and returns its exit code.
// An error means that the child could not be started.
func reexec() (int, error) {
	// The kernel sends the death signal when the starting thread ends, so this
	// thread has to live as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	child, err := start(0, os.Args[1:], os.Stdout)
	if err != nil {
		child, err = start(syscall.CLONE_NEWUSER, os.Args[1:], os.Stdout)
	}
	if err != nil {
		const needs = "needs root or unprivileged user namespaces"
		return 0, fmt.Errorf("cannot make network namespaces (%s): %w", needs, err)
	}
	// An interrupt reaches the whole process group; the child's answer to it is
	// the one to report.
	signal.Ignore(os.Interrupt)
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	default:
		fmt.Fprintln(os.Stderr, "netnstest: tests ended by", err)
		return 2, nil
	}
}

// start starts the child with CLONE_NEWNET, CLONE_NEWNS and the extra flags. What
// it writes goes to out.
func start(extra uintptr, args []string, out io.Writer) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the test binary: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+insideMark)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, os.Stderr
	if out != os.Stdout {
		cmd.Stderr = out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | extra,
		Pdeathsig:  syscall.SIGKILL,
	}
	if extra&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the test binary in new namespaces: %w", err)
	}
	return cmd, nil
}

// furnish prepares the child's namespaces: mounts that nobody else sees, a
// directory for named namespaces, and the loopback interface up.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		// Not root: hide /run, where the directory can then be made.
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount a private /run: %w", err)
		}
		if err := os.MkdirAll(netnsDir, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", netnsDir, err)
		}
	}
	if err := unix.Mount("tmpfs", netnsDir, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a private %s: %w", netnsDir, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	return nil
}
