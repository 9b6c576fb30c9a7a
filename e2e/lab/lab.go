package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Errors of Up and Open.
var (
	ErrRunning    = errors.New("the lab is already up")
	ErrNotRunning = errors.New("the lab is not up")
)

// A Lab is a running lab. Its methods may be called from several goroutines, and from several programs.
type Lab struct {
	options Options
	created time.Time
	dir     string // everything the lab keeps, see path
}

// state is what a lab's directory says of it, in lab.json.
type state struct {
	Options Options   `json:"options"`
	Created time.Time `json:"created"`
	// Ready is set when Up has finished. Without it the directory is a leftover.
	Ready bool `json:"ready"`
}

// Open attaches to a lab that is up. The error wraps ErrNotRunning if there is none of that name.
func Open(name string) (*Lab, error) {
	options, err := Options{Name: name}.withDefaults()
	if err != nil {
		return nil, err
	}
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	l := &Lab{options: options, dir: filepath.Join(root, options.Name)}
	var s state
	text, err := os.ReadFile(l.path("lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("lab %q: %w; `lab up` starts it", options.Name, ErrNotRunning)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path("lab.json"), err)
	}
	if l.options, err = s.Options.withDefaults(); err != nil {
		return nil, fmt.Errorf("%s: %w", l.path("lab.json"), err)
	}
	l.created = s.Created
	if !s.Ready || !l.anyAlive() {
		return nil, fmt.Errorf("lab %q: %w, only leftovers of an earlier one are there; "+
			"`lab up` replaces them, `lab down` removes them", options.Name, ErrNotRunning)
	}
	return l, nil
}

// List returns the names of the labs of which there is anything, sorted: those that are up, and leftovers.
func List() ([]string, error) {
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "*", "lab.json"))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = filepath.Base(filepath.Dir(file))
	}
	return names, nil
}

// Name tells this lab from others.
func (l *Lab) Name() string { return l.options.Name }

// Families returns the IP families of the cluster and of all hosts.
func (l *Lab) Families() Families { return l.options.Families }

// ProxyMode tells how the nodes forward what is sent to Services.
func (l *Lab) ProxyMode() ProxyMode { return l.options.ProxyMode }

// Dir is the directory that holds everything the lab keeps. Logs are in its directory logs.
func (l *Lab) Dir() string { return l.dir }

// NodeNames lists the nodes in order.
func (l *Lab) NodeNames() []string { return hostNames(l.options.Nodes)[len(fixedHosts()):] }

// HostNames lists everything that Command runs commands on: the switch, the control plane, the routers, the
// clients, the stranger, the nodes. The second router is named whether or not it is there.
func (l *Lab) HostNames() []string { return hostNames(l.options.Nodes) }

// path names something in the lab's directory. There are:
//
//	lab.json         the options, and whether Up has finished
//	run/NAME         the record of the process of a component, of process 1 of a node, or of a
//	                 router's ROUTER.DAEMON
//	logs/            NAME.log of each component and daemon; NODE/SERVICE.log of each node
//	bin/             the multi-call binary under each of its names
//	pki/, kubeconfig/  certificates, keys, tokens; one kubeconfig for each user
//	images/          what is loaded into a node when it starts
//	nodes/NODE/      configuration (etc), disk (var) and mount points (cgroup, run) of a node
//	routers/ROUTER/  configuration and sockets of a router's daemons, while it has any
//	etcd/            the database
func (l *Lab) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

func (l *Lab) recordFile(name string) string { return l.path("run", name) }

// save writes lab.json.
func (l *Lab) save(ready bool) error {
	text, err := json.MarshalIndent(state{Options: l.options, Created: l.created, Ready: ready}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(l.path("lab.json"), append(text, '\n'), 0o644)
}

// anyAlive tells whether any process of the lab runs.
func (l *Lab) anyAlive() bool {
	records, _ := filepath.Glob(l.path("run", "*"))
	for _, record := range records {
		if p, err := readProcess(record); err == nil && p.alive() {
			return true
		}
	}
	return false
}
