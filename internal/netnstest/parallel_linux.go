package netnstest

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// MainParallel does what Main does, for packages whose tests mostly wait: each test
// function runs in a process and in namespaces of its own, several at a time, and what it
// writes is shown when it has ended. So each has the machine for itself, as in
// Main, and none needs to know of the others.
//
// Where somebody has chosen tests or wants a profile, it is Main.
func MainParallel(m *testing.M, workers int) {
	if os.Getenv(insideEnv) == insideMark || !wholePackage() {
		Main(m)
	}
	names, err := testNames()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netnstest:", err)
		os.Exit(2)
	}
	signal.Ignore(os.Interrupt) // see reexec
	next := make(chan string)
	var working sync.WaitGroup
	var showing sync.Mutex
	code, namespaces := 0, true
	for range workers {
		working.Go(func() {
			runtime.LockOSThread() // see reexec
			defer runtime.UnlockOSThread()
			for name := range next {
				out, one, err := runAlone(name)
				showing.Lock()
				_, _ = os.Stdout.Write(out)
				code = max(code, one)
				if err != nil {
					namespaces = false
				}
				showing.Unlock()
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	working.Wait()
	if !namespaces {
		Main(m)
	}
	os.Exit(code)
}

// wholePackage reports whether all tests of the package are wanted, and nothing else
// of the test binary.
func wholePackage() bool {
	flag.Parse()
	whole := true
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "test.run", "test.skip", "test.bench", "test.fuzz", "test.list",
			"test.coverprofile", "test.gocoverdir", "test.cpuprofile", "test.memprofile",
			"test.blockprofile", "test.mutexprofile", "test.trace":
			whole = whole && f.Value.String() == ""
		}
	})
	return whole
}

// testNames returns the test functions, examples and fuzz functions of the package.
func testNames() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the test binary: %w", err)
	}
	cmd := exec.Command(self, "-test.list=.*")
	cmd.Env = append(os.Environ(), insideEnv+"="+listMark)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	var names []string
	for in := bufio.NewScanner(bytes.NewReader(out)); in.Scan(); {
		if name := in.Text(); !strings.HasPrefix(name, "Benchmark") {
			names = append(names, name)
		}
	}
	return names, nil
}

// runAlone runs one test function in namespaces of its own, and returns what it
// wrote and its exit code. An error means that there can be no namespaces.
func runAlone(name string) (out []byte, code int, err error) {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		// It is of one process. Without it, the result is not cached.
		return strings.HasPrefix(arg, "-test.testlogfile")
	})
	args = append(args, "-test.run=^"+regexp.QuoteMeta(name)+"$")
	var wrote bytes.Buffer
	child, err := start(0, args, &wrote)
	if err != nil {
		child, err = start(syscall.CLONE_NEWUSER, args, &wrote)
	}
	if err != nil {
		return nil, 0, err
	}
	err = child.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Exited():
		code = exit.ExitCode()
	default:
		fmt.Fprintf(&wrote, "netnstest: %s ended by %v\n", name, err)
		code = 2
	}
	return wrote.Bytes(), code, nil
}
