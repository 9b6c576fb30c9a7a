package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// sleeper starts a process that would live for a minute, and collects it when it ends.
func sleeper(t *testing.T) process {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	p, err := recordOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRecordOutlivesTheProgram(t *testing.T) {
	p := sleeper(t)
	file := filepath.Join(t.TempDir(), "sleeper")
	if err := p.write(file); err != nil {
		t.Fatal(err)
	}
	again, err := readProcess(file)
	if err != nil || again != p {
		t.Fatalf("read %+v, %v; want %+v", again, err, p)
	}
	if !again.alive() {
		t.Error("the process runs, and its record says it does not")
	}
	if err := again.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := again.waitEnd(context.Background(), 10*time.Second); err != nil {
		t.Error(err)
	}
	if err := again.signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal to a process that has ended: %v", err)
	}
}

func TestRecycledPIDIsLeftAlone(t *testing.T) {
	for name, change := range map[string]func(*process){
		"started at another time": func(p *process) { p.Start-- },
		"started in another boot": func(p *process) { p.Boot = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			running := sleeper(t)
			old := running
			change(&old)
			if old.alive() {
				t.Error("the record of an earlier process is taken for the present one")
			}
			if err := old.signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			if !running.alive() {
				t.Error("the present process was killed by the record of an earlier one")
			}
		})
	}
}

func TestEndedButUncollectedIsNotAlive(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := recordOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	if err := p.waitEnd(context.Background(), 10*time.Second); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
}

func TestParseStat(t *testing.T) {
	line := "42 (a) (b c)) T 7 42 42 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 8001 1000000 300 " +
		"18446744073709551615\n"
	got, err := parseStat([]byte(line))
	want := procStat{
		command: "a) (b c)",
		state:   'T',
		parent:  7,
		start:   8001,
		rss:     300 * int64(os.Getpagesize()),
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "42 sleep S 1", "42 (sleep) S 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestFamily(t *testing.T) {
	all := map[int]procStat{1: {}, 10: {parent: 1}, 11: {parent: 10}, 12: {parent: 11}, 20: {parent: 1}}
	got := family(all, 10)
	slices.Sort(got)
	if want := []int{10, 11, 12}; !slices.Equal(got, want) {
		t.Errorf("family of 10: %v, want %v", got, want)
	}
}
