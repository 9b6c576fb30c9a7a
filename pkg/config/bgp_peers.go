package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// Defaults of what BGPPeers and BFDProfiles leave out.
const (
	DefaultHoldTime     = 90 * time.Second
	DefaultConnectTime  = 5 * time.Second
	DefaultRestartTime  = 120 * time.Second
	DefaultPeerPort     = 179
	DefaultBFDInterval  = 300 * time.Millisecond
	DefaultEchoInterval = 50 * time.Millisecond

	defaultMultiplier = 3
	defaultMinimumTTL = 254
	maxPassword       = 80 // bytes, of TCP MD5 in Linux
)

// What is in force of an object that cannot be parsed.
const (
	lastGoodStays = "Its last good version stays in force."
	notInForce    = "It is not in force."
)

// ErrNoPassword is wrapped by errors of BGPPeer.For where a Secret is missing or
// holds no password.
var ErrNoPassword = errors.New("no password")

func parseBFDProfiles(c *Config, objects []v1beta1.BFDProfile, last Config) []Problem {
	var problems []Problem
	for i := range objects {
		o := &objects[i]
		p, err := parseBFDProfile(o)
		if err != nil {
			p = lastGood(last.BFDProfiles, func(b *BFDProfile) bool { return b.object.UID == o.UID })
			problems = append(problems, invalid(KindBFDProfile, o.Name, err, whatIsInForce(p)))
		}
		if p != nil {
			c.BFDProfiles = append(c.BFDProfiles, p)
		}
	}
	slices.SortFunc(c.BFDProfiles, func(a, b *BFDProfile) int { return cmp.Compare(a.Name, b.Name) })
	return problems
}

func parseBFDProfile(o *v1beta1.BFDProfile) (*BFDProfile, error) {
	p := &BFDProfile{Name: o.Name, Passive: o.Spec.PassiveMode, object: o}
	var errs []error
	interval := func(field string, v *intstr.IntOrString, otherwise time.Duration) time.Duration {
		d, err := parseInterval(v, otherwise)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.%s: %w", field, err))
		}
		return d
	}
	p.Receive = interval("receiveInterval", o.Spec.ReceiveInterval, DefaultBFDInterval)
	p.Transmit = interval("transmitInterval", o.Spec.TransmitInterval, DefaultBFDInterval)
	if echo := interval("echoInterval", o.Spec.EchoInterval, DefaultEchoInterval); o.Spec.EchoMode {
		p.Echo = echo
	}
	number := func(field string, v *int32, from, to, otherwise int) int {
		n := otherwise
		if v != nil {
			n = int(*v)
		}
		if n < from || n > to {
			errs = append(errs, fmt.Errorf("spec.%s: %d is not from %d to %d", field, n, from, to))
		}
		return n
	}
	p.Multiplier = number("detectMultiplier", o.Spec.DetectMultiplier, 2, 255, defaultMultiplier)
	p.MinimumTTL = number("minimumTtl", o.Spec.MinimumTTL, 1, 254, defaultMinimumTTL)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// parseInterval reads a duration, or a number of milliseconds.
func parseInterval(v *intstr.IntOrString, otherwise time.Duration) (time.Duration, error) {
	if v == nil {
		return otherwise, nil
	}
	d := time.Duration(v.IntVal) * time.Millisecond
	if v.Type == intstr.String {
		var err error
		if d, err = time.ParseDuration(v.StrVal); err != nil {
			return 0, fmt.Errorf("%q is no duration such as 300ms", v.StrVal)
		}
	}
	if d < 10*time.Millisecond || d > time.Minute {
		return 0, fmt.Errorf("%s is not from 10ms to 60s", d)
	}
	return d, nil
}

func parseBGPPeers(c *Config, objects Objects, last Config) []Problem {
	var problems []Problem
	found := map[*BGPPeer][]Problem{} // of those that are understood
	for i := range objects.BGPPeers {
		o := &objects.BGPPeers[i]
		p, err := parseBGPPeer(o, objects)
		if err != nil {
			before := lastGood(last.BGPPeers, func(b *BGPPeer) bool {
				return b.object.UID == o.UID && b.unusable == nil
			})
			problem := invalid(KindBGPPeer, o.Name, err, whatIsInForce(before))
			if errors.Is(err, ErrNoPassword) {
				message := fmt.Sprintf("%s. %s", sentence(err), whatIsInForce(before))
				problem = Problem{KindBGPPeer, o.Name, v1beta1.ReasonSecretNotFound, message}
				p.unusable = err
			}
			problems = append(problems, problem)
			if before != nil {
				again := *before
				p = &again
				p.Problem, p.rival = "", nil
				if problem.Reason == v1beta1.ReasonSecretNotFound {
					p.Problem = problem.Message
				}
			}
		}
		if p == nil {
			continue
		}
		mine := p.findBFD(c, last)
		if selectsNone(p.Nodes, objects.NodeLabels) {
			mine = append(mine, NoNodeSelected(KindBGPPeer, o.Name))
		}
		if err == nil {
			found[p] = mine
		}
		c.BGPPeers = append(c.BGPPeers, p)
	}
	slices.SortFunc(c.BGPPeers, func(a, b *BGPPeer) int { return cmp.Compare(a.Name, b.Name) })
	c.findRivals()
	sameIDs := findSameRouterIDs(c, objects.NodeLabels)
	for p, mine := range found {
		if problem, same := sameIDs[p]; same {
			mine = append(mine, problem)
		}
		if p.rival != nil {
			mine = append([]Problem{p.Conflicting(p.rival)}, mine...) // the worst
		}
		if len(mine) > 0 {
			problems = append(problems, joined(mine))
		}
	}
	return problems
}

// selectsNone reports whether selectors select none of the nodes there are.
func selectsNone(selectors []labels.Selector, nodes map[string]map[string]string) bool {
	if len(selectors) == 0 || len(nodes) == 0 {
		return false
	}
	for _, set := range nodes {
		if matchesOne(selectors, set) {
			return false
		}
	}
	return true
}

// NoNodeSelected is the problem of an object the nodeSelectors of which select none.
func NoNodeSelected(kind, name string) Problem {
	return Problem{kind, name, v1beta1.ReasonNoNodeSelected,
		"spec.nodeSelectors selects no node of the cluster. Correct them, or label nodes."}
}

// findBFD finds the profile that a peer names, and returns what is wrong with it. Of one
// that was deleted, the last version stays in force: to end BFD, and so to have a failure
// of the router noticed later, somebody has to edit the peer.
func (p *BGPPeer) findBFD(c *Config, last Config) []Problem {
	p.BFD, p.profile = nil, nil
	if p.bfd == "" {
		return nil
	}
	var problems []Problem
	i, found := slices.BinarySearchFunc(c.BFDProfiles, p.bfd, func(b *BFDProfile, n string) int {
		return cmp.Compare(b.Name, n)
	})
	if found {
		p.profile = c.BFDProfiles[i]
	} else {
		inForce := "The sessions run without BFD."
		before := lastGood(last.BGPPeers, func(b *BGPPeer) bool { return b.bfd == p.bfd && b.profile != nil })
		if before != nil {
			p.profile, inForce = before.profile, "Its last version stays in force."
		}
		message := fmt.Sprintf("spec.bfdProfile: BFDProfile %s is not there or not valid. %s Create the "+
			"profile, correct the name, or take bfdProfile out of the peer.", p.bfd, inForce)
		problems = append(problems, Problem{KindBGPPeer, p.Name, v1beta1.ReasonBFDProfileNotFound, message})
	}
	p.BFD = p.profile
	if p.BFD != nil && p.multiHop && p.BFD.Echo > 0 {
		without := *p.BFD
		without.Echo = 0
		p.BFD = &without
		problems = append(problems, Problem{KindBGPPeer, p.Name, v1beta1.ReasonBFDEchoUnusable, fmt.Sprintf(
			"spec.bfdProfile: BFDProfile %s has echoMode, which does not work with a peer several hops "+
				"away. BFD runs without it. Use a profile without echoMode.", p.bfd)})
	}
	return problems
}

// parseBGPPeer reads a peer. The error wraps ErrNoPassword when the password is
// all that is missing; the peer comes with it.
func parseBGPPeer(o *v1beta1.BGPPeer, objects Objects) (*BGPPeer, error) {
	s := &o.Spec
	p := &BGPPeer{
		Name:     o.Name,
		dynamic:  string(s.DynamicASN),
		both:     s.DualStackAddressFamily,
		bfd:      s.BFDProfile,
		strict:   s.StrictBFD,
		multiHop: s.EBGPMultiHop,
		object:   o,
		peer: bgp.Peer{
			Name:        o.Name,
			Interface:   s.Interface,
			VRF:         s.VRF,
			Passive:     s.Passive,
			TTLSecurity: uint8(s.TTLSecurity),
			Offer: bgp.Offer{
				ExtendedMessage: s.Capabilities.ExtendedMessage == nil || *s.Capabilities.ExtendedMessage,
				FQDN:            s.Capabilities.FQDN,
				SoftwareVersion: s.Capabilities.SoftwareVersion,
			},
		},
	}
	errs := p.parseWho(s)
	errs = append(errs, p.parseTimes(s)...)
	var err error
	if p.Nodes, err = selectors("spec.nodeSelectors", s.NodeSelectors); err != nil {
		errs = append(errs, err)
	}
	if s.EBGPMultiHop && s.TTLSecurity != 0 {
		errs = append(errs, errors.New(
			"spec.ttlSecurity cannot be combined with ebgpMultiHop: it says itself how far away the peer is"))
	}
	if s.StrictBFD && s.BFDProfile == "" {
		errs = append(errs, errors.New("spec.strictBFD needs bfdProfile"))
	}
	if s.DisableMP && s.DualStackAddressFamily {
		errs = append(errs, errors.New("spec.disableMP contradicts dualStackAddressFamily"))
	}
	secret := secretOf(s)
	if !slices.Contains([]string{"", objects.Namespace, namespaceOfMetalLB}, secret.Namespace) {
		errs = append(errs, fmt.Errorf(
			"spec.passwordSecret.namespace: Secrets are read in namespace %q only", objects.Namespace))
	}
	if len(s.Password) > maxPassword {
		errs = append(errs, fmt.Errorf(
			"spec.password has %d bytes, and may have %d", len(s.Password), maxPassword))
	}
	if s.Password != "" && secret.Name != "" {
		errs = append(errs, errors.New("spec.password and passwordSecret exclude each other"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.peer.Password = bgp.NewPassword(s.Password)
	if secret.Name != "" && !objects.SecretsUnread {
		if p.peer.Password, err = passwordOf(secret.Name, objects.Secrets); err != nil {
			return p, fmt.Errorf("spec.passwordSecret: %w", err)
		}
	}
	return p, nil
}

// parseWho reads who the two sides are.
func (p *BGPPeer) parseWho(s *v1beta1.BGPPeerSpec) (errs []error) {
	asn := func(field string, v int64) uint32 {
		if v < 0 || v > math.MaxUint32 {
			errs = append(errs, fmt.Errorf("spec.%s: %d is no AS number from 1 to 4294967295", field, v))
		}
		return uint32(v)
	}
	p.peer.LocalASN = asn("myASN", s.MyASN)
	p.peer.PeerASN = asn("peerASN", s.PeerASN)
	p.local = asn("localASN", s.LocalASN)
	var err error
	if s.PeerAddress != "" {
		if p.peer.Address, err = parseHost(s.PeerAddress); err != nil {
			errs = append(errs, fmt.Errorf("spec.peerAddress: %w", err))
		}
	}
	if s.SourceAddress != "" {
		if p.peer.Source, err = parseHost(s.SourceAddress); err != nil {
			errs = append(errs, fmt.Errorf("spec.sourceAddress: %w", err))
		}
	}
	if s.RouterID != "" {
		if p.peer.RouterID, err = parseHost(s.RouterID); err != nil || !p.peer.RouterID.Is4() {
			errs = append(errs, fmt.Errorf("spec.routerID: %q is not written as an IPv4 address", s.RouterID))
		}
	}
	p.peer.Port = uint16(cmp.Or(s.PeerPort, DefaultPeerPort))
	if s.PeerPort < 0 || s.PeerPort > math.MaxUint16 {
		errs = append(errs, fmt.Errorf("spec.peerPort: %d is no port", s.PeerPort))
	}
	if s.TTLSecurity < 0 || s.TTLSecurity > 254 {
		errs = append(errs, fmt.Errorf("spec.ttlSecurity: %d is not from 1 to 254", s.TTLSecurity))
	}
	p.perNode = map[string]source{}
	if n := s.PerNode; n != nil {
		for field, v := range map[string]*v1beta1.NodeValue{
			"myASN":         n.MyASN,
			"peerASN":       n.PeerASN,
			"peerAddress":   n.PeerAddress,
			"sourceAddress": n.SourceAddress,
			"routerID":      n.RouterID,
		} {
			if v != nil {
				p.perNode[field] = source{v.Label, v.Annotation}
			}
		}
	}
	return append(errs, p.contradictions(s)...)
}

// contradictions returns the errors of fields that exclude each other, and of fields one of
// which is required.
func (p *BGPPeer) contradictions(s *v1beta1.BGPPeerSpec) (errs []error) {
	given := func(plain bool, field string) bool {
		_, perNode := p.perNode[field]
		return plain || perNode
	}
	if !given(s.MyASN != 0, "myASN") {
		errs = append(errs, errors.New("spec.myASN is missing"))
	}
	if given(s.PeerASN != 0, "peerASN") == (s.DynamicASN != "") {
		errs = append(errs, errors.New("give exactly one of spec.peerASN and dynamicASN"))
	}
	if given(s.PeerAddress != "", "peerAddress") == (s.Interface != "") {
		errs = append(errs, errors.New("give exactly one of spec.peerAddress and interface"))
	}
	if p.peer.Address.IsLinkLocalUnicast() {
		errs = append(errs, fmt.Errorf(
			"spec.peerAddress: %s exists on every link: give spec.interface instead", s.PeerAddress))
	}
	return errs
}

// parseTimes reads the timers.
func (p *BGPPeer) parseTimes(s *v1beta1.BGPPeerSpec) (errs []error) {
	read := func(field string, v *metav1.Duration, limit limits, otherwise time.Duration) time.Duration {
		if v == nil {
			return otherwise
		}
		if v.Duration < limit.from || v.Duration > limit.to || v.Duration%time.Second != 0 {
			errs = append(errs, fmt.Errorf("spec.%s: %s is not a number of whole seconds from %s to %s",
				field, v.Duration, limit.from, limit.to))
		}
		return v.Duration
	}
	q := &p.peer
	q.Keepalive = read("keepaliveTime", s.KeepaliveTime, limits{0, bgp.MaxTime / 3}, -1)
	hold := DefaultHoldTime
	if q.Keepalive >= 0 {
		hold = 3 * q.Keepalive
	}
	q.Hold = read("holdTime", s.HoldTime, limits{0, bgp.MaxTime}, hold)
	if q.Hold > 0 && q.Hold < bgp.MinHoldTime {
		errs = append(errs, fmt.Errorf(
			"spec.holdTime: %s is less than %s and not 0s", q.Hold, bgp.MinHoldTime))
	}
	switch {
	case q.Keepalive < 0:
		q.Keepalive = (q.Hold / 3).Truncate(time.Second)
	case q.Keepalive > q.Hold:
		errs = append(errs, fmt.Errorf(
			"spec.keepaliveTime: %s is longer than holdTime %s", q.Keepalive, q.Hold))
	case q.Keepalive == 0 && q.Hold > 0:
		errs = append(errs, errors.New(
			"spec.keepaliveTime: without keepalives the peer would end the session after holdTime"))
	}
	q.Connect = read("connectTime", s.ConnectTime, limits{time.Second, bgp.MaxTime}, DefaultConnectTime)
	if s.EnableGracefulRestart {
		restart, stale := limits{time.Second, bgp.MaxRestartTime}, limits{time.Second, bgp.MaxLongLived}
		q.GracefulRestart = read("gracefulRestartTime", s.GracefulRestartTime, restart, DefaultRestartTime)
		q.LongLived = read("longLivedStaleTime", s.LongLivedStaleTime, stale, 0)
	}
	if s.GracefulShutdownPeriod != nil {
		q.GracefulShutdown = s.GracefulShutdownPeriod.Duration
		if q.GracefulShutdown < 0 || q.GracefulShutdown > time.Minute {
			errs = append(errs, fmt.Errorf(
				"spec.gracefulShutdownPeriod: %s is not from 0s to 60s", q.GracefulShutdown))
		}
	}
	return errs
}

// limits is a range of times, both ends included.
type limits struct{ from, to time.Duration }

// namespaceOfMetalLB is where manifests that were written for MetalLB have the Secrets
// of peers. Berth reads those of its own namespace in their place.
const namespaceOfMetalLB = "metallb-system"

// secretOf returns the Secret that a peer names, without a name where it names none. Go
// clients of MetalLB's types write an empty reference where there is none.
func secretOf(s *v1beta1.BGPPeerSpec) v1beta1.SecretReference {
	if s.PasswordSecret == nil || s.PasswordSecret.Name == "" {
		return v1beta1.SecretReference{}
	}
	return *s.PasswordSecret
}

// passwordOf returns the password of a Secret. No error contains anything of it.
func passwordOf(name string, secrets []corev1.Secret) (bgp.Password, error) {
	i := slices.IndexFunc(secrets, func(s corev1.Secret) bool { return s.Name == name })
	switch {
	case i < 0:
		return bgp.Password{}, fmt.Errorf(
			"%w: Secret %s is not there: create it in Berth's own namespace, of type %s",
			ErrNoPassword, name, corev1.SecretTypeBasicAuth)
	case secrets[i].Type != corev1.SecretTypeBasicAuth:
		return bgp.Password{}, fmt.Errorf("%w: Secret %s is not of type %s, and a type cannot be changed: "+
			"delete it, and create it again with kubectl create secret generic %s --type=%s "+
			"--from-literal=password=TEXT",
			ErrNoPassword, name, corev1.SecretTypeBasicAuth, name, corev1.SecretTypeBasicAuth)
	}
	text := secrets[i].Data[corev1.BasicAuthPasswordKey]
	if len(text) == 0 || len(text) > maxPassword {
		return bgp.Password{}, fmt.Errorf("%w: key %s of Secret %s has %d bytes, and must have 1 to %d",
			ErrNoPassword, corev1.BasicAuthPasswordKey, name, len(text), maxPassword)
	}
	return bgp.NewPassword(string(text)), nil
}

// lastGood returns the version of an object that was last understood, or nil.
func lastGood[T any](list []*T, is func(*T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i]
	}
	return nil
}

func whatIsInForce[T any](last *T) string {
	if last == nil {
		return notInForce
	}
	return lastGoodStays
}
