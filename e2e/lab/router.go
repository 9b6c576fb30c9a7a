package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A RouterConfig says how FRR runs on a router. The texts are configuration files of its daemons, in FRR's own words.
type RouterConfig struct {
	// Zebra installs routes in the kernel; it may be empty.
	Zebra string `json:"-"`
	// BGP is bgpd's.
	BGP string `json:"-"`
	// BFD is bfdd's, which runs only if this is not empty. One comment is enough.
	BFD string `json:"-"`
	// KeepRoutes is how long zebra leaves alone what it finds in the kernel's tables when it starts, and it leaves there what
	// it has when it ends. 0: it takes routes away when it ends and when it starts.
	KeepRoutes time.Duration `json:"keepRoutes"`
}

// The daemons of FRR that a router may run, in the order in which they are started.
const (
	daemonZebra = "zebra"
	daemonBFD   = "bfdd"
	daemonBGP   = "bgpd"
)

// frrPrograms is where Debian puts the daemons of FRR; frrState is where each keeps a directory of its own, which one
// that is killed leaves behind.
const (
	frrPrograms = "/usr/lib/frr"
	frrState    = "/var/tmp/frr"
)

// StartRouter runs FRR on a router, HostRouter or HostRouter2, and returns when its daemons answer; its sessions come up
// after that. The router's port at the switch is plugged in. The cable to ext of a router that crashed, and of a second one that
// is new, is not: see OpenRouter. The error tells of lines that a daemon does not understand.
func (l *Lab) StartRouter(ctx context.Context, router string, config RouterConfig) error {
	if err := checkRouter(router); err != nil {
		return err
	}
	if running := l.routerDaemons(router); len(running) > 0 {
		return fmt.Errorf("%s runs FRR already", router)
	}
	if err := l.addSecondRouter(ctx, router); err != nil {
		return err
	}
	if err := l.writeRouter(router, config); err != nil {
		return err
	}
	if err := ipBatch(ctx, l.netns(HostSwitch), "link set "+router+" up"); err != nil {
		return err
	}
	return l.runRouter(ctx, router)
}

// RestartRouter stops a router's daemons in order and starts them again with the configuration that they had.
func (l *Lab) RestartRouter(ctx context.Context, router string) error {
	if err := l.StopRouter(ctx, router); err != nil {
		return err
	}
	return l.runRouter(ctx, router)
}

// StopRouter ends a router's daemons in order: bgpd tells its peers. The router goes on forwarding by what is in the kernel's
// tables. Stopping one that does not run is no error.
func (l *Lab) StopRouter(ctx context.Context, router string) error {
	return l.endRouter(ctx, router, syscall.SIGTERM)
}

// KillRouter ends a router's daemons without a word to anybody. What they had written to the kernel's tables stays, and the
// router goes on forwarding.
func (l *Lab) KillRouter(ctx context.Context, router string) error {
	return l.endRouter(ctx, router, syscall.SIGKILL)
}

// CrashRouter takes the power from a router: its cables go dead, its daemons end without a word, and what they had written
// to the kernel's tables is gone. If another router is open, ext sends by that one as soon as its cable is dead.
func (l *Lab) CrashRouter(ctx context.Context, router string) error {
	if err := l.checkRouterThere(router); err != nil {
		return err
	}
	return errors.Join(
		ipBatch(ctx, l.netns(HostSwitch), "link set "+router+" down"),
		ipBatch(ctx, l.netns(router), "link set eth1 down"),
		l.turnFar(ctx),
		l.KillRouter(ctx, router),
		run(ctx, "ip", "-n", l.netns(router), "-4", "route", "flush", "proto", "bgp"),
		run(ctx, "ip", "-n", l.netns(router), "-6", "route", "flush", "proto", "bgp"),
	)
}

// Vtysh has FRR's shell run commands on a router, such as "show bgp summary json" or "configure terminal", and returns what it
// prints.
func (l *Lab) Vtysh(ctx context.Context, router string, commands ...string) ([]byte, error) {
	if err := checkRouter(router); err != nil {
		return nil, err
	}
	args := []string{tool("vtysh"), "--vty_socket", l.routerDir(router)}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return l.Exec(ctx, router, args...)
}

func checkRouter(name string) error {
	if name != HostRouter && name != HostRouter2 {
		return fmt.Errorf("no router %q: the routers are %s and %s", name, HostRouter, HostRouter2)
	}
	return nil
}

// checkRouterThere returns an error for a second router that nobody has started.
func (l *Lab) checkRouterThere(router string) error {
	if err := checkRouter(router); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(netnsDir, l.netns(router))); err != nil {
		return fmt.Errorf("%s was never started: %w", router, err)
	}
	return nil
}

func (l *Lab) routerDir(router string) string { return l.path("routers", router) }

func routerRecord(router, daemon string) string { return router + "." + daemon }

// routerDaemons lists the daemons of a router that run, in the order in which they are started.
func (l *Lab) routerDaemons(router string) []string {
	var running []string
	for _, daemon := range []string{daemonZebra, daemonBFD, daemonBGP} {
		if p, err := readProcess(l.recordFile(routerRecord(router, daemon))); err == nil && p.alive() {
			running = append(running, daemon)
		}
	}
	return running
}

// writeRouter writes what the daemons of a router read.
func (l *Lab) writeRouter(router string, config RouterConfig) error {
	dir := l.routerDir(router)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{daemonZebra: config.Zebra, daemonBGP: config.BGP}
	if config.BFD != "" {
		files[daemonBFD] = config.BFD
	}
	for _, daemon := range sortedKeys(files) {
		if err := writeFile(filepath.Join(dir, daemon+".conf"), []byte("log stdout\n"+files[daemon]), 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "router.json"), text, 0o644); err != nil {
		return err
	}
	// The daemons give up root's rights before they make their sockets.
	account, err := osuser.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR's own user: %w; `lab deps --install` installs FRR", err)
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	return errors.Join(err1, err2, os.Chown(dir, uid, gid))
}

// runRouter starts the daemons of a router for which writeRouter was called.
func (l *Lab) runRouter(ctx context.Context, router string) error {
	dir := l.routerDir(router)
	text, err := os.ReadFile(filepath.Join(dir, "router.json"))
	if err != nil {
		return fmt.Errorf("%s has no configuration: %w", router, err)
	}
	var config RouterConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	// What an earlier one has left would look like an answer.
	for _, pattern := range []string{"*.vty", "*.api", "*.sock"} {
		left, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, file := range left {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	for _, daemon := range []string{daemonZebra, daemonBFD, daemonBGP} {
		if _, err := os.Stat(filepath.Join(dir, daemon+".conf")); err != nil {
			continue
		}
		if err := l.startDaemon(ctx, router, daemon, config); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts one daemon and waits until it answers.
func (l *Lab) startDaemon(ctx context.Context, router, daemon string, config RouterConfig) error {
	dir := l.routerDir(router)
	file := func(name string) string { return filepath.Join(dir, name) }
	// Without -d the process stays the one that was started. -P 0: it listens nowhere but in its directory.
	args := []string{"-f", file(daemon + ".conf"), "-z", file("zserv.api"), "--vty_socket", dir, "-i", file(daemon + ".pid"), "-P", "0"}
	switch {
	case daemon == daemonBFD:
		args = append(args, "--bfdctl", file("bfdd.sock"))
	case daemon == daemonZebra && config.KeepRoutes > 0:
		args = append(args, "-r", "-K", strconv.Itoa(int(config.KeepRoutes.Seconds())))
	}
	record := routerRecord(router, daemon)
	log := l.componentLog(record)
	var before int64
	if info, err := os.Stat(log); err == nil {
		before = info.Size()
	}
	// Not the caller's context: the daemon outlives the caller.
	cmd := exec.CommandContext(context.Background(), filepath.Join(frrPrograms, daemon), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := l.RunIn(router, func() error { return l.spawn(cmd, record, log) }); err != nil {
		return fmt.Errorf("start %s of %s: %w", daemon, router, err)
	}
	err := poll(ctx, 20*time.Second, 10*time.Millisecond, daemon+" of "+router+" does not answer", func(ctx context.Context) error {
		if p, err := readProcess(l.recordFile(record)); err != nil || !p.alive() {
			return finalError{fmt.Errorf("it has ended: can user frr enter %s?", dir)}
		}
		_, err := l.Exec(ctx, router, tool("vtysh"), "--vty_socket", dir, "-d", daemon, "-c", "show version")
		return err
	})
	if err != nil {
		return withLog(err, log)
	}
	return checkDaemonLog(log, before)
}

// checkDaemonLog returns an error if a daemon has said since that position of its log that it does not understand its
// configuration: it goes on without what it does not know.
func checkDaemonLog(log string, from int64) error {
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text[min(int(from), len(text)):])) {
		if strings.Contains(line, "on config line") {
			return fmt.Errorf("%s: %s", filepath.Base(log), strings.TrimSpace(line))
		}
	}
	return nil
}

// endRouter ends the daemons of a router. Those that are told to end go in the reverse of the order in which they are started,
// so that zebra hears what bgpd says last; those that are killed all at once and zebra first, so that it says nothing.
func (l *Lab) endRouter(ctx context.Context, router string, signal syscall.Signal) error {
	if err := checkRouter(router); err != nil {
		return err
	}
	daemons := l.routerDaemons(router)
	if signal != syscall.SIGKILL {
		slices.Reverse(daemons)
	}
	var errs []error
	ending := make([]process, len(daemons))
	for i, daemon := range daemons {
		p, err := readProcess(l.recordFile(routerRecord(router, daemon)))
		if err != nil {
			return err
		}
		ending[i] = p
		errs = append(errs, p.signal(signal))
		if signal != syscall.SIGKILL && p.waitEnd(ctx, stopLimit) != nil {
			errs = append(errs, p.signal(syscall.SIGKILL))
		}
	}
	for i, daemon := range daemons {
		errs = append(errs, ending[i].waitEnd(ctx, 5*time.Second), removeDaemonState(daemon, ending[i].PID),
			os.Remove(l.recordFile(routerRecord(router, daemon))))
	}
	return errors.Join(errs...)
}

// removeDaemonState removes what a daemon of FRR keeps outside of the lab's directory.
func removeDaemonState(daemon string, pid int) error {
	return os.RemoveAll(filepath.Join(frrState, fmt.Sprintf("%s.%d", daemon, pid)))
}

// removeRouterState does so for all daemons of a lab, of which any part may be missing.
func removeRouterState(dir string) error {
	records, err := filepath.Glob(filepath.Join(dir, "run", HostRouter+"*.*"))
	errs := []error{err}
	for _, record := range records {
		if p, err := readProcess(record); err == nil {
			_, daemon, _ := strings.Cut(filepath.Base(record), ".")
			errs = append(errs, removeDaemonState(daemon, p.PID))
		}
	}
	return errors.Join(errs...)
}
