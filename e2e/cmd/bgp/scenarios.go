package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

// A step does something to the lab; node is the one that it is this run's turn of.
type step func(ctx context.Context, b *bed, node string) error

// A scenario breaks something and mends it again.
type scenario struct {
	name, title string
	terms       terms
	sets        []string // whose addresses are sent to
	// lossless: nothing may be lost,
	lossless bool
	// but for what is lost until the client takes another way, at most this long.
	but time.Duration
	// withBFD: it runs with BFD as well, if the environment asks for it. Something dies without a word, so
	// that BFD makes a difference; or nothing may be lost, and BFD must not spoil it.
	withBFD bool
	// gone: the node dies. Its routes must leave the router's kernel, and it is measured when the last of
	// them has.
	gone bool
	// kept: no route may lose a next hop in the router's kernel, be it for a moment, from the fault until all
	// is whole again. The client may lose nothing all the same, as others take over; but connections would go
	// to other nodes.
	kept bool
	// steady: no session may go down, neither of BGP nor of BFD.
	steady bool
	// slow: it takes minutes, and runs a few times only. Once: it runs one time only, whatever RUNS says.
	slow, once bool
	// probe is the interval at which addresses are sent to; 0 means bench.ProbeInterval.
	probe time.Duration
	// window is how long the loss is measured after the fault began, at least.
	window time.Duration
	// fault breaks something. The measurement begins before it. Check is done at the end of the window; nil
	// means nothing.
	fault, check step
	// restore makes everything whole again.
	restore step
}

// all are the sets of which each node has a share.
var all = []string{setLocal, setCluster}

// scenarios lists all, in the order in which they run. Those to which BFD may make a difference come once
// with each value of bfd, one after the other.
func scenarios(s settings) []scenario {
	var out []scenario
	for _, sc := range cases(s.Minutes) {
		if !sc.withBFD {
			out = append(out, sc)
			continue
		}
		for _, with := range s.bfd {
			sc.terms.bfd = with
			out = append(out, sc)
		}
	}
	return out
}

// cases lists all without BFD, but for what is about BFD alone. Minutes is how long the saturation lasts.
func cases(minutes int) []scenario {
	return slices.Concat(plans(), deaths(), restarts(), strayPeers(), others(minutes))
}

// What most scenarios ask of the sessions: graceful restart, and some of them a second router.
var (
	graceful = terms{restart: true}
	spare    = terms{restart: true, second: true}
)

// plans returns the scenarios of what is done on purpose.
func plans() []scenario {
	return []scenario{
		{
			name:     "nothing",
			title:    "nothing happens",
			terms:    graceful,
			sets:     all,
			lossless: true,
			kept:     true,
			window:   5 * time.Second,
			fault:    nothing,
			restore:  nothing,
		},
		{
			name:     "drain",
			title:    "node drained: cordoned, pods evicted",
			terms:    graceful,
			sets:     all,
			lossless: true,
			withBFD:  true,
			window:   8 * time.Second,
			fault:    drain,
			restore:  uncordon,
		},
		{
			name:     "exclude",
			title:    "node cordoned and excluded from load balancers",
			terms:    graceful,
			sets:     all,
			lossless: true,
			window:   4 * time.Second,
			fault:    exclude,
			restore:  include,
		},
		{
			name:     "scale-down",
			title:    "node's only pod ends, others serve (traffic policy Local)",
			terms:    graceful,
			sets:     []string{setMoving},
			lossless: true,
			window:   9 * time.Second,
			fault:    scale(1),
			restore:  scale(2),
		},
	}
}

// deaths returns the scenarios of a node that dies or loses its cable.
func deaths() []scenario {
	return []scenario{
		{
			name:    "crash-hold-3",
			title:   "node crashes, hold time 3 s",
			terms:   terms{hold: "3s"},
			sets:    []string{setLocal},
			withBFD: true,
			gone:    true,
			window:  6 * time.Second,
			fault:   crash,
			restore: start,
		},
		// Unlike a node that crashes it goes on, believes what it knew, and comes back with it.
		{
			name:    "cable",
			title:   "node's cable pulled at the switch, hold time 3 s",
			terms:   terms{hold: "3s"},
			sets:    []string{setLocal},
			withBFD: true,
			gone:    true,
			window:  6 * time.Second,
			fault:   cut,
			restore: heal,
		},
		{
			name:    "crash-default",
			title:   "node crashes, hold time 90 s (default)",
			sets:    []string{setLocal},
			withBFD: true,
			gone:    true,
			slow:    true,
			window:  95 * time.Second,
			fault:   crash,
			restore: start,
		},
		// Without BFD the router would keep the routes for as long as it waits for the node to restart.
		{
			name:    "crash-restart",
			title:   "node crashes, hold time 3 s, graceful restart",
			terms:   terms{hold: "3s", restart: true, bfd: true},
			sets:    []string{setLocal},
			gone:    true,
			window:  6 * time.Second,
			fault:   crash,
			restore: start,
		},
	}
}

// restarts returns the scenarios of speakers and routers whose processes end and come back.
func restarts() []scenario {
	return []scenario{
		{
			name:     "upgrade",
			title:    "speakers upgraded, one after another",
			terms:    graceful,
			sets:     all,
			lossless: true,
			kept:     true,
			withBFD:  true,
			window:   3 * time.Second,
			fault:    upgrade,
			restore:  nothing,
		},
		{
			name:    "upgrade-plain",
			title:   "speakers upgraded, one after another, no graceful restart",
			sets:    all,
			window:  3 * time.Second,
			fault:   upgrade,
			restore: nothing,
		},
		// A speaker that is killed cannot tell the router that its BFD ends (AdminDown). But its kernel
		// closes the connection at once, and FRR keeps the routes for the graceful restart; BFD fails some
		// 300 ms later, when there is no session that it could end. Of a router that hears of BFD first, or
		// lets it count, nothing would be promised.
		{
			name:     "kill",
			title:    "speaker killed (SIGKILL), graceful restart",
			terms:    graceful,
			sets:     all,
			lossless: true,
			kept:     true,
			withBFD:  true,
			window:   5 * time.Second,
			fault:    kill,
			restore:  renew,
		},
		{
			name:    "kill-plain",
			title:   "speaker killed (SIGKILL), no graceful restart",
			sets:    all,
			window:  5 * time.Second,
			fault:   kill,
			restore: renew,
		},
		{
			name:    "router-restart",
			title:   "router's daemons restarted, graceful restart on both sides",
			terms:   terms{restart: true, routerRestart: true},
			sets:    all,
			window:  5 * time.Second,
			fault:   restartRouter,
			restore: nothing,
		},
		{
			name:    "router-killed",
			title:   "router's daemons killed and started, graceful restart on both sides",
			terms:   terms{restart: true, routerRestart: true},
			sets:    all,
			window:  5 * time.Second,
			fault:   killRouter,
			restore: nothing,
		},
	}
}

// strayPeers returns the scenarios of another peer with which no session can come up.
func strayPeers() []scenario {
	return []scenario{
		{
			name:     "unreachable",
			title:    "another peer is not there when speakers start",
			terms:    graceful,
			sets:     all,
			lossless: true,
			kept:     true,
			window:   3 * time.Second,
			fault:    misguided(peering.Peer{Address: nobody}, upgrade),
			check:    badIsDown,
			restore:  forget,
		},
		{
			name:     "wrong-asn",
			title:    "another peer with a wrong AS number",
			terms:    spare,
			sets:     all,
			lossless: true,
			kept:     true,
			window:   4 * time.Second,
			fault:    misguided(peering.Peer{Address: lab.Router2Addresses.V4, PeerASN: 64999}, nothing),
			check:    badIsDown,
			restore:  forget,
		},
		{
			name:     "wrong-password",
			title:    "another peer with a wrong password",
			terms:    spare,
			sets:     all,
			lossless: true,
			kept:     true,
			window:   4 * time.Second,
			fault: misguided(peering.Peer{
				Address: lab.Router2Addresses.V4,
				More:    "password: wrong",
			}, nothing),
			check:   badIsDown,
			restore: forget,
		},
	}
}

// others returns the scenarios of a second router, of the API server, and of a machine that
// has too much to do.
func others(minutes int) []scenario {
	return []scenario{
		{
			name:     "two-routers",
			title:    "one of two routers dies",
			terms:    terms{restart: true, second: true, open: true},
			sets:     all,
			lossless: true,
			but:      250 * time.Millisecond,
			withBFD:  true,
			window:   5 * time.Second,
			fault:    crashRouter2,
			restore:  startRouter2,
		},
		{
			name:     "no-api",
			title:    "API server away for 5 s while a pod moves: others",
			terms:    graceful,
			sets:     all,
			lossless: true,
			window:   8 * time.Second,
			fault:    moveWithoutAPI,
			restore:  nothing,
		},
		{
			name:    "no-api-moved",
			title:   "API server away for 5 s while a pod moves: its own Services",
			terms:   graceful,
			sets:    []string{setMoving},
			window:  8 * time.Second,
			fault:   moveWithoutAPI,
			restore: nothing,
		},
		{
			name:    "saturated",
			title:   fmt.Sprintf("every core busy for %d min (probed every 100 ms)", minutes),
			terms:   terms{restart: true, bfd: true},
			sets:    all,
			kept:    true,
			steady:  true,
			once:    true,
			window:  time.Second,
			probe:   100 * time.Millisecond,
			fault:   saturate(minutes),
			restore: nothing,
		},
	}
}

// nobody is an address on the LAN that no host has.
var nobody = netip.MustParseAddr("10.77.0.99")

// bad is the name of a BGPPeer with which nothing can come up.
const bad = "bad"

func nothing(context.Context, *bed, string) error { return nil }

func drain(ctx context.Context, b *bed, node string) error {
	_, err := b.Lab.API().Kubectl(ctx, "drain", node, "--ignore-daemonsets", "--force",
		"--delete-emptydir-data", "--timeout=60s")
	return err
}

func uncordon(ctx context.Context, b *bed, node string) error {
	_, err := b.Lab.API().Kubectl(ctx, "uncordon", node)
	return err
}

// scale changes how many nodes have a pod of the set that moves.
func scale(replicas int) step {
	return func(ctx context.Context, b *bed, _ string) error {
		_, err := b.Lab.API().Kubectl(ctx, "scale", "deployment/"+appMoving,
			fmt.Sprintf("--replicas=%d", replicas))
		return err
	}
}

func exclude(ctx context.Context, b *bed, node string) error { return b.Lab.Node(node).Drain(ctx) }
func include(ctx context.Context, b *bed, node string) error { return b.Lab.Node(node).Undrain(ctx) }
func crash(ctx context.Context, b *bed, node string) error   { return b.Lab.Node(node).Crash(ctx) }
func start(ctx context.Context, b *bed, node string) error   { return b.Lab.Node(node).Start(ctx) }
func cut(ctx context.Context, b *bed, node string) error     { return b.Lab.Node(node).Cut(ctx) }
func heal(ctx context.Context, b *bed, node string) error    { return b.Lab.Node(node).Heal(ctx) }
func upgrade(ctx context.Context, b *bed, _ string) error    { return bench.Upgrade(ctx, b.Lab) }

func kill(_ context.Context, b *bed, node string) error {
	return b.Lab.Node(node).KillProcess(product.SpeakerProcess, syscall.SIGKILL)
}

func renew(ctx context.Context, b *bed, node string) error {
	return bench.RenewSpeaker(ctx, b.Lab, node)
}

// saturate keeps every core busy.
func saturate(minutes int) step {
	return func(ctx context.Context, _ *bed, _ string) error {
		return bench.Saturate(ctx, time.Duration(minutes)*time.Minute)
	}
}

func restartRouter(ctx context.Context, b *bed, _ string) error {
	return b.Lab.Router(lab.HostRouter).Restart(ctx)
}

func killRouter(ctx context.Context, b *bed, _ string) error {
	if err := b.Lab.Router(lab.HostRouter).Kill(ctx); err != nil {
		return err
	}
	return b.Lab.Router(lab.HostRouter).Restart(ctx)
}

func crashRouter2(ctx context.Context, b *bed, _ string) error {
	return b.Lab.Router(lab.HostRouter2).Crash(ctx)
}

// startRouter2 brings the second router back, as routers come: it takes part in forwarding when it has all
// routes.
func startRouter2(ctx context.Context, b *bed, _ string) error {
	r := b.terms.router(lab.HostRouter2, b.Lab.NodeNames())
	if err := b.Lab.Router(lab.HostRouter2).Start(ctx, r.Config()); err != nil {
		return err
	}
	if err := b.routed(ctx, r); err != nil {
		return err
	}
	return b.Lab.Router(lab.HostRouter2).Open(ctx)
}

// misguided adds a peer with which no session can come up, and does something more.
func misguided(p peering.Peer, more step) step {
	return func(ctx context.Context, b *bed, node string) error {
		p.Name, p.Restart = bad, true
		if err := b.Apply(ctx, p.Manifest()); err != nil {
			return err
		}
		return more(ctx, b, node)
	}
}

func forget(ctx context.Context, b *bed, _ string) error {
	return b.Delete(ctx, peering.Peer{Name: bad, Address: nobody}.Manifest())
}

// badIsDown makes sure that the peer with which nothing can come up was tried, and that the Speaker object
// says why not.
func badIsDown(ctx context.Context, b *bed, node string) error {
	path := fmt.Sprintf(`jsonpath={.status.bgp.sessions[?(@.peer==%[1]q)].state}: `+
		`{.status.bgp.sessions[?(@.peer==%[1]q)].lastError}`, bad)
	return bench.Poll(ctx, 10*time.Second, "the bad peer was tried", func() error {
		out, err := b.Lab.API().Kubectl(ctx, "get", "speaker", node, "-o", path)
		if err == nil &&
			(len(out) < len("Connecting: x") || string(out[:len("Connecting")]) != "Connecting") {
			err = fmt.Errorf("the speaker of %s says %q", node, out)
		}
		return err
	})
}

// awayFor is how long the API server is away.
const awayFor = 5 * time.Second

// moveWithoutAPI deletes a pod, and at the same moment the API server dies: nobody hears where the next one
// is until it is back.
func moveWithoutAPI(ctx context.Context, b *bed, _ string) error {
	nodes, err := b.podNodes(ctx, appMoving)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return errors.New("there is no pod to move")
	}
	out, err := b.Lab.API().Kubectl(ctx, "get", "pods", "-l", "app="+appMoving,
		"--field-selector", "spec.nodeName="+nodes[0],
		"-o", "jsonpath={.items[0].metadata.name}")
	if err != nil {
		return err
	}
	if _, err := b.Lab.API().Kubectl(ctx, "delete", "pod", string(out), "--wait=false"); err != nil {
		return err
	}
	if err := b.Lab.Component(lab.APIServer).Kill(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(awayFor):
	case <-ctx.Done():
	}
	return b.Lab.Component(lab.APIServer).Start(context.WithoutCancel(ctx))
}
