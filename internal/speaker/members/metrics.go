package members

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// Metrics are those of who is there, read when they are scraped. They are a
// prometheus.Collector.
type Metrics struct {
	tracker *Tracker
	room    interface{ IsFull() bool }
	traffic interface{ Traffic() membership.Traffic }

	members        *prometheus.Desc
	byPresence     *prometheus.Desc
	unread         *prometheus.Desc
	full           *prometheus.Desc
	streams        *prometheus.Desc
	packets        *prometheus.Desc
	contradictions *prometheus.Desc
	unreachable    *prometheus.Desc
	isolated       *prometheus.Desc
}

// NewMetrics returns the metrics of a Tracker, of the room for claims, and of the traffic
// at the member port.
func NewMetrics(
	t *Tracker, room interface{ IsFull() bool }, traffic interface{ Traffic() membership.Traffic },
) *Metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("berth_speaker_"+name, help, labels, nil)
	}
	return &Metrics{
		tracker: t,
		room:    room,
		traffic: traffic,
		members: desc("members", "Speakers seen alive, this one included."),
		unread: desc("members_unreadable",
			"Other speakers that are members and use a format that this version does not read."),
		full: desc("claims_full",
			"1 while this node claims about as many addresses as it can publish, and gets no more."),
		byPresence: desc("members_by_presence", "Speakers of other nodes, by presence.", "presence"),
		streams: desc("member_connections_total",
			"TCP connections to the member port, by outcome.", "verdict"),
		packets: desc("member_packets_dropped_total",
			"Packets to the member port that were dropped before decryption.", "verdict"),
		contradictions: desc("member_contradictions_total",
			"Entries about this node that others published and this node corrected."),
		unreachable: desc("members_unreachable",
			"Other speakers that work, according to the API server, and cannot be reached."),
		isolated: desc("isolated",
			"1 while neither the API server nor another speaker is heard for --isolation-timeout."),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.members, m.byPresence, m.unread, m.full, m.streams,
		m.packets, m.contradictions, m.unreachable, m.isolated,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	s := m.tracker.Current()
	presences, unread := map[announcement.Presence]int{}, 0
	for _, other := range s.Members {
		presences[other.Presence]++
		if other.Unread {
			unread++
		}
	}
	kube.Gauge(out, m.members, max(s.Alive, 1))
	kube.Gauge(out, m.unreachable, len(s.Unheard()))
	kube.Gauge(out, m.unread, unread)
	kube.Gauge(out, m.isolated, oneIf(m.tracker.IsIsolated()))
	kube.Gauge(out, m.full, oneIf(m.room.IsFull()))
	for _, presence := range []announcement.Presence{
		announcement.Present, announcement.Leaving, announcement.Held, announcement.Gone,
	} {
		kube.Gauge(out, m.byPresence, presences[presence], presence.String())
	}

	traffic := m.traffic.Traffic()
	for _, v := range membership.Outcomes() {
		kube.Counter(out, m.streams, traffic.Connections[v], string(v))
	}
	for _, v := range []membership.Outcome{membership.OverLimit, membership.Malformed} {
		kube.Counter(out, m.packets, traffic.Packets[v], string(v))
	}
	kube.Counter(out, m.contradictions, traffic.Contradictions)
}

// oneIf returns 1 when something is so, else 0.
func oneIf(so bool) int {
	if so {
		return 1
	}
	return 0
}
