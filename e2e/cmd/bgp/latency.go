package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

const (
	// latencyName is what SCENARIOS picks the measurement by.
	latencyName = "latency"
	// fresh is how many Services are made for it, one every freshEvery.
	fresh      = 100
	freshEvery = 200 * time.Millisecond
	setFresh   = "fresh"
)

// An arrival is how an address came into the router's kernel table.
type arrival struct {
	first time.Time // with any next hop
	full  time.Time // with one for each node
}

// A routeWatch keeps when routes were seen in a router's kernel table.
type routeWatch struct {
	nodes int
	mu    sync.Mutex
	seen  map[netip.Addr]arrival
}

// measureLatency makes Services and measures how long it takes from the request, and from the moment in which a watcher of
// the API server sees the address, until the router's kernel has the route.
func (b *bed) measureLatency(ctx context.Context, lines *os.File) error {
	if err := b.settle(ctx, terms{restart: true}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	routes, err := b.watchRoutes(ctx)
	if err != nil {
		return err
	}
	assigned, err := b.watchServices(ctx)
	if err != nil {
		return err
	}
	set := bench.Set{Name: setFresh, Count: fresh, App: bench.AppEverywhere, Policy: corev1.ServiceExternalTrafficPolicyCluster}
	asked := map[string]time.Time{}
	for i := range set.Count {
		service := set.Service(i)
		asked[service.Name] = time.Now()
		if _, err := b.API.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
			return err
		}
		time.Sleep(freshEvery)
	}
	addresses, err := b.MakeServices(ctx, set)
	if err != nil {
		return err
	}
	if err := bench.Poll(ctx, 30*time.Second, "all routes are there", func() error {
		return peering.Reached(ctx, b.Lab, lab.HostRouter, addresses, b.Lab.NodeNames()...)
	}); err != nil {
		return err
	}
	time.Sleep(bench.Calm)
	_, deleteErr := b.Lab.Kubectl(ctx, "delete", "services", "-l", "set="+setFresh, "--wait=true")
	return errors.Join(b.tellLatency(lines, asked, assigned(), routes), deleteErr)
}

// A visible Service is one whose addresses a watcher has seen.
type visible struct {
	at        time.Time
	addresses []netip.Addr
}

// watchServices notes when the Services of the set are first seen with addresses of both families, by name. It ends with
// the context.
func (b *bed) watchServices(ctx context.Context) (func() map[string]visible, error) {
	events, err := b.API.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{LabelSelector: "set=" + setFresh})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	seen := map[string]visible{}
	go func() {
		for e := range events.ResultChan() {
			at := time.Now()
			s, ok := e.Object.(*corev1.Service)
			if !ok || len(s.Status.LoadBalancer.Ingress) < 2 {
				continue
			}
			mu.Lock()
			if _, known := seen[s.Name]; !known {
				v := visible{at: at}
				for _, i := range s.Status.LoadBalancer.Ingress {
					v.addresses = append(v.addresses, netip.MustParseAddr(i.IP))
				}
				seen[s.Name] = v
			}
			mu.Unlock()
		}
	}()
	return func() map[string]visible {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}, nil
}

// watchRoutes notes when routes come into the router's kernel table, until the context ends.
func (b *bed) watchRoutes(ctx context.Context) (*routeWatch, error) {
	cmd, err := b.Lab.Command(ctx, lab.HostRouter, "ip", "-ts", "-o", "monitor", "route")
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &routeWatch{nodes: len(b.Lab.NodeNames()), seen: map[netip.Addr]arrival{}}
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			w.note(lines.Text())
		}
		_ = cmd.Wait() // it ends with the context
	}()
	return w, nil
}

// note reads a line of `ip -ts -o monitor route`:
//
//	[2026-01-02T15:04:05.123456] 198.51.101.1 nhid 9 proto bgp metric 20 \	nexthop via 10.77.0.11 dev eth0 weight 1 …
func (w *routeWatch) note(line string) {
	stamp, rest, ok := strings.Cut(strings.TrimPrefix(line, "["), "] ")
	if !ok {
		return
	}
	at, err := time.ParseInLocation("2006-01-02T15:04:05.999999", stamp, time.Local)
	fields := strings.Fields(rest)
	if err != nil || len(fields) == 0 {
		return
	}
	addr, err := netip.ParseAddr(fields[0]) // of a route that is deleted it is the word Deleted
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.seen[addr]
	if a.first.IsZero() {
		a.first = at
	}
	if a.full.IsZero() && strings.Count(rest, " via ") >= w.nodes {
		a.full = at
	}
	w.seen[addr] = a
}

// tellLatency prints the figures.
func (b *bed) tellLatency(lines *os.File, asked map[string]time.Time, assigned map[string]visible, routes *routeWatch) error {
	routes.mu.Lock()
	defer routes.mu.Unlock()
	type figures struct{ address, first, full, asked []time.Duration }
	var families [2]figures
	for name, v := range assigned {
		for _, addr := range v.addresses {
			f := &families[0]
			if addr.Is6() {
				f = &families[1]
			}
			a := routes.seen[addr]
			if a.first.IsZero() || a.full.IsZero() {
				return fmt.Errorf("the route to %s of %s was not seen", addr, name)
			}
			f.address = append(f.address, v.at.Sub(asked[name]))
			f.first = append(f.first, a.first.Sub(v.at))
			f.full = append(f.full, a.full.Sub(v.at))
			f.asked = append(f.asked, a.full.Sub(asked[name]))
		}
	}
	fmt.Printf("\nService to route in the router's kernel table, ms, %d Services, one every %d ms:\n\n", len(assigned), freshEvery.Milliseconds())
	fmt.Print("| | routes | min | p50 | p99 | max |\n|---|---|---|---|---|---|\n")
	for i, family := range []string{"IPv4", "IPv6"} {
		f := families[i]
		printLatency(family+": request to address seen by a watcher", f.address)
		printLatency(family+": address seen to first next hop", f.first)
		printLatency(family+": address seen to all next hops", f.full)
		printLatency(family+": request to all next hops", f.asked)
		text, err := json.Marshal(map[string]any{"scenario": latencyName, "family": family,
			"address": microseconds(f.address), "first": microseconds(f.first), "full": microseconds(f.full), "asked": microseconds(f.asked)})
		if err != nil {
			return err
		}
		if _, err := lines.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func microseconds(times []time.Duration) []int64 {
	out := make([]int64, len(times))
	for i, t := range times {
		out[i] = t.Microseconds()
	}
	return out
}
