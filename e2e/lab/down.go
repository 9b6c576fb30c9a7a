package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Down ends every process of the lab and removes everything it made or kept, logs included.
func (l *Lab) Down(ctx context.Context) error { return Remove(ctx, l.options.Name) }

// Remove takes down the lab of that name whatever state it is in: up, half up, or leftovers of a crash. It is
// no error if there is nothing to remove.
func Remove(ctx context.Context, name string) error {
	options, err := Options{Name: name}.withDefaults()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	root, err := stateRoot()
	if err != nil {
		return err
	}
	unlock, err := lockLab(ctx, root, options.Name, newProgress(nil))
	if err != nil {
		return err
	}
	defer unlock()
	if err := tearDown(ctx, filepath.Join(root, options.Name), options.Name, false); err != nil {
		return fmt.Errorf("lab %q: %w", options.Name, err)
	}
	return nil
}

// tearDown removes all traces of a lab, of which any part may be missing. With keepLogs it leaves the logs.
func tearDown(ctx context.Context, dir, name string, keepLogs bool) error {
	ended, err := killAll(dir, name)
	if err != nil {
		return err
	}
	for _, p := range ended {
		if err := p.waitEnd(ctx, 10*time.Second); err != nil {
			return err
		}
	}
	err = errors.Join(removeNamespaces(ctx, name), removeCgroup(ctx, cgroupOf(name)), removeRouterState(dir))
	if err != nil {
		return err
	}
	return removeState(dir, keepLogs)
}

// killAll kills what the records name and whatever else is in the lab's network namespaces: a process that
// was started just before its starter was killed has no record, and commands run by hand are there too.
func killAll(dir, name string) ([]process, error) {
	var doomed []process
	records, err := filepath.Glob(filepath.Join(dir, "run", "*"))
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		// a half-written one has another name and is found below
		if p, err := readProcess(record); err == nil {
			doomed = append(doomed, p)
		}
	}
	strays, err := processesIn(name)
	if err != nil {
		return nil, err
	}
	doomed = append(doomed, strays...)
	for _, p := range doomed {
		if err := p.signal(syscall.SIGKILL); err != nil {
			return nil, err
		}
	}
	return doomed, nil
}

// processesIn lists the processes in the network namespaces of a lab, but for the one that asks.
func processesIn(name string) ([]process, error) {
	namespaces := map[string]bool{}
	for _, host := range hostNames(MaxNodes) {
		var stat syscall.Stat_t
		if err := syscall.Stat(filepath.Join(netnsDir, name+"-"+host), &stat); err == nil {
			namespaces[fmt.Sprintf("net:[%d]", stat.Ino)] = true
		}
	}
	if len(namespaces) == 0 {
		return nil, nil
	}
	all, err := processes()
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	var inside []process
	for pid, stat := range all {
		netns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil && namespaces[netns] && pid != os.Getpid() {
			inside = append(inside, process{PID: pid, Start: stat.start, Boot: boot})
		}
	}
	return inside, nil
}

// removeState deletes the lab's directory, or all of it but the logs.
func removeState(dir string, keepLogs bool) error {
	if err := checkNoMounts(dir); err != nil {
		return err
	}
	if !keepLogs {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != "logs" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// checkNoMounts returns an error if anything is mounted below dir: deleting would go through to what is
// mounted there. The lab mounts nothing where this can see it; somebody else may have.
func checkNoMounts(dir string) error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer table.Close() //nolint:errcheck // it was only read from
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// The fifth field is the mount point, see proc_pid_mountinfo(5).
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			return fmt.Errorf("something is mounted at %s: unmount it first", fields[4])
		}
	}
	return lines.Err()
}
