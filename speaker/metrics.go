package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// metrics are the speaker's own. All but the takeovers are read from its state
// when they are scraped.
type metrics struct {
	view      *view
	announcer interface{ Stats() announcer.Stats }
	prober    interface{ Stats() prober.Stats }
	conflicts interface {
		list() []v1beta1.Layer2Conflict
		counted() map[v1beta1.ConflictKind]uint64
	}

	traffic interface{ Traffic() membership.Traffic }

	takeovers      *prometheus.HistogramVec
	announced      *prometheus.Desc
	members        *prometheus.Desc
	fellows        *prometheus.Desc
	unread         *prometheus.Desc
	full           *prometheus.Desc
	memberStreams  *prometheus.Desc
	memberPackets  *prometheus.Desc
	contradictions *prometheus.Desc
	unheard        *prometheus.Desc
	isolated       *prometheus.Desc
	writeFailures  *prometheus.Desc
	inConflict     *prometheus.Desc
	conflictsTotal *prometheus.Desc
	contested      *prometheus.Desc
	suspensions    *prometheus.Desc
	frames         *prometheus.Desc
	byLink         []linkMetric
	byProbe        []probeMetric
}

// linkMetric is one counter of the announcer, for each link and protocol.
type linkMetric struct {
	desc  *prometheus.Desc
	value func(announcer.Counters) uint64
}

// probeMetric is one counter of the prober, for each link and protocol.
type probeMetric struct {
	desc  *prometheus.Desc
	value func(prober.Counters) uint64
}

func newMetrics(
	v *view, a interface{ Stats() announcer.Stats }, p interface{ Stats() prober.Stats }, c *conflicts,
	traffic interface{ Traffic() membership.Traffic },
) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("berth_speaker_"+name, help, labels, nil)
	}
	onLink := func(name, help string) *prometheus.Desc { return desc("layer2_"+name, help, "link", "protocol") }
	return &metrics{
		view: v, announcer: a, prober: p, conflicts: c, traffic: traffic,
		takeovers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "berth_speaker_takeover_seconds",
			Help:    "Time to the first announcement of an address taken: from when the kernel of a dead owner last answered, else from the decision, by cause.",
			Buckets: []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 5, 10, 30, 60},
		}, []string{"cause"}),
		announced:      desc("announced", "1 for each address that this node announces by layer 2.", "address"),
		members:        desc("members", "Speakers seen alive, this one included."),
		unread:         desc("fellows_not_understood", "Other speakers that are members and speak a format that this version does not read."),
		full:           desc("claims_full", "1 while this node claims about as many addresses as it can tell the others of, and gets no more."),
		fellows:        desc("fellows", "Other nodes' speakers, by what is expected of them.", "presence"),
		memberStreams:  desc("member_connections_total", "TCP connections to the member port, by what became of them.", "verdict"),
		memberPackets:  desc("member_packets_dropped_total", "Packets to the member port that were dropped before they were decrypted.", "verdict"),
		contradictions: desc("member_contradictions_total", "Statements of this node that others made, and that it corrected."),
		unheard:        desc("members_unheard", "Other speakers that work, as the API server tells, and are not heard at the port of speakers."),
		isolated:       desc("isolated", "1 while neither the API server nor another speaker is heard for --isolation-timeout."),
		writeFailures:  desc("object_write_failures_total", "Writes of the Speaker object that failed."),
		inConflict:     desc("conflicts", "Addresses that another than the owner answers for, or nobody, now.", "kind"),
		conflictsTotal: desc("conflicts_total", "Conflicts seen.", "kind"),
		contested: desc("address_contested",
			"1 for each address that this node and another both take for theirs: 256 at most are listed.", "address", "node", "rival"),
		suspensions: desc("suspensions_total", "How often this process stood still and asked its fellows before it answered again."),
		frames:      desc("layer2_frames_total", "ARP and NDP frames that the kernel's filter let through, by what became of them.", "link", "protocol", "verdict"),
		byLink: []linkMetric{
			{onLink("requests_total", "Good requests, answered or not."), func(c announcer.Counters) uint64 { return c.Requests }},
			{onLink("replies_total", "Answers sent."), func(c announcer.Counters) uint64 { return c.Replies }},
			{onLink("bursts_total", "Bursts begun."), func(c announcer.Counters) uint64 { return c.Bursts }},
			{onLink("refreshes_total", "Announcements after bursts."), func(c announcer.Counters) uint64 { return c.Refreshes }},
			{onLink("defences_total", "Announcements against claims of other hosts."), func(c announcer.Counters) uint64 { return c.Defences }},
			{onLink("gratuitous_total", "Frames sent unasked, to announce."), func(c announcer.Counters) uint64 { return c.Gratuitous }},
			{onLink("send_errors_total", "Replies and announcements that could not be sent."), func(c announcer.Counters) uint64 { return c.SendErrors }},
		},
		byProbe: []probeMetric{
			{onLink("node_probes_total", "Probes of other nodes' kernels sent."), func(c prober.Counters) uint64 { return c.Probes }},
			{onLink("node_probe_misses_total", "Probes that were not answered in time."), func(c prober.Counters) uint64 { return c.Misses }},
			{onLink("questions_total", "Questions sent to find out who has an address."), func(c prober.Counters) uint64 { return c.Questions }},
		},
	}
}

// tookOver takes down how long one takeover took.
func (m *metrics) tookOver(cause v1beta1.Cause, took time.Duration) {
	m.takeovers.WithLabelValues(string(cause)).Observe(took.Seconds())
}

// Describe tells the registry what there is.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.takeovers.Describe(out)
	for _, d := range []*prometheus.Desc{
		m.announced, m.members, m.fellows, m.unread, m.full, m.unheard, m.isolated, m.writeFailures, m.memberStreams, m.memberPackets, m.contradictions,
		m.inConflict, m.conflictsTotal, m.contested, m.suspensions, m.frames,
	} {
		out <- d
	}
	for _, l := range m.byLink {
		out <- l.desc
	}
	for _, p := range m.byProbe {
		out <- p.desc
	}
}

// Collect reads the values.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.takeovers.Collect(out)
	for addr := range m.view.state.announced() {
		kube.Gauge(out, m.announced, 1, addr.String())
	}
	m.collectFellows(out)
	m.collectTraffic(out)
	m.collectConflicts(out)
	stats := m.announcer.Stats()
	kube.Counter(out, m.suspensions, stats.Suspensions)
	for _, l := range stats.Links {
		for verdict, n := range l.Verdicts {
			kube.Counter(out, m.frames, n, l.Link, l.Protocol, verdict.String())
		}
		for _, metric := range m.byLink {
			kube.Counter(out, metric.desc, metric.value(l.Counters), l.Link, l.Protocol)
		}
	}
	for _, l := range m.prober.Stats().Links {
		for _, metric := range m.byProbe {
			kube.Counter(out, metric.desc, metric.value(l.Counters), l.Link, l.Protocol)
		}
	}
}

func (m *metrics) collectFellows(out chan<- prometheus.Metric) {
	p := m.view.tracker.Current()
	kube.Gauge(out, m.members, max(p.Alive, 1))
	kube.Gauge(out, m.unheard, len(p.Unheard()))
	isolated := 0
	if m.view.tracker.IsIsolated() {
		isolated = 1
	}
	kube.Gauge(out, m.isolated, isolated)
	kube.Counter(out, m.writeFailures, m.view.writeFailures.Load())
	presences := map[announcement.Presence]int{}
	unread := 0
	for _, f := range p.Members {
		presences[f.Presence]++
		if f.Unread {
			unread++
		}
	}
	kube.Gauge(out, m.unread, unread)
	full := 0
	if m.view.claims.IsFull() {
		full = 1
	}
	kube.Gauge(out, m.full, full)
	for _, presence := range []announcement.Presence{announcement.Present, announcement.Leaving, announcement.Held, announcement.Gone} {
		kube.Gauge(out, m.fellows, presences[presence], presence.String())
	}
}

func (m *metrics) collectTraffic(out chan<- prometheus.Metric) {
	traffic := m.traffic.Traffic()
	for _, v := range membership.Verdicts() {
		kube.Counter(out, m.memberStreams, traffic.Connections[v], string(v))
	}
	for _, v := range []membership.Verdict{membership.Crowded, membership.Malformed} {
		kube.Counter(out, m.memberPackets, traffic.Packets[v], string(v))
	}
	kube.Counter(out, m.contradictions, traffic.Contradictions)
}

func (m *metrics) collectConflicts(out chan<- prometheus.Metric) {
	kinds := map[v1beta1.ConflictKind]int{}
	for _, c := range m.conflicts.list() {
		kinds[c.Kind]++
	}
	counted := m.conflicts.counted()
	for _, kind := range []v1beta1.ConflictKind{
		v1beta1.ConflictForeign, v1beta1.ConflictFellow, v1beta1.ConflictDead, v1beta1.ConflictTwice, v1beta1.ConflictContested,
	} {
		kube.Gauge(out, m.inConflict, kinds[kind], string(kind))
		kube.Counter(out, m.conflictsTotal, counted[kind], string(kind))
	}
	now, listed := time.Now(), 0
	for addr, r := range m.view.state.all() {
		if !r.Dispute.Lasts(now) || listed == v1beta1.MaxSpeakerAnnouncements {
			continue
		}
		listed++
		for _, rival := range r.Dispute.With {
			kube.Gauge(out, m.contested, 1, addr.String(), m.view.node, rival)
		}
	}
}
