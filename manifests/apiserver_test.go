package manifests

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/controller/definitions"
	"github.com/berth-lb/berth/internal/kube"
)

// apiServer is a real API server with the definitions of Berth's kinds, on the
// loopback interface of this machine. Nothing else of a cluster is there.
type apiServer struct {
	client.Client
	config *rest.Config
}

// newAPIServer starts etcd and an API server for one test. The program is that of the
// lab: $BERTH_KUBE, or the newest that `bin/lab build` has made.
func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	if testing.Short() {
		t.Skip("a real API server takes ten seconds to start")
	}
	program := kubernetesBinary()
	if program == "" {
		t.Skip("no Kubernetes to ask: it is built by bin/lab build, or named by $BERTH_KUBE")
	}

	dir := t.TempDir()
	token := writeCredentials(t, dir)
	ports := freePorts(t)
	etcd, peer, secure := ports[0], ports[1], ports[2]
	run(t, program, "etcd", "--data-dir="+filepath.Join(dir, "etcd"),
		"--client-url=http://127.0.0.1:"+etcd, "--peer-url=http://127.0.0.1:"+peer)
	output := run(t, program, "kube-apiserver",
		"--etcd-servers=http://127.0.0.1:"+etcd,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port="+secure,
		"--cert-dir="+dir,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+filepath.Join(dir, "sa.pem"),
		"--service-account-signing-key-file="+filepath.Join(dir, "sa.pem"),
		"--token-auth-file="+filepath.Join(dir, "tokens.csv"),
		"--authorization-mode=AlwaysAllow",
		"--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none",
	)

	s := &apiServer{config: &rest.Config{
		Host:            "https://127.0.0.1:" + secure,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it has signed its certificate itself
		QPS:             -1,
	}}
	until(t, output, "the API server answers", func(ctx context.Context) error {
		var err error
		s.Client, err = client.New(s.config, client.Options{Scheme: kube.Scheme()})
		if err != nil {
			return err
		}
		return s.Get(ctx, client.ObjectKey{Name: "default"}, object("v1", "Namespace", ""))
	})
	s.define(t, output)
	return s
}

// define creates the definitions of all kinds, and waits until they are served.
func (s *apiServer) define(t *testing.T, output *syncBuffer) {
	t.Helper()
	for _, d := range documents(t, "crds/berth.io_*.yaml") {
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(d.text, &crd.Object); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), crd); err != nil {
			t.Fatalf("%s: %v", d.file, err)
		}
		kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
		until(t, output, kind+" is served", func(ctx context.Context) error {
			list := &unstructured.UnstructuredList{}
			list.SetAPIVersion("berth.io/v1beta1")
			list.SetKind(kind + "List")
			err := s.List(ctx, list)
			if meta.IsNoMatchError(err) { // the client remembers what there was
				s.Client, err = client.New(s.config, client.Options{Scheme: kube.Scheme()})
				if err == nil {
					err = s.List(ctx, list)
				}
			}
			return err
		})
	}
}

// TestDefinitionsAreUpToDateOnceInstalled: what the API server makes of the definitions is
// not taken for older ones.
func TestDefinitionsAreUpToDateOnceInstalled(t *testing.T) {
	s := newAPIServer(t)
	own, err := definitions.Own()
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range own {
		installed := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", crd.GetName())
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(crd), installed); err != nil {
			t.Fatal(err)
		}
		if lacks := definitions.Behind(crd, installed); len(lacks) > 0 {
			t.Errorf("%s is installed and taken for an older one: %q", crd.GetName(), lacks)
		}
	}
}

// apply creates an object as kubectl does, which has the server refuse unknown fields.
func (s *apiServer) apply(t *testing.T, o client.Object) error {
	t.Helper()
	return s.Create(t.Context(), o, client.FieldValidation(metav1.FieldValidationStrict))
}

// object is an empty object of a kind.
func object(apiVersion, kind, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetName(name)
	return o
}

// of is an object of one of Berth's kinds, with a spec in YAML.
func of(t *testing.T, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	o := object("berth.io/v1beta1", kind, name)
	var value map[string]any
	if err := yaml.Unmarshal([]byte(spec), &value); err != nil {
		t.Fatal(err)
	}
	o.Object["spec"] = value
	return o
}

// kubernetesBinary is the path of the lab's Kubernetes, "" where there is none.
func kubernetesBinary() string {
	if path := os.Getenv("BERTH_KUBE"); path != "" {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	paths, _ := filepath.Glob(filepath.Join(cache, "berth-lab", "kube-v*"))
	newest, at := "", time.Time{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o111 != 0 && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
	}
	return newest
}

// writeCredentials writes the key that signs tokens of service accounts, and the token
// of an administrator, which it returns.
func writeCredentials(t *testing.T, dir string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	token := hex.EncodeToString(random)
	for name, text := range map[string]string{
		"sa.pem":     string(block),
		"tokens.csv": token + ",admin,admin,system:masters\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return token
}

// freePorts returns TCP ports of the loopback interface that nobody listens on.
func freePorts(t *testing.T) (ports [3]string) {
	t.Helper()
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // not before all are chosen, so that they differ
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	return ports
}

// run starts a program that ends with the test, and returns what it writes.
func run(t *testing.T, program string, args ...string) *syncBuffer {
	t.Helper()
	output := &syncBuffer{}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return output
}

// until repeats what is asked until it succeeds.
func until(t *testing.T, output *syncBuffer, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not seen: %s: %v\nthe API server wrote:\n%s", what, err, output)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// syncBuffer is a buffer that several goroutines may use.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

// String returns the end of what was written.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.buffer.String()
	return text[max(0, len(text)-8000):]
}

// valid are specs of all kinds that users write.
var valid = map[string]string{
	"IPAddressPool":    "{addresses: [192.0.2.0/24]}",
	"L2Advertisement":  "{}",
	"BGPPeer":          "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1}",
	"BGPAdvertisement": "{}",
	"BFDProfile":       "{}",
	"Community":        "{}",
}

// TestAPIServer asks a real API server what the definitions of Berth's kinds mean.
func TestAPIServer(t *testing.T) {
	s := newAPIServer(t)
	t.Run("a new object has been observed by nobody", s.testNotObserved)
	t.Run("tables", s.testTables)
	t.Run("defaults", s.testDefaults)
	t.Run("what is refused", s.testRefused)
	t.Run("samples are accepted", s.testSamples)
	t.Run("imports are accepted", s.testImports)
	t.Run("what others are configured with is read", s.testForeign)
}

// testNotObserved: whoever reads a new object sees that the controller has not read
// it, whatever its author has written of its status.
func (s *apiServer) testNotObserved(t *testing.T) {
	for kind, spec := range valid {
		for _, claims := range []string{"no status", "a status"} {
			name := strings.ReplaceAll(claims, " ", "-")
			o := of(t, kind, name, spec)
			if claims == "a status" {
				o.Object["status"] = map[string]any{"observedGeneration": int64(1)}
			}
			if err := s.apply(t, o); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			list := &unstructured.UnstructuredList{}
			list.SetAPIVersion("berth.io/v1beta1")
			list.SetKind(kind + "List")
			if err := s.List(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			for _, found := range list.Items {
				if got := observed(found); found.GetGeneration() != 1 || got != "-1" {
					t.Errorf("%s written with %s: generation %d, observed %s, want 1 and -1",
						kind, claims, found.GetGeneration(), got)
				}
			}

			// What the controller writes then counts, and an edit is seen as one.
			found := object("berth.io/v1beta1", kind, name)
			if err := s.Get(t.Context(), client.ObjectKey{Name: name}, found); err != nil {
				t.Fatal(err)
			}
			found.Object["status"] = map[string]any{"observedGeneration": found.GetGeneration()}
			if err := s.Status().Update(t.Context(), found); err != nil {
				t.Fatal(err)
			}
			if got := observed(*found); got != "1" {
				t.Errorf("%s: observed %s after the controller has written 1", kind, got)
			}
			if err := s.Delete(t.Context(), found); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// observed is what the status of an object says of which version it is about.
func observed(o unstructured.Unstructured) string {
	n, found, err := unstructured.NestedInt64(o.Object, "status", "observedGeneration")
	if err != nil || !found {
		return fmt.Sprintf("nothing (%v)", err)
	}
	return fmt.Sprint(n)
}

// row is what a table of kubectl prints of an object, by the names of the columns;
// those that only -o wide prints are in it too.
func (s *apiServer) row(t *testing.T, resource, name string) map[string]string {
	t.Helper()
	hc, err := rest.HTTPClientFor(s.config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		s.config.Host+"/apis/berth.io/v1beta1/"+resource+"/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := hc.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var table metav1.Table
	if err := json.NewDecoder(response.Body).Decode(&table); err != nil || len(table.Rows) != 1 {
		t.Fatalf("%s %s: %s, %v", resource, name, response.Status, err)
	}
	out := map[string]string{}
	for i, column := range table.ColumnDefinitions {
		out[column.Name] = fmt.Sprint(table.Rows[0].Cells[i])
	}
	return out
}

// create has an object with a spec and a status at the server.
func (s *apiServer) create(t *testing.T, kind, name, spec, status string) {
	t.Helper()
	o := of(t, kind, name, spec)
	if err := s.apply(t, o); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	t.Cleanup(func() { _ = s.Delete(context.Background(), o) })
	if status == "" {
		return
	}
	var value map[string]any
	if err := yaml.Unmarshal([]byte(status), &value); err != nil {
		t.Fatal(err)
	}
	o.Object["status"] = value
	if err := s.Status().Update(t.Context(), o); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
}

// testTables: what an operator looks for stands in the table.
func (s *apiServer) testTables(t *testing.T) {
	for _, test := range []struct {
		kind, resource, spec, status string
		want                         map[string]string
	}{
		{
			"IPAddressPool", "ipaddresspools", "{addresses: [192.0.2.0/24], drain: true}",
			"{assigned: 3, availableIPv4: 253, availableIPv6: 0, outOfRangeCount: 2}",
			map[string]string{
				"Drain":          "true",
				"Out Of Range":   "2",
				"Assigned":       "3",
				"Available IPv4": "253",
				"Auto Assign":    "true",
			},
		},
		{
			"L2Advertisement", "l2advertisements", "{}",
			`{summary: {pools: "*", nodes: "*", interfaces: by subnet}}`,
			map[string]string{"Pools": "*", "Nodes": "*", "Interfaces": "by subnet", "Failback": "Never"},
		},
		{
			"BGPAdvertisement", "bgpadvertisements", "{}",
			`{summary: {pools: "lan,gold", nodes: "*", peers: "*"}}`,
			map[string]string{"Pools": "lan,gold", "Peers": "*", "Nodes": "*"},
		},
		{
			"BGPPeer", "bgppeers", valid["BGPPeer"], "{sessions: 3, established: 2, families: [IPv4]}",
			map[string]string{"Sessions": "3", "Established": "2", "Families": `["IPv4"]`},
		},
		{
			"BFDProfile", "bfdprofiles", "{}", "",
			map[string]string{"Transmit": "300ms", "Receive": "300ms", "Multiplier": "3"},
		},
		{
			"Community", "communities",
			"{communities: [{name: a, value: '65000:1'}, {name: b, value: '65000:2'}]}",
			`{summary: {aliases: "a,b"}}`,
			map[string]string{"Aliases": "a,b"},
		},
	} {
		s.create(t, test.kind, "table", test.spec, test.status)
		got := s.row(t, test.resource, "table")
		for column, want := range test.want {
			if got[column] != want {
				t.Errorf("%s: column %q has %q, want %q; the row is %v",
					test.kind, column, got[column], want, got)
			}
		}
	}
}

// testDefaults: what is left out is there, with the value that counts, also where all
// of spec is left out.
func (s *apiServer) testDefaults(t *testing.T) {
	for _, test := range []struct{ kind, path, want string }{
		{"L2Advertisement", "spec.failback", "Never"},
		{"BGPAdvertisement", "spec.aggregationLength", "32"},
		{"BFDProfile", "spec.receiveInterval", "300ms"},
		{"BFDProfile", "spec.echoInterval", "50ms"},
		{"BFDProfile", "spec.minimumTtl", "254"},
	} {
		o := object("berth.io/v1beta1", test.kind, "without-spec")
		if err := s.apply(t, o); err != nil {
			t.Fatalf("%s: %v", test.kind, err)
		}
		value, _, _ := unstructured.NestedFieldNoCopy(o.Object, strings.Split(test.path, ".")...)
		if got := fmt.Sprint(value); got != test.want {
			t.Errorf("%s: %s is %s, want %s", test.kind, test.path, got, test.want)
		}
		if err := s.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

// testRefused: what one object can decide alone is refused when it is applied, in
// words that say what is wrong. More of it is in the lab suite.
func (s *apiServer) testRefused(t *testing.T) {
	const router = "myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1"
	for _, test := range []struct{ kind, spec, says string }{
		{"IPAddressPool", "{addresses: [192.0.2.0/24], quotaPerNamespace: 0}", "greater than or equal to 1"},
		{"IPAddressPool", "{addresses: [192.0.2.0/24], reuseDelay: -1s}", "must be from 0s to 8760h"},
		{"IPAddressPool", "{addresses: [192.0.2.0/24], onShrink: Drop}", "Unsupported value"},
		{"IPAddressPool",
			"{addresses: [192.0.2.0/24], exclude: [192.0.2.9-192.0.2.1]}", "the range is inverted"},
		{"L2Advertisement", "{failback: Sometimes}", "Unsupported value"},
		{"L2Advertisement", "{announcement: {interval: 1ms}}", "must be from 10ms to 1m"},
		{"L2Advertisement", "{announcement: {count: 0}}", "greater than or equal to 1"},
		{"L2Advertisement", "{handOver: {lingerPeriod: 1h1s}}", "must be from 0s to 1h"},
		{"L2Advertisement", "{handOver: {lingerPeriod: -1s}}", "must be from 0s to 1h"},
		{"L2Advertisement", "{handOver: {lingerPeriod: 600}}", "must be of type string"},
		{"L2Advertisement", "{handOver: {lingerPeriod: a while}}", "must be from 0s to 1h"},
		{"BGPPeer", "{myASN: 64512, peerASN: 64513}", "exactly one of peerAddress"},
		{"BGPPeer", "{myASN: 0, peerASN: 64513, peerAddress: 192.0.2.1}", "greater than or equal to 1"},
		{"BGPPeer", "{" + router + ", holdTime: 2s}", "must be 0s, or from 3s"},
		{"BGPPeer", "{" + router + ", strictBFD: true}", "strictBFD needs bfdProfile"},
		{"BGPPeer", "{myASN: 64512, dynamicASN: External, peerAddress: 192.0.2.1}", "Unsupported value"},
		{"BGPAdvertisement", "{aggregationLength: 33}", "less than or equal to 32"},
		{"BGPAdvertisement", "{aggregationLength: 24, serviceSelectors: [{}]}", "cannot be combined"},
		{"BGPAdvertisement", "{asPathPrepend: 33}", "less than or equal to 32"},
		{"BFDProfile", "{receiveInterval: 5}", "must be from 10ms to 60s"},
		{"BFDProfile", "{transmitInterval: 2m}", "must be from 10ms to 60s"},
		{"BFDProfile", "{detectMultiplier: 1}", "greater than or equal to 2"},
		{"Community", "{communities: [{name: 'a:b', value: '65000:1'}]}", "should match"},
		{"Community", "{communities: [{name: a, value: no-export}]}", "should match"},
		{"Community",
			"{communities: [{name: a, value: '65:1'}, {name: a, value: '65:2'}]}", "Duplicate value"},
	} {
		o := of(t, test.kind, "refused", test.spec)
		err := s.apply(t, o)
		if err == nil {
			t.Errorf("%s with %s is accepted", test.kind, test.spec)
			_ = s.Delete(t.Context(), o)
			continue
		}
		if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s with %s: refused with\n%v\nwant %q in it", test.kind, test.spec, err, test.says)
		}
	}
}

// testSamples: what users copy is accepted as it stands.
func (s *apiServer) testSamples(t *testing.T) {
	for _, d := range samples(t) {
		if d.kind.Group != "berth.io" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(d.text, &o.Object); err != nil {
			t.Fatal(err)
		}
		if err := s.apply(t, o); err != nil {
			t.Errorf("%s: %v", d.file, err)
		}
	}
}
