// Package http01 has the settings of challenges by HTTP.
package http01

import "time"

// PathPrefix is where a certificate authority asks, RFC 8555 section 8.3.
const PathPrefix = "/.well-known/acme-challenge/"

// ChallengeOption would change how a challenge is met.
type ChallengeOption struct{}

// SetDelay returns no option.
func SetDelay(time.Duration) ChallengeOption { return ChallengeOption{} }
