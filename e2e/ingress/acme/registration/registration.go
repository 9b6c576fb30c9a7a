// Package registration has what a certificate authority wants to know of an account.
package registration

// RegisterOptions are those of an account.
type RegisterOptions struct{ TermsOfServiceAgreed bool }

// RegisterEABOptions are those of an account that is bound to another one.
type RegisterEABOptions struct {
	TermsOfServiceAgreed bool
	Kid                  string
	HmacEncoded          string
}
