// Package certificate has what an ACME client is asked for and returns.
package certificate

import "github.com/go-acme/lego/v5/certcrypto"

// Resource is a certificate with its key.
type Resource struct {
	ID          string
	Domains     []string
	PrivateKey  []byte
	Certificate []byte
}

// ObtainRequest asks for a certificate.
type ObtainRequest struct {
	Domains          []string
	EmailAddresses   []string
	KeyType          certcrypto.KeyType
	Profile          string
	PreferredChain   string
	Bundle           bool
	EnableCommonName bool
}

// RenewOptions asks for a certificate in the place of another.
type RenewOptions struct {
	EmailAddresses   []string
	Profile          string
	PreferredChain   string
	Bundle           bool
	EnableCommonName bool
}
