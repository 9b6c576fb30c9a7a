package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// The components of the control plane, in the order in which they are started.
const (
	Etcd              = "etcd"
	APIServer         = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
)

// startLimit is how long something may take to start on a machine that is busy with other work.
const startLimit = 90 * time.Second

// A componentKind is what there is to know of one of the components, all of which run in the namespace cp.
type componentKind struct {
	name string
	// health gives the URL that answers 200 when it is ready.
	health func(*Lab) string
	// args gives the program in the multi-call binary and its flags.
	args func(*Lab) []string
}

var components = []componentKind{
	{Etcd, at("http://127.0.0.1:2379/health"), etcdArgs},
	{APIServer, func(l *Lab) string { return l.options.Families.apiURL() + "/readyz" }, apiServerArgs},
	{ControllerManager, at("https://127.0.0.1:10257/healthz"), controllerManagerArgs},
	{Scheduler, at("https://127.0.0.1:10259/healthz"), schedulerArgs},
}

// at is a URL that is the same in every lab.
func at(url string) func(*Lab) string { return func(*Lab) string { return url } }

// ComponentNames lists the components in the order in which they are started.
func ComponentNames() []string {
	names := make([]string, len(components))
	for i, c := range components {
		names[i] = c.name
	}
	return names
}

// kind returns what there is to know of the component, or an error that lists all if there is none of its
// name.
func (c *Component) kind() (componentKind, error) {
	for _, k := range components {
		if k.name == c.name {
			return k, nil
		}
	}
	return componentKind{}, fmt.Errorf("no component %q: the components are %s",
		c.name, strings.Join(ComponentNames(), ", "))
}

// Start starts a component that was stopped, and waits until it is ready.
func (c *Component) Start(ctx context.Context) error {
	if _, err := c.kind(); err != nil {
		return err
	}
	if p, err := readProcess(c.lab.recordFile(c.name)); err == nil && p.alive() {
		return fmt.Errorf("%s runs already, as process %d", c.name, p.PID)
	}
	if err := c.start(); err != nil {
		return err
	}
	return c.wait(ctx)
}

// stopLimit is how long a component may take to end before it is killed. The API server stops listening at
// once, but would wait a minute for the watches that are open.
const stopLimit = 3 * time.Second

// Stop asks the component to end, kills it if it has not after three seconds, and returns when it has ended.
// The others keep running. Stopping one that does not run is no error.
func (c *Component) Stop(ctx context.Context) error {
	if _, err := c.kind(); err != nil {
		return err
	}
	p, err := readProcess(c.lab.recordFile(c.name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if p.waitEnd(ctx, stopLimit) == nil {
		return os.Remove(c.lab.recordFile(c.name))
	}
	return c.Kill(ctx)
}

// Kill ends the component at once, without a word to anybody, and returns when it has ended. An API server
// that dies so stays in the Service by which pods reach it, and they find it again sooner than one that has
// ended in order.
func (c *Component) Kill(ctx context.Context) error {
	if _, err := c.kind(); err != nil {
		return err
	}
	p, err := readProcess(c.lab.recordFile(c.name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := p.waitEnd(ctx, 5*time.Second); err != nil {
		return fmt.Errorf("kill %s: %w", c.name, err)
	}
	return os.Remove(c.lab.recordFile(c.name))
}

// start starts the component and does not wait for it.
func (c *Component) start() error {
	kind, err := c.kind()
	if err != nil {
		return err
	}
	args := kind.args(c.lab)
	// Not the caller's context: the component outlives the caller.
	cmd := exec.CommandContext(context.Background(), c.lab.path("bin", args[0]), args[1:]...)
	cmd.Dir = c.lab.dir
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/root"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = c.lab.Host(HostControlPlane).Run(func() error {
		return c.lab.spawn(cmd, c.name, c.lab.logFile(c.name))
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	return nil
}

// wait waits until the component answers that it is ready. The error carries the end of its log.
func (c *Component) wait(ctx context.Context) error {
	kind, err := c.kind()
	if err != nil {
		return err
	}
	err = poll(ctx, startLimit, 50*time.Millisecond, c.name+" is not ready", func(ctx context.Context) error {
		if p, err := readProcess(c.lab.recordFile(c.name)); err != nil || !p.alive() {
			return finalError{errors.New("it has ended")}
		}
		return c.lab.Host(HostControlPlane).get(ctx, kind.health(c.lab), nil)
	})
	if err != nil && ctx.Err() == nil {
		return withLog(err, c.lab.logFile(c.name))
	}
	return err
}

// logFile is the log of a component, or of a daemon of a router.
func (l *Lab) logFile(name string) string { return l.path("logs", name+".log") }

// spawn starts a command whose output goes to the end of a log, keeps the record of its process, and collects
// it when it ends, if this program still lives then.
func (l *Lab) spawn(cmd *exec.Cmd, record, logFile string) error {
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process writes to it, not we
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	p, err := recordOf(cmd.Process.Pid)
	if err == nil {
		err = p.write(l.recordFile(record))
	}
	if err != nil {
		_ = cmd.Process.Kill() // without a record nobody would find it
	}
	go func() { _ = cmd.Wait() }()
	return err
}

func etcdArgs(l *Lab) []string {
	return []string{"etcd", "--data-dir=" + l.path("etcd")}
}

func apiServerArgs(l *Lab) []string {
	pki := func(name string) string { return l.path("pki", name) }
	return append([]string{
		"kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=::",
		"--advertise-address=" + l.options.Families.apiAddress().String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--tls-cert-file=" + pki("serving.crt"), "--tls-private-key-file=" + pki("serving.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--token-auth-file=" + pki("tokens.csv"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + pki("service-account.pub"),
		"--service-account-signing-key-file=" + pki("service-account.key"),
		"--service-cluster-ip-range=" + l.options.Families.serviceCIDRs(),
		// For kubectl logs and exec.
		"--kubelet-client-certificate=" + pki("kubelet-client.crt"),
		"--kubelet-client-key=" + pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		// Without these the controller manager complains every minute.
		"--requestheader-client-ca-file=" + pki("ca.crt"),
		"--requestheader-allowed-names=" + frontProxyLeaf.commonName,
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy.crt"),
		"--proxy-client-key-file=" + pki("front-proxy.key"),
		// Webhooks are called at their endpoints: cp has routes to pods, but no kube-proxy.
		"--enable-aggregator-routing=true",
		"--allow-privileged=true",
		"--profiling=false",
	}, l.options.APIServerFlags...)
}

func controllerManagerArgs(l *Lab) []string {
	return append(controllerArgs(l, "kube-controller-manager", ControllerManager),
		"--service-account-private-key-file="+l.path("pki", "service-account.key"),
		"--root-ca-file="+l.path("pki", "ca.crt"),
		"--cluster-signing-cert-file="+l.path("pki", "ca.crt"),
		"--cluster-signing-key-file="+l.path("pki", "ca.key"),
		"--cluster-cidr="+l.options.Families.clusterCIDRs(),
		"--service-cluster-ip-range="+l.options.Families.serviceCIDRs(),
		// With the default of 20 requests a second EndpointSlices lag seconds behind when there are many
		// Services.
		"--kube-api-qps=500", "--kube-api-burst=1000", "--concurrent-service-endpoint-syncs=20",
		"--node-monitor-period=1s", "--node-monitor-grace-period="+l.options.NodeGrace.String(),
	)
}

func schedulerArgs(l *Lab) []string { return controllerArgs(l, "kube-scheduler", Scheduler) }

// controllerArgs returns the flags that the controller manager and the scheduler share.
func controllerArgs(l *Lab, program, user string) []string {
	kubeconfig := l.kubeconfigOf(user)
	return []string{
		program,
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--tls-cert-file=" + l.path("pki", "serving.crt"),
		"--tls-private-key-file=" + l.path("pki", "serving.key"),
		"--leader-elect=false",
	}
}
