package bfd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
)

// Config configures a [Speaker]. The zero value of each field means its default.
type Config struct {
	// Logger gets transitions: a session that came up or went down, a socket that
	// failed. Default: nothing is logged.
	Logger *slog.Logger
	// Farewell bounds how long Run stays, when its context has ended, to signal AdminDown to
	// the peers (RFC 5880 6.8.16). It takes no longer than they need to answer. Default 1 s;
	// negative is refused.
	Farewell time.Duration
	// Realtime has the thread that runs the sessions scheduled before all ordinary
	// ones of the machine (SCHED_RR, sched(7)), so that no other process can make it late.
	// This needs the capability CAP_SYS_NICE; without it, a line is logged and the sessions
	// run as well as they can.
	Realtime bool
}

// Speaker runs BFD sessions: the whole desired state goes in by [Speaker.Set], and
// [Speaker.State] returns how it is. One goroutine on a thread of its own owns
// the sessions and the sockets: it waits in the kernel for packets and for the
// next deadline, without Go's scheduler and its threads in between.
type Speaker struct {
	config  Config
	log     *slog.Logger
	network network
	changed notify.Signal
	// ended is closed when Run has ended; last is what it left.
	ended chan struct{}
	last  snapshot
	// observe, when a test sets it, is called with the delay of each periodic packet.
	observe func(late time.Duration)

	// mu guards what Run and others share.
	mu       sync.Mutex
	started  bool
	desired  map[Key]SessionConfig
	serial   uint64
	requests []chan<- snapshot
}

// snapshot is what State and Stats return.
type snapshot struct {
	sessions []Status
	stats    Stats
}

// New returns a speaker without sessions that does not run. It fails when a
// number in config is negative.
func New(config Config) (*Speaker, error) {
	if config.Farewell < 0 {
		return nil, fmt.Errorf("bfd: farewell %s is negative", config.Farewell)
	}
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	config.Farewell = cmp.Or(config.Farewell, time.Second)
	return &Speaker{
		config:  config,
		log:     config.Logger,
		network: newNetwork(),
		changed: notify.NewSignal(),
		ended:   make(chan struct{}),
		desired: make(map[Key]SessionConfig),
	}, nil
}

// Set replaces the desired sessions. Those that exist already go on: a change of their
// configuration is negotiated with the peer and does not take them down. Those that are
// not named any more go to AdminDown (RFC 5880 6.8.16), so that their peers do not take
// it for a failure.
//
// When anything is invalid, nothing is changed and the error says what, for every
// session. Set may be called from any goroutine, before and during Run, and never waits.
func (s *Speaker) Set(sessions map[Key]SessionConfig) error {
	desired := make(map[Key]SessionConfig, len(sessions))
	var errs []error
	for _, key := range slices.SortedFunc(maps.Keys(sessions), Key.compare) {
		if err := sessions[key].Validate(key); err != nil {
			errs = append(errs, fmt.Errorf("bfd session with %s: %w", key.Peer, err))
		}
		desired[key] = sessions[key].WithDefaults()
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.mu.Lock()
	s.desired = desired
	s.serial++
	s.mu.Unlock()
	s.network.wake()
	return nil
}

// Changed returns a channel of one: a value means that the state of a session or of its
// peer, a diagnostic or a problem may differ from what State returned before. Counters and
// negotiated intervals change without it.
func (s *Speaker) Changed() <-chan struct{} { return s.changed.C() }

// State returns all sessions that were last set, sorted by key. It may be called
// at any time; when Run has ended it returns how the sessions ended.
func (s *Speaker) State() []Status { return s.snapshot().sessions }

// Stats returns counters of what belongs to no session. It may be called at any
// time.
func (s *Speaker) Stats() Stats { return s.snapshot().stats }

func (s *Speaker) snapshot() snapshot {
	select {
	case <-s.ended:
		return s.last
	default:
	}
	reply := make(chan snapshot, 1)
	s.mu.Lock()
	started, desired := s.started, s.desired
	if started {
		s.requests = append(s.requests, reply)
	}
	s.mu.Unlock()
	if !started {
		var out snapshot
		for _, key := range slices.SortedFunc(maps.Keys(desired), Key.compare) {
			out.sessions = append(out.sessions, Status{
				Key:         key,
				Config:      desired[key],
				Problem:     ProblemPending,
				State:       Down,
				RemoteState: Down,
			})
		}
		return out
	}
	s.network.wake()
	select {
	case out := <-reply:
		return out
	case <-s.ended:
		return s.last
	}
}

// Run runs the sessions until ctx ends. It then shuts them down in order, for
// [Config.Farewell] at most, and returns nil when every goroutine it started has
// ended and every socket is closed. Nothing on the network makes it end. It
// returns an error when the kernel gives it nothing to wait with. It can run
// once; a second call returns an error.
func (s *Speaker) Run(ctx context.Context) error {
	s.mu.Lock()
	started := s.started
	s.started = true
	s.mu.Unlock()
	if started {
		return errors.New("bfd: already ran")
	}
	defer close(s.ended)
	result := make(chan error)
	// The goroutine ends with its thread, so that nobody gets a thread that runs
	// before all others.
	go func() { result <- s.run(ctx) }()
	return <-result
}

func (s *Speaker) run(ctx context.Context) error {
	err := s.network.open(s.config.Realtime)
	switch {
	case errors.Is(err, errNotRealtime):
		s.log.Warn("BFD has to compete for the processor", "error", err)
	case err != nil:
		return fmt.Errorf("bfd: %w", err)
	}
	defer s.network.close()
	defer context.AfterFunc(ctx, s.network.wake)()
	newLoop(s).run(ctx)
	return nil
}
