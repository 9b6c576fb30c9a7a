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

// A RouterConfig says how FRR runs on a router. The texts are configuration files of its daemons, in FRR's
// own words.
type RouterConfig struct {
	// Zebra installs routes in the kernel; it may be empty.
	Zebra string `json:"-"`
	// BGP is bgpd's.
	BGP string `json:"-"`
	// BFD is bfdd's, which runs only if this is not empty. One comment is enough.
	BFD string `json:"-"`
	// KeepRoutes is how long zebra leaves alone what it finds in the kernel's tables when it starts, and it
	// leaves there what it has when it ends. 0: it takes routes away when it ends and when it starts.
	KeepRoutes time.Duration `json:"keepRoutes"`
}

// The daemons of FRR that a router may run, in the order in which they are started.
const (
	daemonZebra = "zebra"
	daemonBFD   = "bfdd"
	daemonBGP   = "bgpd"
)

// frrPrograms is where Debian puts the daemons of FRR; frrState is where each keeps a directory of its own,
// which one that is killed leaves behind.
const (
	frrPrograms = "/usr/lib/frr"
	frrState    = "/var/tmp/frr"
)

// Start runs FRR on the router and returns when its daemons answer; its sessions come up after that. The
// router's port at the switch is plugged in. The cable to ext of a router that crashed, and of a second one
// that is new, is not: see Open. The error tells of lines that a daemon does not understand.
func (r *Router) Start(ctx context.Context, config RouterConfig) error {
	if err := r.check(); err != nil {
		return err
	}
	if running := r.daemons(); len(running) > 0 {
		return fmt.Errorf("%s runs FRR already", r.name)
	}
	if err := r.lab.Network().addSecondRouter(ctx, r.name); err != nil {
		return err
	}
	if err := r.write(config); err != nil {
		return err
	}
	if err := ipBatch(ctx, r.lab.netns(HostSwitch), "link set "+r.name+" up"); err != nil {
		return err
	}
	return r.run(ctx)
}

// Restart stops the router's daemons in order and starts them again with the configuration that they had.
func (r *Router) Restart(ctx context.Context) error {
	if err := r.Stop(ctx); err != nil {
		return err
	}
	return r.run(ctx)
}

// Stop ends the router's daemons in order: bgpd tells its peers. The router goes on forwarding by what is in
// the kernel's tables. Stopping one that does not run is no error.
func (r *Router) Stop(ctx context.Context) error {
	return r.end(ctx, syscall.SIGTERM)
}

// Kill ends the router's daemons without a word to anybody. What they had written to the kernel's tables
// stays, and the router goes on forwarding.
func (r *Router) Kill(ctx context.Context) error {
	return r.end(ctx, syscall.SIGKILL)
}

// Crash takes the power from the router: its cables go dead, its daemons end without a word, and what they
// had written to the kernel's tables is gone. If another router is open, ext sends by that one as soon as its
// cable is dead.
func (r *Router) Crash(ctx context.Context) error {
	if err := r.checkThere(); err != nil {
		return err
	}
	return errors.Join(
		ipBatch(ctx, r.lab.netns(HostSwitch), "link set "+r.name+" down"),
		ipBatch(ctx, r.netns(), "link set eth1 down"),
		r.lab.Network().turnFar(ctx),
		r.Kill(ctx),
		run(ctx, "ip", "-n", r.netns(), "-4", "route", "flush", "proto", "bgp"),
		run(ctx, "ip", "-n", r.netns(), "-6", "route", "flush", "proto", "bgp"),
	)
}

// Vtysh has FRR's shell run commands on the router, such as "show bgp summary json" or "configure terminal",
// and returns what it prints.
func (r *Router) Vtysh(ctx context.Context, commands ...string) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	args := []string{tool("vtysh"), "--vty_socket", r.dir()}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return r.Exec(ctx, args...)
}

func (r *Router) dir() string { return r.lab.path("routers", r.name) }

func routerRecord(router, daemon string) string { return router + "." + daemon }

// daemons lists the daemons of the router that run, in the order in which they are started.
func (r *Router) daemons() []string {
	var running []string
	for _, daemon := range []string{daemonZebra, daemonBFD, daemonBGP} {
		if p, err := readProcess(r.lab.recordFile(routerRecord(r.name, daemon))); err == nil && p.alive() {
			running = append(running, daemon)
		}
	}
	return running
}

// write writes what the daemons of the router read.
func (r *Router) write(config RouterConfig) error {
	dir := r.dir()
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
		err := writeFile(filepath.Join(dir, daemon+".conf"), []byte("log stdout\n"+files[daemon]), 0o644)
		if err != nil {
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

// run starts the daemons of a router for which write was called.
func (r *Router) run(ctx context.Context) error {
	dir := r.dir()
	text, err := os.ReadFile(filepath.Join(dir, "router.json"))
	if err != nil {
		return fmt.Errorf("%s has no configuration: %w", r.name, err)
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
		if err := r.startDaemon(ctx, daemon, config); err != nil {
			return err
		}
	}
	return nil
}

// startDaemon starts one daemon and waits until it answers.
func (r *Router) startDaemon(ctx context.Context, daemon string, config RouterConfig) error {
	dir := r.dir()
	file := func(name string) string { return filepath.Join(dir, name) }
	// Without -d the process stays the one that was started. -P 0: it listens nowhere but in its directory.
	args := []string{
		"-f", file(daemon + ".conf"), "-z", file("zserv.api"), "--vty_socket", dir,
		"-i", file(daemon + ".pid"), "-P", "0",
	}
	switch {
	case daemon == daemonBFD:
		args = append(args, "--bfdctl", file("bfdd.sock"))
	case daemon == daemonZebra && config.KeepRoutes > 0:
		args = append(args, "-r", "-K", strconv.Itoa(int(config.KeepRoutes.Seconds())))
	}
	record := routerRecord(r.name, daemon)
	log := r.lab.logFile(record)
	var before int64
	if info, err := os.Stat(log); err == nil {
		before = info.Size()
	}
	// Not the caller's context: the daemon outlives the caller.
	cmd := exec.CommandContext(context.Background(), filepath.Join(frrPrograms, daemon), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := r.Run(func() error { return r.lab.spawn(cmd, record, log) }); err != nil {
		return fmt.Errorf("start %s of %s: %w", daemon, r.name, err)
	}
	failure := daemon + " of " + r.name + " does not answer"
	err := poll(ctx, 20*time.Second, 10*time.Millisecond, failure, func(ctx context.Context) error {
		if p, err := readProcess(r.lab.recordFile(record)); err != nil || !p.alive() {
			return finalError{fmt.Errorf("it has ended: can user frr enter %s?", dir)}
		}
		_, err := r.Exec(ctx, tool("vtysh"), "--vty_socket", dir, "-d", daemon, "-c", "show version")
		return err
	})
	if err != nil {
		return withLog(err, log)
	}
	return checkDaemonLog(log, before)
}

// checkDaemonLog returns an error if a daemon has said since that position of its log that it does not
// understand its configuration: it goes on without what it does not know.
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

// end ends the daemons of the router. Those that are told to end go in the reverse of the order in which they
// are started, so that zebra hears what bgpd says last; those that are killed all at once and zebra first, so
// that it says nothing.
func (r *Router) end(ctx context.Context, signal syscall.Signal) error {
	if err := r.check(); err != nil {
		return err
	}
	daemons := r.daemons()
	if signal != syscall.SIGKILL {
		slices.Reverse(daemons)
	}
	var errs []error
	ending := make([]process, len(daemons))
	for i, daemon := range daemons {
		p, err := readProcess(r.lab.recordFile(routerRecord(r.name, daemon)))
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
			os.Remove(r.lab.recordFile(routerRecord(r.name, daemon))))
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
