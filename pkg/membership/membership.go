package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/membership/kv"
)

// What a member can publish.
const (
	// MaxKey is the largest size of a key in bytes.
	MaxKey = kv.MaxKey
	// MaxValue is the largest size of a value in bytes.
	MaxValue = kv.MaxValue
	// MaxEntries is how many keys a member can have.
	MaxEntries = kv.MaxEntries
)

// Membership is this node's part in the cluster of speakers. Its methods may be
// called from any goroutine.
type Membership struct {
	config Config
	log    *slog.Logger
	keys   *keyring
	view   *view
	lines  *logWriter
	// transport is what memberlist sends with, a new one when it is nil; tests cut
	// wires.
	transport memberlist.Transport
	// hosts are the addresses that belong to the cluster, counter what came from all.
	hosts   hosts
	counter counter
	// peersSet and nodesSet wake Run to read them.
	peersSet, nodesSet notify.Signal

	mu      sync.Mutex
	started bool
	ran     bool                   // it has tried to listen, so others may have heard it
	list    *memberlist.Memberlist // while Run runs
	nodes   []netip.Addr
	settled bool
}

// New returns a member that listens nowhere yet. The error names everything that
// is wrong with config.
func New(config Config) (*Membership, error) {
	config = config.withDefaults()
	keys, keyErr := newKeyring(config.Keys)
	if err := errors.Join(config.validate(), keyErr); err != nil {
		return nil, fmt.Errorf("membership: %w", err)
	}
	config.Keys = nil // the ring has them
	return &Membership{
		config:   config,
		log:      config.Logger,
		keys:     keys,
		view:     newView(config.Name),
		lines:    newLogWriter(config.Logger),
		peersSet: notify.NewSignal(),
		nodesSet: notify.NewSignal(),
	}, nil
}

// Run takes part in the cluster until ctx ends. It then leaves, for a second at most, so
// that the others need not detect a failure, and returns nil when nothing listens, sends or
// logs any longer; the last goroutines of memberlist end within a probe interval. It
// returns an error when it cannot listen, and may run again then; else it can run once.
func (m *Membership) Run(ctx context.Context) error {
	m.mu.Lock()
	started := m.started
	m.started = true
	m.mu.Unlock()
	if started {
		return errors.New("membership: already ran")
	}
	l, err := m.listen()
	if err != nil {
		m.mu.Lock()
		m.started = false
		m.mu.Unlock()
		return err
	}
	l.work(ctx)
	l.leave()
	l.end()
	return nil
}

// listen makes this member one of the cluster, of which nobody knows yet.
func (m *Membership) listen() (*loop, error) {
	m.mu.Lock()
	m.ran = true
	m.mu.Unlock()
	m.view.publish(lifeKey, lifeValue(lifeHere, m.address()))
	m.hosts.know(m.config.AdvertiseAddr)
	if m.transport == nil {
		transport, err := newTransport(m)
		if err != nil {
			return nil, fmt.Errorf("membership: %w", err)
		}
		m.transport = transport
	}
	list, err := memberlist.Create(m.memberlistConfig())
	if err != nil {
		_ = m.transport.Shutdown()
		m.transport = nil // the next Run has another
		return nil, fmt.Errorf("membership: listen on %s port %d: %w", m.config.BindAddr, m.config.Port, err)
	}
	m.setRunning(list)
	return newLoop(m, list), nil
}

// address returns where others reach this member.
func (m *Membership) address() netip.AddrPort {
	return netip.AddrPortFrom(m.config.AdvertiseAddr, m.config.Port)
}

func (m *Membership) setRunning(list *memberlist.Memberlist) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = list
}

// running returns the memberlist, nil when Run does not run.
func (m *Membership) running() *memberlist.Memberlist {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list
}

// SetPeers sets where the speakers of the cluster are, all of them; this one may
// be among them or not. Peers that are not alive are asked to join at once and
// then every RejoinInterval, and so are members that died, for as long as anything
// of them is remembered. Members that are no peers stay members: whether a speaker
// is alive does not depend on what the caller knows of it.
func (m *Membership) SetPeers(peers []netip.AddrPort) {
	var others []netip.AddrPort
	for _, p := range peers {
		p = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
		if p.IsValid() && p != m.address() {
			others = append(others, p)
		}
	}
	slices.SortFunc(others, netip.AddrPort.Compare)
	if m.view.setPeers(slices.Compact(others)) {
		m.peersSet.Set()
	}
}

// SetNodes sets which addresses the nodes of the cluster have, those without a
// speaker too. Connections and packets from these, from peers and from members have
// room of their own, which strangers cannot take; others have some too, as a node may
// be new, or have an address that nobody knows.
func (m *Membership) SetNodes(addresses []netip.Addr) {
	nodes := make([]netip.Addr, 0, len(addresses))
	for _, addr := range addresses {
		if addr.IsValid() {
			nodes = append(nodes, addr.Unmap().WithZone(""))
		}
	}
	slices.SortFunc(nodes, netip.Addr.Compare)
	nodes = slices.Compact(nodes)
	m.mu.Lock()
	changed := !slices.Equal(m.nodes, nodes)
	m.nodes = nodes
	m.mu.Unlock()
	if changed {
		m.nodesSet.Set()
	}
}

// knownNodes returns a copy of the addresses that were set.
func (m *Membership) knownNodes() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.nodes)
}

// Members returns the members that are known, sorted by name: this one, those that
// are alive, and those that left or died for as long as anything of them is
// remembered, which is an hour, and longer while they are peers. It is empty before
// and after Run. It is cheap enough to be called after each value of Changed.
func (m *Membership) Members() []Member { return m.view.list() }

// Publish has all others know a value of this member: under the key, in place of the one
// before. A nil value deletes the key; an empty one is a value. It may be
// called before Run. What is published after a quiet time is on its way at once, and
// what follows within 5 ms; those who were cut off learn it when they are back. It
// stays known to the others when this member has left or died, and comes back to it
// when it starts again, until it publishes something else. A key has 1 to MaxKey bytes,
// a value at most MaxValue; it is an error when they have not, and when this member has
// more than MaxEntries keys.
func (m *Membership) Publish(key string, value []byte) error {
	if err := validateEntry(key, value); err != nil {
		return err
	}
	if !m.view.publish(key, value) {
		return errTooMuch
	}
	return nil
}

// PublishPrefix makes what this member publishes under the prefix exactly this: other keys that
// begin so are deleted, also those from before a restart of which it has yet to learn.
// The keys of values include the prefix; nil values are not possible. When it returns an
// error because of a key or a value, nothing was published.
func (m *Membership) PublishPrefix(prefix string, values map[string][]byte) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := validateEntry(key, values[key]); err != nil {
			return err
		}
		if !strings.HasPrefix(key, prefix) {
			return fmt.Errorf("membership: key %q does not begin with %q", key, prefix)
		}
		if values[key] == nil {
			return fmt.Errorf("membership: key %q has no value", key)
		}
	}
	if !m.view.publishPrefix(prefix, values) {
		return errTooMuch
	}
	return nil
}

var errTooMuch = fmt.Errorf("membership: more than %d keys", kv.DefaultLimits.Entries)

func validateEntry(key string, value []byte) error {
	switch {
	case key == "" || len(key) > MaxKey:
		return fmt.Errorf("membership: key %q has %d bytes, not 1 to %d", key, len(key), MaxKey)
	case len(value) > MaxValue:
		return fmt.Errorf("membership: value of key %q has %d bytes, at most %d are possible",
			key, len(value), MaxValue)
	}
	return nil
}

// SetKeys replaces the keys while members talk. Members may learn of them at different
// times, of several changes or of one alone: a first key that was not known before encrypts
// only when another member is heard to use it, or after ten seconds, by when all should
// have it; and a removed key still decrypts for five minutes. A member that does not get
// the new key within that time can no longer talk to the others. Before Run they replace
// those of the Config at once. It is an error when there is no key or one has an impossible
// length; nothing changes then.
func (m *Membership) SetKeys(keys [][]byte) error {
	m.mu.Lock()
	ran := m.ran
	m.mu.Unlock()
	var err error
	if ran {
		err = m.keys.set(keys, time.Now())
	} else {
		err = m.keys.begin(keys)
	}
	if err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

// Changed returns a channel of one: a value means that Members, with what they publish,
// or Settled may be something else than when the last value was taken. There is one
// channel for all callers.
func (m *Membership) Changed() <-chan struct{} { return m.view.changed.C() }

// Settled reports whether this member knows enough to act as one of the cluster: it has
// exchanged all that is known with another member, or every known peer was tried and none
// answers in a format that this version reads, or SetPeers has set an empty list. Before
// that, being alone in Members means nothing. Once true it stays so.
func (m *Membership) Settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

// settle makes Settled true.
func (m *Membership) settle(why string) {
	m.mu.Lock()
	was := m.settled
	m.settled = true
	m.mu.Unlock()
	if !was {
		m.log.Info("membership settled", "message", why)
		m.view.changed.Set()
	}
}
