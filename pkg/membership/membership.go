package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// Membership is this node's part in the cluster of speakers. Its methods may be
// called from any goroutine.
type Membership struct {
	config Config
	log    *slog.Logger
	keys   *keyring
	view   *view
	lines  *logWriter
	// news tells Run that peers or meta data were set.
	news chan struct{}

	mu       sync.Mutex
	started  bool
	peers    []netip.AddrPort
	told     bool // SetPeers was called
	newMeta  bool // the meta data was not gossiped yet
	newPeers bool // the peers were not looked at yet
	settled  bool
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
		config: config,
		log:    config.Logger,
		keys:   keys,
		view:   newView(),
		lines:  newLogWriter(config.Logger),
		news:   make(chan struct{}, 1),
	}, nil
}

// Run takes part in the cluster until ctx ends. It then says goodbye, for a
// second at most, so that the others need not detect a failure, and returns nil
// when nothing listens, sends or logs any more; the last goroutines of memberlist
// end within a probe interval. It returns an error when it cannot listen. It can
// run once.
func (m *Membership) Run(ctx context.Context) error {
	m.mu.Lock()
	started := m.started
	m.started = true
	m.mu.Unlock()
	if started {
		return errors.New("membership: already ran")
	}
	list, err := memberlist.Create(m.memberlistConfig())
	if err != nil {
		return fmt.Errorf("membership: listen on %s port %d: %w", m.config.BindAddr, m.config.Port, err)
	}
	newLoop(m, list).run(ctx)
	return nil
}

// SetPeers says where the speakers of the cluster are, all of them; this one may
// be among them or not. Peers that are not alive are asked to join at once and
// then every RejoinInterval. Members that are no peers stay members: whether a
// speaker is alive does not depend on what the API tells of it.
func (m *Membership) SetPeers(peers []netip.AddrPort) {
	self := netip.AddrPortFrom(m.config.AdvertiseAddr, m.config.Port)
	var others []netip.AddrPort
	for _, p := range peers {
		p = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
		if p.IsValid() && p != self {
			others = append(others, p)
		}
	}
	slices.SortFunc(others, netip.AddrPort.Compare)
	others = slices.Compact(others)

	m.mu.Lock()
	changed := !m.told || !slices.Equal(m.peers, others)
	m.peers, m.told = others, true
	m.newPeers = m.newPeers || changed
	m.mu.Unlock()
	if changed {
		signal(m.news)
	}
}

// Members returns the members that are alive, this one included, sorted by name.
// It is empty before and after Run.
func (m *Membership) Members() []Member {
	entries := m.view.members()
	out := make([]Member, len(entries))
	for i, e := range entries {
		out[i] = e.Member
	}
	return out
}

// SetMeta says something to all members, in at most MaxMeta bytes, in place of
// what was said before. It reaches the others by gossip: within a few gossip
// intervals, and those that were cut off when they are back. It is an error when
// meta is too long.
func (m *Membership) SetMeta(meta []byte) error {
	if len(meta) > MaxMeta {
		return fmt.Errorf("membership: meta data has %d bytes, at most %d are possible", len(meta), MaxMeta)
	}
	if !m.view.setMeta(meta) {
		return nil
	}
	m.mu.Lock()
	m.newMeta = true
	m.mu.Unlock()
	signal(m.news)
	return nil
}

// SetKeys replaces the keys while members talk: the first encrypts from now on,
// and those left out are forgotten. To rotate without a loss, first give every
// member the new key as second one, then as first one, then take the old one
// away. It is an error when there is no key or one has an impossible length;
// nothing changes then.
func (m *Membership) SetKeys(keys [][]byte) error {
	if err := m.keys.set(keys); err != nil {
		return fmt.Errorf("membership: %w", err)
	}
	return nil
}

// Changed returns a channel of one: a value means that Members or Settled may
// return something else than when the last value was taken. There is one channel
// for all callers.
func (m *Membership) Changed() <-chan struct{} { return m.view.changed }

// Settled reports whether this member knows enough to act as one of the cluster:
// it has met another member, or every known peer was tried and none answers, or
// it was told that there are no peers. Before that, being alone in Members means
// nothing. Once true it stays so.
func (m *Membership) Settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

// settle makes Settled true.
func (m *Membership) settle(reason string) {
	m.mu.Lock()
	was := m.settled
	m.settled = true
	m.mu.Unlock()
	if !was {
		m.log.Info("membership settled", "reason", reason)
		signal(m.view.changed)
	}
}

// task is what was set since the last look.
type task struct {
	peers    []netip.AddrPort
	told     bool
	newMeta  bool
	newPeers bool
}

// takeTask returns what was set and takes note that it was seen.
func (m *Membership) takeTask() task {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := task{peers: m.peers, told: m.told, newMeta: m.newMeta, newPeers: m.newPeers}
	m.newMeta, m.newPeers = false, false
	return t
}
