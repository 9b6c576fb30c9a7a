package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// ErrNotRoot is returned by Up when the caller may not make namespaces.
var ErrNotRoot = errors.New("a lab makes network namespaces, mounts and control groups: " +
	"run this as root, for example with sudo")

// Up starts a lab and returns when its nodes are Ready and their kube-proxies have written their rules. What
// an earlier lab of the name left behind is removed first; the error wraps ErrRunning if one is up, and
// ErrNoIPVS if the kernel cannot do what the options ask for. The first call on a machine builds Kubernetes,
// which takes minutes; then it takes about ten seconds.
//
// If ctx ends, or anything fails, everything is taken down again; after a failure the logs stay, and the
// error says where. A *MissingError lists programs that this machine lacks.
func Up(ctx context.Context, options Options) (*Lab, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if err := options.ProxyMode.checkKernel(ctx); err != nil {
		return nil, err
	}
	if err := checkEssentials(options.ProxyMode); err != nil {
		return nil, err
	}
	progress := newProgress(options.Progress)
	if options.KubernetesBinary == "" {
		if options.KubernetesBinary, err = buildKubernetes(ctx, progress); err != nil {
			return nil, err
		}
	}
	images, err := buildImages(ctx, progress)
	if err != nil {
		return nil, err
	}
	options.Images = append(images, options.Images...)
	root, err := stateRoot()
	if err != nil {
		return nil, err
	}
	unlock, err := lockLab(ctx, root, options.Name, progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := Open(options.Name); err == nil {
		return nil, fmt.Errorf("lab %q: %w; `lab down` ends it", options.Name, ErrRunning)
	}
	l := &Lab{options: options, created: time.Now(), dir: filepath.Join(root, options.Name)}
	if err := (&builder{l, progress}).boot(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// A builder brings a lab up.
type builder struct {
	lab      *Lab
	progress *progress
}

// boot takes away leftovers and runs the steps from nothing to a lab, or takes down what it has made.
func (b *builder) boot(ctx context.Context) error {
	if err := tearDown(ctx, b.lab.dir, b.lab.options.Name, false); err != nil {
		return fmt.Errorf("remove what an earlier lab left: %w", err)
	}
	err := b.runSteps(ctx)
	if err == nil {
		return nil
	}
	keepLogs := ctx.Err() == nil
	if keepLogs {
		b.progress.say("failed, taking everything down again")
	} else {
		b.progress.say("interrupted, taking everything down again")
		err = fmt.Errorf("lab %q did not come up: %w", b.lab.options.Name, ctx.Err())
	}
	downErr := tearDown(context.WithoutCancel(ctx), b.lab.dir, b.lab.options.Name, keepLogs)
	if downErr != nil {
		return fmt.Errorf("%w\nand cleaning up failed too: %w", err, downErr)
	}
	if keepLogs {
		return fmt.Errorf("%w\nall logs are in %s", err, b.lab.path("logs"))
	}
	return err
}

func (b *builder) runSteps(ctx context.Context) error {
	for _, step := range []struct {
		done string
		run  func(context.Context) error
	}{
		{"files, certificates and kubeconfigs written", b.makeFiles},
		{"switch, router and clients connected", b.lab.Network().make},
		{"API server ready", b.startAPI},
		{"nodes started", b.startNodes},
		{"nodes ready", b.waitNodes},
		{"controllers ready", b.waitControllers},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step.run(ctx); err != nil {
			return err
		}
		b.progress.say("%s", step.done)
	}
	return b.lab.save(true)
}

// makeFiles writes everything that the processes read.
func (b *builder) makeFiles(context.Context) error {
	for _, dir := range []string{"run", "logs", "bin", "images", "nodes"} {
		if err := os.MkdirAll(b.lab.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := b.lab.save(false); err != nil {
		return err
	}
	if err := linkOrCopy(b.lab.options.KubernetesBinary, b.lab.path("bin", "kube")); err != nil {
		return fmt.Errorf("the Kubernetes binary: %w", err)
	}
	for _, program := range []string{
		"etcd",
		"kube-apiserver",
		"kube-controller-manager",
		"kube-scheduler",
		"kubelet",
		"kube-proxy",
		"idle-proxy",
		"kubectl",
	} {
		if err := os.Symlink("kube", b.lab.path("bin", program)); err != nil {
			return err
		}
	}
	for _, archive := range b.lab.options.Images {
		if _, err := b.lab.keepImage(archive); err != nil {
			return err
		}
	}
	if err := makeCertificates(b.lab.path("pki")); err != nil {
		return err
	}
	if err := makeUsers(b.lab); err != nil {
		return err
	}
	for i := range b.lab.options.Nodes {
		if err := b.lab.Node(NodeName(i + 1)).makeFiles(); err != nil {
			return err
		}
	}
	return writeFile(b.lab.path("node.sh"), nodeScript, 0o755)
}

// startAPI starts all components, and waits for etcd and the API server; the others try until they reach it.
func (b *builder) startAPI(ctx context.Context) error {
	for _, name := range []string{Etcd, APIServer} {
		if err := b.lab.Component(name).start(); err != nil {
			return err
		}
	}
	for _, name := range []string{Etcd, APIServer} {
		if err := b.lab.Component(name).wait(ctx); err != nil {
			return err
		}
	}
	return errors.Join(b.lab.Component(ControllerManager).start(), b.lab.Component(Scheduler).start())
}

func (b *builder) startNodes(ctx context.Context) error {
	for i := range b.lab.options.Nodes {
		if err := b.lab.Network().addNode(ctx, i+1); err != nil {
			return err
		}
		if err := b.lab.Node(NodeName(i + 1)).boot(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) waitNodes(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range b.lab.NodeNames() {
		group.Go(func() error { return b.lab.Node(node).wait(ctx, b.lab.created) })
	}
	return group.Wait()
}

// waitControllers waits until pods can be made.
func (b *builder) waitControllers(ctx context.Context) error {
	err := errors.Join(b.lab.Component(ControllerManager).wait(ctx), b.lab.Component(Scheduler).wait(ctx))
	if err != nil {
		return err
	}
	return poll(ctx, startLimit, 50*time.Millisecond,
		"no service account in namespace default", b.lab.API().checkDefaultServiceAccount)
}

// lockLab keeps two programs from bringing the same lab up or down at the same time. Unlocking removes the
// lock if there is no lab by then, and the directory of all labs with the last of them.
func lockLab(ctx context.Context, root, name string, progress *progress) (unlock func(), err error) {
	file := filepath.Join(root, name+".lock")
	release, err := lockFile(ctx, file, func() {
		progress.say("waiting for another program that brings lab %q up or down", name)
	})
	if err != nil {
		return nil, err
	}
	return func() {
		defer release()
		if _, err := os.Stat(filepath.Join(root, name)); errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(file)
			_ = os.Remove(root) // not empty while there are others
		}
	}, nil
}
