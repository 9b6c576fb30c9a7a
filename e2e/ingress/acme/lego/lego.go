// Package lego stands for the ACME client of Traefik. It gets no certificate: in the lab nobody gives any.
package lego

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge"
	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/go-acme/lego/v5/challenge/http01"
	"github.com/go-acme/lego/v5/challenge/tlsalpn01"
	"github.com/go-acme/lego/v5/registration"
)

// DirectoryURLLetsEncrypt is the default of a setting: a name that exists nowhere, RFC 6761 section 6.4.
const DirectoryURLLetsEncrypt = "https://acme.invalid/"

var errNone = errors.New("no ACME in this program")

// User is who asks for certificates.
type User interface {
	GetEmail() string
	GetRegistration() *acme.ExtendedAccount
	GetPrivateKey() crypto.Signer
}

// Config is what a client is made of.
type Config struct {
	CADirURL    string
	UserAgent   string
	HTTPClient  *http.Client
	Certificate CertificateConfig
}

// CertificateConfig says how long to wait for a certificate.
type CertificateConfig struct{ Timeout time.Duration }

// NewConfig returns a configuration.
func NewConfig(User) *Config { return &Config{} }

// CreateCertPool fails, because nobody needs the pool.
func CreateCertPool([]string, bool) (*x509.CertPool, error) { return nil, errNone }

// Client would get certificates.
type Client struct {
	Certificate  certifier
	Challenge    challenges
	Registration registrar
}

// NewClient fails.
func NewClient(*Config) (*Client, error) { return nil, errNone }

type certifier struct{}

func (certifier) Obtain(context.Context, certificate.ObtainRequest) (*certificate.Resource, error) {
	return nil, errNone
}

func (certifier) Renew(
	context.Context, certificate.Resource, *certificate.RenewOptions,
) (*certificate.Resource, error) {
	return nil, errNone
}

type challenges struct{}

func (challenges) SetDNS01Provider(challenge.Provider, ...dns01.ChallengeOption) error {
	return errNone
}

func (challenges) SetHTTP01Provider(challenge.Provider, ...http01.ChallengeOption) error {
	return errNone
}

func (challenges) SetTLSALPN01Provider(challenge.Provider, ...tlsalpn01.ChallengeOption) error {
	return errNone
}

type registrar struct{}

func (registrar) Register(context.Context, registration.RegisterOptions) (*acme.ExtendedAccount, error) {
	return nil, errNone
}

func (registrar) RegisterWithExternalAccountBinding(
	context.Context, registration.RegisterEABOptions,
) (*acme.ExtendedAccount, error) {
	return nil, errNone
}
