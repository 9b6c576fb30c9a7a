package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is the record of a process that the lab started. A process id alone means little: the kernel
// gives it to another process some time after the first has ended. With the time of the start, and the boot
// in which that time counts, the record stands for one process only.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since the boot: field 22 of /proc/PID/stat, see proc(5).
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// procStat is what the lab wants of /proc/PID/stat.
type procStat struct {
	command string // at most 15 bytes
	state   byte   // R, S, D, T (stopped), Z (ended, not yet collected by its parent), …
	parent  int
	start   uint64
	rss     int64 // bytes
}

// recordOf describes a process that runs now.
func recordOf(pid int) (process, error) {
	stat, err := readStat(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: stat.start, Boot: boot}, nil
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(text)
}

// parseStat reads the line of /proc/PID/stat. The command stands in parentheses and may itself contain some,
// so what follows is counted from the last one.
func parseStat(text []byte) (procStat, error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("not a line of /proc/PID/stat: %q", text)
	}
	fields := strings.Fields(string(text[end+1:])) // from field 3 on
	if len(fields) < 22 {
		return procStat{}, fmt.Errorf("a short line of /proc/PID/stat: %q", text)
	}
	parent, err1 := strconv.Atoi(fields[1])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	pages, err3 := strconv.ParseInt(fields[21], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return procStat{}, err
	}
	return procStat{
		command: string(text[open+1 : end]),
		state:   fields[0][0],
		parent:  parent,
		start:   start,
		rss:     pages * int64(os.Getpagesize()),
	}, nil
}

// alive tells whether the recorded process still runs. One that has ended but was not yet collected by its
// parent does not.
func (p process) alive() bool {
	stat, err := readStat(p.PID)
	if err != nil || stat.start != p.Start || stat.state == 'Z' || stat.state == 'X' {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == p.Boot
}

// signal sends a signal to the recorded process and to no other; it is no error if it has ended.
func (p process) signal(sig syscall.Signal) error {
	// The handle is taken first, so that it and the check speak of the same process even if the id changes
	// hands now.
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return err
	}
	defer handle.Release() //nolint:errcheck // it always succeeds
	if !p.alive() {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// waitEnd returns when the process has ended, or an error when it has not within limit.
func (p process) waitEnd(ctx context.Context, limit time.Duration) error {
	failure := fmt.Sprintf("process %d has not ended", p.PID)
	return poll(ctx, limit, 10*time.Millisecond, failure, func(context.Context) error {
		if p.alive() {
			return errors.New("it still runs")
		}
		return nil
	})
}

// write keeps the record in a file, which appears whole or not at all.
func (p process) write(file string) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFile(file, text, 0o644)
}

// readProcess reads a record that write made.
func readProcess(file string) (process, error) {
	var p process
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// processes reads the state of everything that runs on this machine. Processes that end meanwhile are left
// out.
func processes() (map[int]procStat, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := make(map[int]procStat, len(dirs))
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if stat, err := readStat(pid); err == nil {
			all[pid] = stat
		}
	}
	return all, nil
}

// family returns the ids of root and of everything that descends from it.
func family(all map[int]procStat, root int) []int {
	children := map[int][]int{}
	for pid, stat := range all {
		children[stat.parent] = append(children[stat.parent], pid)
	}
	members := []int{root}
	for i := 0; i < len(members); i++ {
		members = append(members, children[members[i]]...)
	}
	return members
}
