// Package acme has the account of an ACME client.
package acme

// Account is an account at a certificate authority.
type Account struct{}

// ExtendedAccount is an account and where it is.
type ExtendedAccount struct {
	Account

	Location string
}
