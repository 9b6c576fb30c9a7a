package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/pkg/bgp"
)

// bgpMetrics are those of BGP sessions, each with the name of the peer. A
// session's are there while the node is to have it.
type bgpMetrics struct {
	up, state, prefixes  *prometheus.Desc
	ups, downs, received *prometheus.Desc
}

func newBGPMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) bgpMetrics {
	return bgpMetrics{
		up:       desc("bgp_session_up", "1 while the session is established, else 0.", "peer"),
		state:    desc("bgp_session_state", "1 for the state that the session is in.", "peer", "state"),
		prefixes: desc("bgp_prefixes_advertised", "Prefixes announced to the peer.", "peer", "family"),
		ups:      desc("bgp_session_ups_total", "How often the session was established.", "peer"),
		downs:    desc("bgp_session_downs_total", "How often the session ended.", "peer"),
		received: desc("bgp_updates_ignored_total", "UPDATE messages that the peer sent, all of which are thrown away.", "peer"),
	}
}

func (m bgpMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.state, m.prefixes, m.ups, m.downs, m.received} {
		out <- d
	}
}

func (m bgpMetrics) collect(out chan<- prometheus.Metric, rows []sessionRow, now []bgp.Session) {
	received := map[string]uint64{} // nobody tells of them, so the rows may be old
	for _, s := range now {
		received[s.Peer] = s.Ignored
	}
	for _, row := range rows {
		up := 0
		if row.State == bgp.SessionEstablished {
			up = 1
		}
		gauge(out, m.up, up, row.Peer)
		gauge(out, m.state, 1, row.Peer, string(row.state))
		gauge(out, m.prefixes, row.Advertised4, row.Peer, "ipv4")
		gauge(out, m.prefixes, row.Advertised6, row.Peer, "ipv6")
		counter(out, m.ups, row.ups, row.Peer)
		counter(out, m.downs, row.downs, row.Peer)
		counter(out, m.received, received[row.Peer], row.Peer)
	}
}
