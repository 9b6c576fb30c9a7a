package lab

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	if err := makeCertificates(dir); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate in ca.crt")
	}
	load := func(name string) *x509.Certificate {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	serving := load("serving")
	for _, name := range []string{
		"10.77.0.2", "fd77::2", "127.0.0.1", "10.96.0.1", "fd96::1", "kubernetes.default.svc",
	} {
		if _, err := serving.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("the API server cannot be called %s: %v", name, err)
		}
	}
	if _, err := serving.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.77.0.11"}); err == nil {
		t.Error("the API server may call itself node1")
	}
	client := load("kubelet-client")
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := client.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usage}); err != nil {
		t.Error(err)
	}
	if org := client.Subject.Organization; len(org) != 1 || org[0] != "system:masters" {
		t.Errorf("the API server asks kubelets as member of %v", org)
	}
	for _, key := range []string{"ca.key", "serving.key", "service-account.key"} {
		info, err := os.Stat(filepath.Join(dir, key))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %v", key, info.Mode())
		}
	}
}
