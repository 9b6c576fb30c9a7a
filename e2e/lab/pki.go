package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is longer than any lab lives.
const certificateLife = 365 * 24 * time.Hour

// An authority signs the certificates of one lab.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// A leaf says what certificate to sign.
type leaf struct {
	commonName    string
	organizations []string
	dnsNames      []string
	addresses     []string
	usage         x509.ExtKeyUsage
}

// The certificates of a control plane. The kubelets make their own, which the API server does not check.
var (
	servingLeaf = leaf{
		commonName: "kube-apiserver",
		dnsNames:   []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		addresses: []string{
			"127.0.0.1",
			"::1",
			ControlPlaneAddresses.V4.String(),
			ControlPlaneAddresses.V6.String(),
			"10.96.0.1",
			"fd96::1",
		},
		usage: x509.ExtKeyUsageServerAuth,
	}
	// kubeletClientLeaf is what the API server shows a kubelet, for logs and exec.
	kubeletClientLeaf = leaf{
		commonName:    "kubelet-client",
		organizations: []string{"system:masters"},
		usage:         x509.ExtKeyUsageClientAuth,
	}
	// frontProxyLeaf is what the API server shows an aggregated API.
	frontProxyLeaf = leaf{commonName: "front-proxy", usage: x509.ExtKeyUsageClientAuth}
)

// makeCertificates writes the authority, the certificates and the key of service accounts into dir.
func makeCertificates(dir string) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.MkdirAll(dir, 0o700),
		os.WriteFile(filepath.Join(dir, "ca.crt"), ca.pem, 0o644),
		writeKey(filepath.Join(dir, "ca.key"), ca.key),
	); err != nil {
		return err
	}
	for name, what := range map[string]leaf{
		"serving": servingLeaf, "kubelet-client": kubeletClientLeaf, "front-proxy": frontProxyLeaf,
	} {
		certificate, key, err := ca.sign(what)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", name, err)
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(dir, name+".crt"), certificate, 0o644),
			writeKey(filepath.Join(dir, name+".key"), key),
		); err != nil {
			return err
		}
	}
	return makeServiceAccountKey(dir)
}

// makeServiceAccountKey writes the pair with which the API server signs and checks tokens of service
// accounts.
func makeServiceAccountKey(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return errors.Join(
		writeKey(filepath.Join(dir, "service-account.key"), key),
		os.WriteFile(filepath.Join(dir, "service-account.pub"), block, 0o644),
	)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := template("berth-lab")
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// sign returns a certificate, PEM-encoded, and its key.
func (a *authority) sign(what leaf) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := template(what.commonName)
	template.Subject.Organization = what.organizations
	template.DNSNames = what.dnsNames
	for _, address := range what.addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{what.usage}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, nil
}

func template(commonName string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-time.Hour), // for clocks that are set back
		NotAfter:     now.Add(certificateLife),
	}
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
