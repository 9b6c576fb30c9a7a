// Package product installs Berth in a lab as a user does, and tells when all of it works.
package product

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/lab"
)

// Namespace is the one that the manifests use.
const Namespace = "berth-system"

// Names of the workloads in Namespace, as kubectl wants them, and of a speaker's process.
const (
	Controller     = "deployment/berth-controller"
	Speaker        = "daemonset/berth-speaker"
	SpeakerPods    = "app.kubernetes.io/component=speaker" // label selector
	SpeakerProcess = "speaker"
)

// MemberPort is the port at which speakers talk to each other.
const MemberPort = 7947

// A Patch changes the manifests before they are applied.
type Patch struct {
	// Target says which objects, as a kustomization does, in YAML: {kind: DaemonSet}.
	Target string
	// Operations are a JSON patch (RFC 6902), in YAML.
	Operations string
}

// Install loads the images that `make images` builds, applies the manifests once, and waits until every pod
// is ready. It returns how long that took from applying on. The root is the folder of the product's sources.
func Install(ctx context.Context, l *lab.Lab, root string, patches ...Patch) (time.Duration, error) {
	for _, role := range []string{"controller", "speaker"} {
		if err := l.LoadImage(ctx, filepath.Join(root, "dist", role+".tar")); err != nil {
			return 0, fmt.Errorf("load the %s image (make images builds it): %w", role, err)
		}
	}
	start := time.Now()
	if err := Apply(ctx, l, root, patches...); err != nil {
		return 0, err
	}
	for _, what := range []string{Controller, Speaker} {
		_, err := l.API().Kubectl(ctx, "rollout", "status", "-n", Namespace, what, "--timeout=60s")
		if err != nil {
			return 0, fmt.Errorf("%s is not ready after the install: %w", what, err)
		}
	}
	return time.Since(start), nil
}

// Apply applies the manifests as they are, but for the patches. Where nodes forward nothing the pods are told
// in addition where the API server is: there they cannot reach it by its Service.
func Apply(ctx context.Context, l *lab.Lab, root string, patches ...Patch) error {
	folder, err := filepath.Abs(filepath.Join(root, "manifests", "base"))
	if err != nil {
		return err
	}
	if !l.ProxyMode().Forwards() {
		patches = append(patches, toldOfAPI(l.API().Address()))
	}
	if len(patches) > 0 {
		dir, err := os.MkdirTemp("", "berth-overlay-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for such files
		if err := writeOverlay(dir, folder, patches); err != nil {
			return err
		}
		folder = dir
	}
	_, err = l.API().Kubectl(ctx, "apply", "-k", folder)
	return err
}

// toldOfAPI tells all pods where the API server is.
func toldOfAPI(api netip.AddrPort) Patch {
	return Patch{
		Target: "{kind: Deployment|DaemonSet}",
		Operations: fmt.Sprintf(`
- op: add
  path: /spec/template/spec/containers/0/env/-
  value: {name: KUBERNETES_SERVICE_HOST, value: "%s"}
- op: add
  path: /spec/template/spec/containers/0/env/-
  value: {name: KUBERNETES_SERVICE_PORT, value: "%d"}
`, api.Addr(), api.Port()),
	}
}

// writeOverlay writes a kustomization of base with patches into dir.
func writeOverlay(dir, base string, patches []Patch) error {
	// Kustomize takes no absolute paths, and follows links.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if base, err = filepath.EvalSymlinks(base); err != nil {
		return err
	}
	if base, err = filepath.Rel(dir, base); err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"+
		"resources: [%q]\npatches:\n", base)
	for _, p := range patches {
		fmt.Fprintf(&text, "- target: %s\n  patch: %q\n", p.Target, p.Operations)
	}
	return os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text.String()), 0o600)
}

// Whole returns nil when the speaker of every node works and sees all the others, else an error that says
// what is missing.
func Whole(ctx context.Context, l *lab.Lab) error {
	// Each is asked itself: what the API server knows may be from before a crash.
	for _, node := range l.NodeNames() {
		if err := speakerReady(ctx, l, node); err != nil {
			return fmt.Errorf("speaker of %s: %w", node, err)
		}
	}
	return speakersAgree(ctx, l)
}

func speakerReady(ctx context.Context, l *lab.Lab, node string) error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Node(node).Dial(ctx, network, address)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9741/readyz", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read from
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		return errors.New(string(text))
	}
	return nil
}

// speakersAgree reads the Speaker objects: all are ready and see each other.
func speakersAgree(ctx context.Context, l *lab.Lab) error {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Status struct {
				Absent     int                `json:"absentCount"`
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		} `json:"items"`
	}
	if err := l.API().Get(ctx, "/apis/berth.io/v1beta1/speakers", &list); err != nil {
		return err
	}
	if len(list.Items) != len(l.NodeNames()) {
		return fmt.Errorf("%d Speaker objects", len(list.Items))
	}
	for _, s := range list.Items {
		if s.Status.Absent != 0 {
			return fmt.Errorf("the speaker of %s misses %d others", s.Metadata.Name, s.Status.Absent)
		}
		for _, kind := range []string{"Ready", "MembersReachable"} {
			c := meta.FindStatusCondition(s.Status.Conditions, kind)
			if c == nil || c.Status != metav1.ConditionTrue {
				return fmt.Errorf("the speaker of %s is not %s: %+v", s.Metadata.Name, kind, c)
			}
		}
	}
	return nil
}
