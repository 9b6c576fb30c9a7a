package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupRoot is where the machine's control groups are: one hierarchy with cgroup v2, one directory for each
// controller with v1.
const cgroupRoot = "/sys/fs/cgroup"

// labCgroup is the branch of every hierarchy that holds one branch for each lab.
const labCgroup = "berth-lab"

// cgroupOf names the branch of a lab, or of one of its nodes, below the top of a hierarchy.
func cgroupOf(name string, node ...string) string {
	return filepath.Join(append([]string{labCgroup, name}, node...)...)
}

// hierarchies lists the tops of the control group hierarchies, and whether they are of version 2.
func hierarchies() (tops []string, v2 bool, err error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, true, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, false, fmt.Errorf("control groups: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() { // a link, such as cpu to cpu,cpuacct, is not one
			tops = append(tops, filepath.Join(cgroupRoot, e.Name()))
		}
	}
	return tops, false, nil
}

// makeCgroup makes a branch in every hierarchy, ready for a kubelet to put pods into.
func makeCgroup(branch string) error {
	tops, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, top := range tops {
		parent := top
		for _, element := range strings.Split(branch, "/") {
			child := filepath.Join(parent, element)
			if err := os.Mkdir(child, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("control group: %w", err)
			}
			if v2 {
				err = passControllers(parent)
			} else {
				err = inheritCPUSet(parent, child)
			}
			if err != nil {
				return fmt.Errorf("control group %s: %w", child, err)
			}
			parent = child
		}
	}
	return nil
}

// kubeletControllers are those that a kubelet wants to find in its branch of a v2 hierarchy.
var kubeletControllers = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}

// passControllers lets the children of a v2 group use those of the kubelet's controllers that the group has.
func passControllers(group string) error {
	available, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var enable []string
	for _, c := range strings.Fields(string(available)) {
		if slices.Contains(kubeletControllers, c) {
			enable = append(enable, "+"+c)
		}
	}
	return os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0)
}

// inheritCPUSet gives a new v1 cpuset group the processors and memory of its parent: it starts with none, and
// no process can enter it before.
func inheritCPUSet(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, os.ErrNotExist) {
			return nil // another controller's hierarchy
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup removes a branch from every hierarchy. The processes in it must have been killed; those that
// are not yet collected keep it for a moment, which is waited for.
func removeCgroup(ctx context.Context, branch string) error {
	tops, _, err := hierarchies()
	if err != nil {
		return err
	}
	failure := "control groups cannot be removed"
	return poll(ctx, 5*time.Second, 20*time.Millisecond, failure, func(context.Context) error {
		var errs []error
		for _, top := range tops {
			errs = append(errs, removeTree(filepath.Join(top, branch)))
			// The parent of the labs goes with the last of them; until then it is not empty.
			_ = os.Remove(filepath.Join(top, labCgroup))
		}
		return errors.Join(errs...)
	})
}

// removeTree removes a directory of directories, deepest first: the files of a control group cannot be
// removed.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range slices.Backward(dirs) {
		if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
