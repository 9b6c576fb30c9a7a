package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/pkg/bfd"
)

// bfdMetrics are those of BFD sessions, each with the name of the BGP peer.
type bfdMetrics struct {
	up, ups, downs, sent, received, echoes, strays *prometheus.Desc
}

func newBFDMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) bfdMetrics {
	return bfdMetrics{
		up:       desc("bfd_session_up", "1 while BFD finds that the way to the peer works, else 0.", "peer"),
		ups:      desc("bfd_session_ups_total", "How often the session came up.", "peer"),
		downs:    desc("bfd_session_downs_total", "How often the session went down.", "peer"),
		sent:     desc("bfd_packets_sent_total", "Control packets sent.", "peer"),
		received: desc("bfd_packets_received_total", "Control packets received, by what became of them.", "peer", "verdict"),
		echoes:   desc("bfd_echoes_total", "Echo packets of the peer that were sent back.", "peer"),
		strays:   desc("bfd_packets_dropped_total", "Control packets that belong to no session, by why they were dropped.", "verdict"),
	}
}

func (m bfdMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.ups, m.downs, m.sent, m.received, m.echoes, m.strays} {
		out <- d
	}
}

func (m bfdMetrics) collect(out chan<- prometheus.Metric, rows []pathRow, stats bfd.Stats) {
	for _, row := range rows {
		up := 0
		if row.status.State == bfd.Up {
			up = 1
		}
		c := row.status.Counters
		gauge(out, m.up, up, row.peer)
		counter(out, m.ups, row.status.Ups, row.peer)
		counter(out, m.downs, row.status.Downs, row.peer)
		counter(out, m.sent, c.Sent, row.peer)
		counter(out, m.echoes, c.Echoes, row.peer)
		for _, v := range bfd.Verdicts() {
			counter(out, m.received, c.Received[v], row.peer, v.String())
		}
	}
	for _, v := range bfd.Verdicts() {
		if v != bfd.Accepted {
			counter(out, m.strays, stats.Dropped[v], v.String())
		}
	}
}
