package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/watch"
)

const (
	// latencyName is what SCENARIOS picks the measurement by.
	latencyName = "latency"
	// fresh is how many Services are made for it, one every freshEvery.
	fresh      = 100
	freshEvery = 200 * time.Millisecond
	setFresh   = "fresh"
)

// measureLatency makes Services and measures how long it takes from the request, and from the moment in which
// a watcher of the API server sees the address, until the router's kernel has the route.
func (b *bed) measureLatency(ctx context.Context, lines *bench.Lines) (err error) {
	if err := b.settle(ctx, terms{restart: true}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	routes, err := watch.StartRoutes(b.Lab, lab.HostRouter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, routes.Stop()) }()
	assigned, err := b.watchServices(ctx)
	if err != nil {
		return err
	}
	set := bench.Set{
		Name:   setFresh,
		Count:  fresh,
		App:    bench.AppEverywhere,
		Policy: corev1.ServiceExternalTrafficPolicyCluster,
	}
	begin, asked := time.Now(), map[string]time.Time{}
	for i := range set.Count {
		service := set.Service(i)
		asked[service.Name] = time.Now()
		services := b.API.CoreV1().Services("default")
		if _, err := services.Create(ctx, service, metav1.CreateOptions{}); err != nil {
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
	_, deleteErr := b.Lab.API().Kubectl(ctx, "delete", "services", "-l", "set="+setFresh, "--wait=true")
	arrivals := watch.Arrivals(routes.Events(begin), len(b.Lab.NodeNames()))
	return errors.Join(tellLatency(lines, asked, assigned(), arrivals), deleteErr)
}

// A visible Service is one whose addresses a watcher has seen.
type visible struct {
	at        time.Time
	addresses []netip.Addr
}

// watchServices notes when the Services of the set are first seen with addresses of both families, by name.
// It ends with the context.
func (b *bed) watchServices(ctx context.Context) (func() map[string]visible, error) {
	events, err := b.API.CoreV1().Services("default").Watch(ctx, metav1.ListOptions{
		LabelSelector: "set=" + setFresh,
	})
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

// tellLatency prints the figures.
func tellLatency(
	lines *bench.Lines, asked map[string]time.Time, assigned map[string]visible,
	arrivals map[netip.Addr]watch.Arrival,
) error {
	type figures struct{ address, first, full, asked []time.Duration }
	var families [2]figures
	for name, v := range assigned {
		for _, addr := range v.addresses {
			f := &families[0]
			if addr.Is6() {
				f = &families[1]
			}
			a := arrivals[addr]
			if a.First.IsZero() || a.Full.IsZero() {
				return fmt.Errorf("the route to %s of %s was not seen", addr, name)
			}
			f.address = append(f.address, v.at.Sub(asked[name]))
			f.first = append(f.first, a.First.Sub(v.at))
			f.full = append(f.full, a.Full.Sub(v.at))
			f.asked = append(f.asked, a.Full.Sub(asked[name]))
		}
	}
	fmt.Printf("\nService to route in the router's kernel table, ms, %d Services, one every %d ms:\n\n",
		len(assigned), freshEvery.Milliseconds())
	fmt.Print("| | routes | min | p50 | p99 | max |\n|---|---|---|---|---|---|\n")
	for i, family := range []string{"IPv4", "IPv6"} {
		f := families[i]
		printLatency(family+": request to address seen by a watcher", f.address)
		printLatency(family+": address seen to first next hop", f.first)
		printLatency(family+": address seen to all next hops", f.full)
		printLatency(family+": request to all next hops", f.asked)
		err := lines.Write(map[string]any{
			"scenario": latencyName,
			"family":   family,
			"address":  microseconds(f.address),
			"first":    microseconds(f.first),
			"full":     microseconds(f.full),
			"asked":    microseconds(f.asked),
		})
		if err != nil {
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
