// Package dns01 has the settings of challenges by DNS, and how names are written there.
package dns01

import (
	"strings"
	"time"
)

// Options are those of a client.
type Options struct{ RecursiveNameservers []string }

// Client would ask name servers.
type Client struct{}

// NewClient returns a client that asks nobody.
func NewClient(*Options) *Client { return &Client{} }

// SetDefaultClient does nothing, because no client is used.
func SetDefaultClient(*Client) {}

// ChallengeOption would change how a challenge is met.
type ChallengeOption struct{}

// CondOptions returns no option.
func CondOptions(bool, ...ChallengeOption) ChallengeOption { return ChallengeOption{} }

// DisableAuthoritativeNssPropagationRequirement returns no option.
func DisableAuthoritativeNssPropagationRequirement() ChallengeOption { return ChallengeOption{} }

// DisableRecursiveNSsPropagationRequirement returns no option.
func DisableRecursiveNSsPropagationRequirement() ChallengeOption { return ChallengeOption{} }

// PropagationWait returns no option.
func PropagationWait(time.Duration, bool) ChallengeOption { return ChallengeOption{} }

// UnFqdn returns a name without the dot at its end.
func UnFqdn(name string) string { return strings.TrimSuffix(name, ".") }
