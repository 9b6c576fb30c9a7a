// Package tlsalpn01 has the settings of challenges by TLS.
package tlsalpn01

import (
	"errors"
	"time"
)

// ACMETLS1Protocol is the protocol that a certificate authority asks for, RFC 8737 section 6.2.
const ACMETLS1Protocol = "acme-tls/1"

// ChallengeOption would change how a challenge is met.
type ChallengeOption struct{}

// SetDelay returns no option.
func SetDelay(time.Duration) ChallengeOption { return ChallengeOption{} }

// ChallengeBlocks fails, because nobody asks.
func ChallengeBlocks(domain, _ string) (certificate, key []byte, err error) {
	return nil, nil, errors.New("no ACME in this program: no certificate for " + domain)
}
