package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// cniPlugins is where Debian puts the CNI plugins.
const cniPlugins = "/usr/lib/cni"

// A Requirement is a Debian package of which the lab, or a person looking around in it, runs programs.
type Requirement struct {
	Package  string
	Programs []string // names to be found in PATH, or absolute paths
	Purpose  string
	// Essential requirements are needed by every Up, the others by some modes of kube-proxy, by tests and by
	// people.
	Essential bool
	// Service is the service of the system that the package would start, if only its programs are wanted.
	Service string
}

// Requirements lists what the lab wants of the machine, besides Go and what every Debian has.
func Requirements() []Requirement {
	return []Requirement{
		{"iproute2", []string{"ip"}, "namespaces, cables and routes", true, ""},
		{"containerd", []string{"containerd", "ctr", "containerd-shim-runc-v2"},
			"container runtime of the nodes", true, ""},
		{"runc", []string{"runc"}, "starts containers for containerd", true, ""},
		{"containernetworking-plugins", []string{
			cniPlugins + "/bridge", cniPlugins + "/host-local", cniPlugins + "/loopback",
		}, "connects pods", true, ""},
		{"nftables", []string{"nft"}, "rules of kube-proxy", true, ""},
		{"iptables", []string{"iptables", "ip6tables"},
			"rules of kube-proxy in iptables and IPVS mode", false, ""},
		{"ipset", []string{"ipset"}, "sets of kube-proxy in IPVS mode", false, ""},
		{"iputils-arping", []string{"arping"}, "asks for IPv4 neighbours", false, ""},
		{"iputils-ping", []string{"ping"}, "asks whether a host answers", false, ""},
		{"ndisc6", []string{"ndisc6"}, "asks for IPv6 neighbours", false, ""},
		{"tcpdump", []string{"tcpdump"}, "shows frames", false, ""},
		{"frr", []string{frrPrograms + "/zebra", frrPrograms + "/bgpd", frrPrograms + "/bfdd", "vtysh"},
			"BGP and BFD of the routers", false, "frr"},
		{"bird2", []string{"bird", "birdc"}, "another router for the tests of BGP and BFD", false, "bird"},
		{"gobgpd", []string{"gobgpd", "gobgp"}, "one more router for the tests of BGP", false, "gobgpd"},
		{"prometheus", []string{"prometheus", "promtool"}, "judges alerts and scrapes", false, "prometheus"},
		{"chromium", []string{"chromium"}, "draws the pages of the dashboard", false, ""},
		{"jq", []string{"jq"}, "reads JSON", false, ""},
		{"curl", []string{"curl"}, "fetches pages", false, ""},
		{"netcat-openbsd", []string{"nc"}, "connects, in pods of Kubernetes' own tests", false, ""},
		{"wget", []string{"wget"}, "fetches pages, in pods of Kubernetes' own tests", false, ""},
		{"procps", []string{"ps", "sysctl"}, "shows processes and kernel settings", false, ""},
	}
}

// Missing returns those programs of the requirement that this machine does not have.
func (r Requirement) Missing() []string {
	var missing []string
	for _, program := range r.Programs {
		if _, err := findTool(program); err != nil {
			missing = append(missing, program)
		}
	}
	return missing
}

// A MissingError tells which programs this machine lacks and how to install them.
type MissingError struct{ Requirements []Requirement }

// Error names each program, its Debian package and what it is for.
func (e *MissingError) Error() string {
	var text strings.Builder
	text.WriteString("this machine lacks programs that the lab needs:\n")
	for _, r := range e.Requirements {
		fmt.Fprintf(&text, "  %s (%s): in the Debian package %s\n",
			strings.Join(r.Missing(), ", "), r.Purpose, r.Package)
	}
	fmt.Fprintf(&text, "`lab deps --install` installs them, and so does: apt-get install %s",
		strings.Join(packages(e.Requirements), " "))
	return text.String()
}

// essentials lists what Up needs for a lab with kube-proxy in this mode.
func essentials(mode ProxyMode) []Requirement {
	var needed []Requirement
	for _, r := range Requirements() {
		if r.Essential || slices.Contains(mode.packages(), r.Package) {
			needed = append(needed, r)
		}
	}
	return needed
}

// checkEssentials returns a *MissingError if Up cannot work on this machine with kube-proxy in this mode.
func checkEssentials(mode ProxyMode) error {
	var missing []Requirement
	for _, r := range essentials(mode) {
		if len(r.Missing()) > 0 {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 {
		return &MissingError{missing}
	}
	return nil
}

// InstallMissing installs the Debian packages of the requirements of which a program is missing, and returns
// their names. It fetches the lists of packages only if apt-get cannot do without. What apt-get says goes to
// out.
func InstallMissing(ctx context.Context, out io.Writer) ([]string, error) {
	var missing []Requirement
	for _, r := range Requirements() {
		if len(r.Missing()) > 0 {
			missing = append(missing, r)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("packages can only be installed by root: %w", &MissingError{missing})
	}
	unwanted := services(missing)
	allow, err := denyServices(policyFile, unwanted)
	if err != nil {
		return nil, err
	}
	defer allow()
	names := packages(missing)
	install := append([]string{"install", "--yes", "--no-install-recommends"}, names...)
	if err := aptGet(ctx, out, install...); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err := errors.Join(aptGet(ctx, out, "update"), aptGet(ctx, out, install...)); err != nil {
			return nil, err
		}
	}
	for _, r := range missing {
		if still := r.Missing(); len(still) > 0 {
			return nil, fmt.Errorf("package %s is installed, but %s is still missing",
				r.Package, strings.Join(still, ", "))
		}
	}
	return names, disableServices(ctx, unwanted)
}

// policyFile is what Debian's packages ask before they start a service, see invoke-rc.d(8).
const policyFile = "/usr/sbin/policy-rc.d"

// denyServices has packages not start these services until allow is called. Where there is a policy already
// it decides.
func denyServices(file string, services []string) (allow func(), err error) {
	if len(services) == 0 {
		return func() {}, nil
	}
	// If this program is killed the file stays, so it says no more than it must. The status means: forbidden.
	text := fmt.Sprintf("#!/bin/sh\n# Written while programs for tests are installed; "+
		"may be deleted.\ncase ${1%%.service} in %s) exit 101;; esac\n",
		strings.Join(services, "|"))
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	_, err = out.WriteString(text)
	return func() { _ = os.Remove(file) }, errors.Join(err, out.Close())
}

// disableServices keeps services from being started when the machine boots.
func disableServices(ctx context.Context, services []string) error {
	var errs []error
	for _, service := range services {
		if err := run(ctx, "update-rc.d", service, "disable"); err != nil {
			errs = append(errs, fmt.Errorf("keep %s from starting at boot: %w", service, err))
		}
	}
	return errors.Join(errs...)
}

func services(requirements []Requirement) []string {
	var names []string
	for _, r := range requirements {
		if r.Service != "" {
			names = append(names, r.Service)
		}
	}
	return names
}

func aptGet(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}

func packages(requirements []Requirement) []string {
	names := make([]string, len(requirements))
	for i, r := range requirements {
		names[i] = r.Package
	}
	return names
}

// findTool finds a program in PATH or in the directories of the system's administrator, which the PATH of
// others lacks.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil || filepath.IsAbs(name) {
		return path, err
	}
	for _, dir := range filepath.SplitList(systemPath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// tool is the path of a program, or its bare name if it is not to be found: starting it then says so.
func tool(name string) string {
	if path, err := findTool(name); err == nil {
		return path
	}
	return name
}
