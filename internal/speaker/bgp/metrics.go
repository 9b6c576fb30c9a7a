package bgp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
)

// metrics are those of BGP and BFD sessions.
type metrics struct {
	bgp     bgpMetrics
	bfd     bfdMetrics
	toRoute prometheus.Histogram
}

func newMetrics() metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("berth_speaker_"+name, help, labels, nil)
	}
	return metrics{
		bgp: newBGPMetrics(desc),
		bfd: newBFDMetrics(desc),
		toRoute: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_speaker_bgp_time_to_route_seconds",
			Help: "Time from the decision to announce a new address by BGP to its route in an " +
				"established session.",
			Buckets: []float64{0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10},
		}),
	}
}

func (m metrics) describe(out chan<- *prometheus.Desc) {
	m.toRoute.Describe(out)
	m.bgp.describe(out)
	m.bfd.describe(out)
}

func (m metrics) collect(
	out chan<- prometheus.Metric, sessions []sessionRow, now []bgp.Session, watched []bfdRow, stats bfd.Stats,
) {
	m.toRoute.Collect(out)
	m.bgp.collect(out, sessions, now)
	m.bfd.collect(out, watched, stats)
}

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
		ups:      desc("bgp_session_ups_total", "Times the session was established.", "peer"),
		downs:    desc("bgp_session_downs_total", "Times the session ended.", "peer"),
		received: desc("bgp_updates_ignored_total",
			"UPDATE messages received from the peer, all discarded.", "peer"),
	}
}

func (m bgpMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.state, m.prefixes, m.ups, m.downs, m.received} {
		out <- d
	}
}

func (m bgpMetrics) collect(out chan<- prometheus.Metric, rows []sessionRow, now []bgp.Session) {
	received := map[string]uint64{} // they are no change of a session, so the rows may be old
	for _, s := range now {
		received[s.Peer] = s.Ignored
	}
	for _, row := range rows {
		up := 0
		if row.State == bgp.SessionEstablished {
			up = 1
		}
		kube.Gauge(out, m.up, up, row.Peer)
		kube.Gauge(out, m.state, 1, row.Peer, string(row.state))
		kube.Gauge(out, m.prefixes, row.Advertised4, row.Peer, "ipv4")
		kube.Gauge(out, m.prefixes, row.Advertised6, row.Peer, "ipv6")
		kube.Counter(out, m.ups, row.ups, row.Peer)
		kube.Counter(out, m.downs, row.downs, row.Peer)
		kube.Counter(out, m.received, received[row.Peer], row.Peer)
	}
}

// bfdMetrics are those of BFD sessions, each with the name of the BGP peer.
type bfdMetrics struct {
	up, ups, downs, sent, received, echoes, strays *prometheus.Desc
}

func newBFDMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) bfdMetrics {
	return bfdMetrics{
		up:    desc("bfd_session_up", "1 while the BFD session with the peer is up, else 0.", "peer"),
		ups:   desc("bfd_session_ups_total", "Times the session came up.", "peer"),
		downs: desc("bfd_session_downs_total", "Times the session went down.", "peer"),
		sent:  desc("bfd_packets_sent_total", "Control packets sent.", "peer"),
		received: desc("bfd_packets_received_total",
			"Control packets received, by outcome.", "peer", "verdict"),
		echoes: desc("bfd_echoes_total", "Echo packets of the peer that were sent back.", "peer"),
		strays: desc("bfd_packets_dropped_total",
			"Control packets that belong to no session, by why they were dropped.", "verdict"),
	}
}

func (m bfdMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.ups, m.downs, m.sent, m.received, m.echoes, m.strays} {
		out <- d
	}
}

func (m bfdMetrics) collect(out chan<- prometheus.Metric, rows []bfdRow, stats bfd.Stats) {
	for _, row := range rows {
		up := 0
		if row.now.State == bfd.Up {
			up = 1
		}
		c := row.now.Counters
		kube.Gauge(out, m.up, up, row.peer)
		kube.Counter(out, m.ups, row.now.Ups, row.peer)
		kube.Counter(out, m.downs, row.now.Downs, row.peer)
		kube.Counter(out, m.sent, c.Sent, row.peer)
		kube.Counter(out, m.echoes, c.Echoes, row.peer)
		for _, v := range bfd.Verdicts() {
			kube.Counter(out, m.received, c.Received[v], row.peer, v.String())
		}
	}
	for _, v := range bfd.Verdicts() {
		if v != bfd.Accepted {
			kube.Counter(out, m.strays, stats.Dropped[v], v.String())
		}
	}
}
