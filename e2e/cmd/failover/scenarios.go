package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// A scenario breaks something and mends it again.
type scenario struct {
	name, title string
	set         string // of Services
	// everybody has the loss of all addresses measured, not only of those that the victim owns.
	everybody bool
	// still: no address may move.
	still bool
	// once: it runs one time only, whatever RUNS says.
	once bool
	// chaos: faults of a seed happen in place of fault and restore, which are nil.
	chaos bool
	// window is how long the loss is measured after the fault at least; it goes on until all addresses are
	// answered again.
	window time.Duration
	// overlap is for how long two Ethernet addresses may be stated for one address; 0 means what the
	// environment says.
	overlap time.Duration
	// probe and ask are the intervals at which addresses are sent to and asked for; 0 means 10 ms and 50 ms.
	probe, ask time.Duration
	// prepare is done before the measurement begins and the victim is chosen; nil means nothing.
	prepare func(ctx context.Context, l *lab.Lab) error
	// fault breaks something of the victim, the node that owns most addresses. It may take its time: the
	// measurement begins before it.
	fault func(ctx context.Context, l *lab.Lab, victim string) error
	// restore makes everything whole again.
	restore func(ctx context.Context, l *lab.Lab, victim string) error
}

// scenarios lists all, in the order in which they run.
func scenarios(minutes int) []scenario {
	return slices.Concat(ofNode(), ofSpeaker(), ofNetwork(), ofMachine(minutes))
}

func nothing(context.Context, *lab.Lab, string) error { return nil }

func crash(ctx context.Context, l *lab.Lab, victim string) error { return l.Node(victim).Crash(ctx) }

func start(ctx context.Context, l *lab.Lab, victim string) error { return l.Node(victim).Start(ctx) }

func heal(ctx context.Context, l *lab.Lab, victim string) error { return l.Node(victim).Heal(ctx) }

func hang(ctx context.Context, l *lab.Lab, victim string) error { return l.Node(victim).Hang(ctx) }

func unhang(ctx context.Context, l *lab.Lab, victim string) error { return l.Node(victim).Unhang(ctx) }

// ofNode returns the scenarios of a node that dies, hangs or loses its cable.
func ofNode() []scenario {
	return []scenario{
		{
			name:    "control",
			title:   "nothing: its node gets a label that nobody minds",
			set:     setLocal,
			still:   true,
			window:  4 * time.Second,
			fault:   control,
			restore: nothing,
		},
		{
			name:    "crash",
			title:   "owner's node crashes",
			set:     setLocal,
			window:  3 * time.Second,
			fault:   crash,
			restore: start,
		},
		{
			name:    "cable",
			title:   "owner's cable is pulled",
			set:     setLocal,
			window:  3 * time.Second,
			restore: heal,
			fault: func(ctx context.Context, l *lab.Lab, victim string) error {
				return l.Node(victim).Cut(ctx)
			},
		},
		{
			name:    "hang",
			title:   "owner's node hangs, pods too",
			set:     setLocal,
			window:  5 * time.Second,
			fault:   hang,
			restore: unhang,
		},
		{
			name:    "hang-pods-elsewhere",
			title:   "owner's node hangs, its kernel forwards to pods elsewhere",
			set:     setCluster,
			window:  5 * time.Second,
			fault:   hang,
			restore: unhang,
		},
	}
}

// ofSpeaker returns the scenarios of a speaker that stops, is replaced, or hands over.
func ofSpeaker() []scenario {
	return []scenario{
		{
			name:    "frozen",
			title:   "owner's speaker frozen for 3 s",
			set:     setLocal,
			window:  5 * time.Second,
			fault:   freeze,
			restore: nothing,
		},
		{
			name:    "kill",
			title:   "owner's speaker killed (SIGKILL)",
			set:     setLocal,
			window:  5 * time.Second,
			restore: bench.RenewSpeaker,
			fault: func(_ context.Context, l *lab.Lab, victim string) error {
				return l.Node(victim).KillProcess(product.SpeakerProcess, syscall.SIGKILL)
			},
		},
		{
			name:      "upgrade",
			title:     "speakers upgraded, one after another",
			set:       setLocal,
			everybody: true,
			window:    2 * time.Second,
			fault:     func(ctx context.Context, l *lab.Lab, _ string) error { return bench.Upgrade(ctx, l) },
			restore:   nothing,
		},
		{
			name:   "drain",
			title:  "owner drained: cordoned and excluded",
			set:    setLocal,
			window: 4 * time.Second,
			fault: func(ctx context.Context, l *lab.Lab, victim string) error {
				return l.Node(victim).Drain(ctx)
			},
			restore: func(ctx context.Context, l *lab.Lab, victim string) error {
				return l.Node(victim).Undrain(ctx)
			},
		},
	}
}

// ofNetwork returns the scenarios of speakers that do not reach each other or the API server.
func ofNetwork() []scenario {
	return []scenario{
		{
			name:      "partition",
			title:     "owner and one other node cannot reach each other",
			set:       setLocal,
			everybody: true,
			window:    6 * time.Second,
			restore:   heal,
			fault: func(ctx context.Context, l *lab.Lab, victim string) error {
				return l.Network().Part(ctx, victim, bench.OtherThan(l, victim))
			},
		},
		{
			name:      "members",
			title:     "no speaker reaches another on its port, the API server is there",
			set:       setLocal,
			everybody: true,
			// longer than one proof of life counts
			window: 25 * time.Second,
			fault: func(ctx context.Context, l *lab.Lab, _ string) error {
				return bench.Each(l, func(node string) error {
					return l.Node(node).Block(ctx, product.MemberPort)
				})
			},
			restore: func(ctx context.Context, l *lab.Lab, _ string) error {
				return bench.Each(l, func(node string) error { return l.Node(node).Heal(ctx) })
			},
		},
		{
			name:   "no-api",
			title:  "API server killed, then owner's node crashes",
			set:    setLocal,
			window: 3 * time.Second,
			fault:  crash,
			prepare: func(ctx context.Context, l *lab.Lab) error {
				return l.Component(lab.APIServer).Kill(ctx)
			},
			restore: func(ctx context.Context, l *lab.Lab, victim string) error {
				return errors.Join(l.Component(lab.APIServer).Start(ctx), l.Node(victim).Start(ctx))
			},
		},
	}
}

// ofMachine returns the scenarios of much at a time: many addresses, too much work, many faults.
func ofMachine(minutes int) []scenario {
	return []scenario{
		{
			name:   "many",
			title:  "owner of 2,000 addresses crashes (64 of them probed)",
			set:    setMany,
			window: 4 * time.Second,
			// It is preferred, and takes all of them back at once: who hands over goes on for
			// --hand-over-timeout at most.
			overlap: 3 * time.Second,
			fault:   crash,
			restore: start,
		},
		{
			name:      "saturated",
			title:     fmt.Sprintf("every core busy for %d min (probed every 100 ms)", minutes),
			set:       setLocal,
			everybody: true,
			still:     true,
			once:      true,
			window:    time.Second,
			probe:     100 * time.Millisecond,
			ask:       250 * time.Millisecond,
			fault: func(ctx context.Context, _ *lab.Lab, _ string) error {
				return bench.Saturate(ctx, time.Duration(minutes)*time.Minute)
			},
			restore: nothing,
		},
		// Nothing is asked of what happens meanwhile: a part that is cut off announces too.
		{
			name:      "chaos",
			title:     fmt.Sprintf("%d faults at a time, one upon the other, then all is mended", faultCount),
			set:       setLocal,
			everybody: true,
			chaos:     true,
			overlap:   time.Hour,
			window:    faultsWithin + longestFault,
		},
	}
}

// control has the machine work as much as a drain does, for nothing. What is lost is lost to the processors
// that all nodes and the client share.
func control(ctx context.Context, l *lab.Lab, victim string) error {
	const label = "example.com/control"
	for _, change := range []string{label + "=", label + "-"} {
		if _, err := l.API().Kubectl(ctx, "label", "node", victim, change); err != nil {
			return err
		}
	}
	return nil
}

// freeze stops the speaker for long enough that the others take over, and lets it go on.
func freeze(ctx context.Context, l *lab.Lab, victim string) error {
	if err := l.Node(victim).KillProcess(product.SpeakerProcess, syscall.SIGSTOP); err != nil {
		return err
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
	}
	return l.Node(victim).KillProcess(product.SpeakerProcess, syscall.SIGCONT)
}
