package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/watch"
)

// A result is what one run has measured. Times are in milliseconds.
type result struct {
	Scenario string    `json:"scenario"`
	BFD      bool      `json:"bfd"`
	Run      int       `json:"run"`
	At       time.Time `json:"at"`
	Node     string    `json:"node"` // to which it was done, where it was one
	// Loss has the longest outage of each address, from the fault until mending begins; Back from then on
	// until all is whole again.
	Loss4 []int64 `json:"loss4"`
	Loss6 []int64 `json:"loss6"`
	Back4 []int64 `json:"back4"`
	Back6 []int64 `json:"back6"`
	// Dropped is the longest outage of any address for which late answers do not count, from the fault until
	// mending begins; BackDropped from then on.
	Dropped     int64 `json:"dropped"`
	BackDropped int64 `json:"backDropped"`
	// Lost and Sent count probes of the measurement of Loss, Last is how long after the fault the last lost
	// one was sent.
	Lost4 int   `json:"lost4"`
	Lost6 int   `json:"lost6"`
	Sent4 int   `json:"sent4"`
	Sent6 int   `json:"sent6"`
	Last4 int64 `json:"last4"`
	Last6 int64 `json:"last6"`
	// Late counts the lost probes that were answered after all.
	Late4 int `json:"late4"`
	Late6 int `json:"late6"`
	// BackLost4 and BackLost6 count lost probes of the measurement of Back.
	BackLost4 int `json:"backLost4"`
	BackLost6 int `json:"backLost6"`
	// RouteGone4 and RouteGone6 are how long after the fault the last of the routes to an address of the
	// family ceased to have the node as a next hop in the router's kernel, of which the node dies. They are
	// missing where one did not. Still counts the addresses, of both families, whose routes had it when
	// mending began.
	RouteGone4 *int64 `json:"routeGone4,omitempty"`
	RouteGone6 *int64 `json:"routeGone6,omitempty"`
	Still      int    `json:"still,omitempty"`
	// NotKept tells of next hops that were taken from routes in the router's kernel where none may be, from
	// the fault until all is whole again.
	NotKept []string `json:"notKept,omitempty"`
	// Watched is how many sessions the router had, of BGP and of BFD, where there is BFD; Down tells of those
	// that went down before mending began.
	Watched int      `json:"watched,omitempty"`
	Down    []string `json:"down,omitempty"`
	// Fault is how long the fault took.
	Fault int64 `json:"fault"`
	// Pause is the longest time in which no probe of an address was sent: the measurement is no finer than
	// that.
	Pause int64 `json:"pause"`
}

// patience is how long a loss is measured at most.
const patience = 2 * time.Minute

// runOnce breaks and mends, and measures both.
func (b *bed) runOnce(ctx context.Context, sc scenario, node string) (r result, err error) {
	if err := b.whole(ctx, sc.terms); err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	var addresses []netip.Addr
	for _, set := range sc.sets {
		addresses = append(addresses, b.sets[set]...)
	}
	traffic, err := watch.StartTraffic(watch.TrafficConfig{
		Lab:       b.Lab,
		Host:      lab.HostExt,
		Addresses: addresses,
		Port:      bench.EchoPort,
		Interval:  cmp.Or(sc.probe, bench.ProbeInterval),
	})
	if err != nil {
		return r, err
	}
	defer traffic.Stop()
	if err := bench.Served(ctx, traffic, bench.CalmLimit); err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	saw, err := b.watchRouter(ctx, sc, node)
	if err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	defer func() { err = errors.Join(err, saw.stop()) }()
	r.Node = node
	from := time.Now()
	time.Sleep(bench.Lead)
	r.At = time.Now()
	if err := sc.fault(ctx, b, node); err != nil {
		return r, err
	}
	r.Fault = time.Since(r.At).Milliseconds()
	time.Sleep(max(0, sc.window-time.Since(r.At)))
	if sc.check != nil {
		if err := sc.check(ctx, b, node); err != nil {
			return r, err
		}
	}
	// A loss that does not end is as long as was waited for it.
	_ = bench.Served(ctx, traffic, patience)
	if err := saw.judge(ctx, &r, addresses); err != nil {
		return r, err
	}
	mended := time.Now().Add(-bench.OnTheWay)
	if err := sc.restore(ctx, b, node); err != nil {
		return r, err
	}
	if err := errors.Join(b.whole(ctx, sc.terms), bench.Served(ctx, traffic, bench.CalmLimit)); err != nil {
		return r, fmt.Errorf("after: %w", err)
	}
	saw.judgeEnd(&r, addresses)
	r.judge(traffic, addresses, from, mended, time.Now().Add(-bench.OnTheWay))
	return r, nil
}

// judge fills in what was seen: the measurement began, mending began, all was whole.
func (r *result) judge(traffic *watch.Traffic, addresses []netip.Addr, from, mended, whole time.Time) {
	lead := r.At.Sub(from)
	for _, addr := range addresses {
		loss := traffic.Outage(addr, from, mended)
		back := traffic.Outage(addr, mended, whole)
		r.Pause = max(r.Pause, loss.Pause.Milliseconds())
		r.Dropped = max(r.Dropped, loss.Dropped.Milliseconds())
		r.BackDropped = max(r.BackDropped, back.Dropped.Milliseconds())
		last := max(0, loss.Last-lead).Milliseconds()
		if addr.Is4() {
			r.Loss4 = append(r.Loss4, loss.Longest.Milliseconds())
			r.Back4 = append(r.Back4, back.Longest.Milliseconds())
			r.Lost4 += loss.Lost
			r.Late4 += loss.Late
			r.Sent4 += loss.Sent
			r.Last4 = max(r.Last4, last)
			r.BackLost4 += back.Lost
		} else {
			r.Loss6 = append(r.Loss6, loss.Longest.Milliseconds())
			r.Back6 = append(r.Back6, back.Longest.Milliseconds())
			r.Lost6 += loss.Lost
			r.Late6 += loss.Late
			r.Sent6 += loss.Sent
			r.Last6 = max(r.Last6, last)
			r.BackLost6 += back.Lost
		}
	}
}

// podNodes names the nodes with ready pods of an app.
func (b *bed) podNodes(ctx context.Context, app string) ([]string, error) {
	pods, err := b.API.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, pod := range pods.Items {
		for _, c := range pod.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" && pod.DeletionTimestamp == nil {
				nodes = append(nodes, pod.Spec.NodeName)
			}
		}
	}
	return nodes, nil
}
