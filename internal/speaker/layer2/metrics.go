package layer2

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// metrics are those of layer 2. All but the takeovers are read when they are scraped.
type metrics struct {
	view      *view
	announcer Announcer
	prober    Prober
	conflicts *conflicts

	takeovers      *prometheus.HistogramVec
	announced      *prometheus.Desc
	lingering      *prometheus.Desc
	inConflict     *prometheus.Desc
	conflictsTotal *prometheus.Desc
	contested      *prometheus.Desc
	stalls         *prometheus.Desc
	frames         *prometheus.Desc
	byLink         []linkMetric[announcer.Counters]
	byProbe        []linkMetric[prober.Counters]
}

// linkMetric is one of the Counters that there are for each link and protocol.
type linkMetric[Counters any] struct {
	desc  *prometheus.Desc
	value func(Counters) uint64
}

func newLinkMetric[Counters any](name, help string, value func(Counters) uint64) linkMetric[Counters] {
	labels := []string{"link", "protocol"}
	return linkMetric[Counters]{prometheus.NewDesc("berth_speaker_layer2_"+name, help, labels, nil), value}
}

func newMetrics(v *view, a Announcer, p Prober, c *conflicts) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("berth_speaker_"+name, help, labels, nil)
	}
	m := &metrics{
		view:      v,
		announcer: a,
		prober:    p,
		conflicts: c,
		takeovers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_speaker_takeover_seconds",
			Help: "Time until the first announcement of an address that this node takes, or until it " +
				"answers where it announces nothing yet: since the kernel of a dead owner last answered, " +
				"otherwise since the decision; by cause.",
			Buckets: []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 5, 10, 30, 60},
		}, []string{"cause"}),
		announced: desc("announced", "1 for each address that this node announces by layer 2.", "address"),
		lingering: desc("lingering",
			"Addresses of other nodes that this node, which owned them before, still answers for."),
		inConflict: desc("conflicts",
			"Addresses that another host than the owner answers for now, or nobody.", "kind"),
		conflictsTotal: desc("conflicts_total", "Conflicts seen.", "kind"),
		contested: desc("address_contested",
			"1 for each address that this node and another both claim: 256 at most are listed.",
			"address", "node", "rival"),
		stalls: desc("stalls_total",
			"Stalls of this process, after which it asked the other speakers before it answered again."),
		frames: desc("layer2_frames_total",
			"ARP and NDP frames that the kernel's filter let through, by outcome.",
			"link", "protocol", "verdict"),
		byLink:  announcerMetrics(),
		byProbe: proberMetrics(),
	}
	// A counter that begins with 1 has not increased: what is alarming is there from the
	// start.
	m.takeovers.WithLabelValues(string(v1beta1.CauseNodeGone))
	return m
}

// announcerMetrics returns the counters of the announcer.
func announcerMetrics() []linkMetric[announcer.Counters] {
	return []linkMetric[announcer.Counters]{
		newLinkMetric("requests_total", "Valid requests received.",
			func(c announcer.Counters) uint64 { return c.Requests }),
		newLinkMetric("replies_total", "Replies sent.",
			func(c announcer.Counters) uint64 { return c.Replies }),
		newLinkMetric("bursts_total", "Bursts started.",
			func(c announcer.Counters) uint64 { return c.Bursts }),
		newLinkMetric("refreshes_total", "Announcements sent after bursts.",
			func(c announcer.Counters) uint64 { return c.Refreshes }),
		newLinkMetric("defences_total", "Announcements sent against claims of other hosts.",
			func(c announcer.Counters) uint64 { return c.Defences }),
		newLinkMetric("gratuitous_frames_total", "Gratuitous frames sent.",
			func(c announcer.Counters) uint64 { return c.Gratuitous }),
		newLinkMetric("send_errors_total", "Replies and announcements that could not be sent.",
			func(c announcer.Counters) uint64 { return c.SendErrors }),
	}
}

// proberMetrics returns the counters of the prober.
func proberMetrics() []linkMetric[prober.Counters] {
	return []linkMetric[prober.Counters]{
		newLinkMetric("node_probes_total", "Probes sent to other nodes' kernels.",
			func(c prober.Counters) uint64 { return c.Probes }),
		newLinkMetric("node_probe_misses_total", "Probes that were not answered in time.",
			func(c prober.Counters) uint64 { return c.Misses }),
		newLinkMetric("address_probes_total", "Probes sent to find out who has an address.",
			func(c prober.Counters) uint64 { return c.Questions }),
	}
}

// tookOver records how long one takeover took.
func (m *metrics) tookOver(cause v1beta1.Cause, took time.Duration) {
	m.takeovers.WithLabelValues(string(cause)).Observe(took.Seconds())
}

// describe sends the descriptions of all metrics.
func (m *metrics) describe(out chan<- *prometheus.Desc) {
	m.takeovers.Describe(out)
	for _, d := range []*prometheus.Desc{
		m.announced, m.lingering, m.inConflict, m.conflictsTotal, m.contested, m.stalls, m.frames,
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

// collect sends the values of now.
func (m *metrics) collect(out chan<- prometheus.Metric) {
	m.takeovers.Collect(out)
	for addr, r := range m.view.memory.announced() {
		if r.LingersFor == "" {
			kube.Gauge(out, m.announced, 1, addr.String())
		}
	}
	kube.Gauge(out, m.lingering, len(m.view.memory.lingering()))
	m.collectConflicts(out)
	stats := m.announcer.Stats()
	kube.Counter(out, m.stalls, stats.Stalls)
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

func (m *metrics) collectConflicts(out chan<- prometheus.Metric) {
	kinds := map[v1beta1.ConflictKind]int{}
	for _, c := range m.conflicts.list() {
		kinds[c.kind]++
	}
	counted := m.conflicts.counted()
	for _, kind := range []v1beta1.ConflictKind{
		v1beta1.ConflictForeignHost,
		v1beta1.ConflictOtherNode,
		v1beta1.ConflictUnanswered,
		v1beta1.ConflictDuplicate,
		v1beta1.ConflictContested,
	} {
		kube.Gauge(out, m.inConflict, kinds[kind], string(kind))
		kube.Counter(out, m.conflictsTotal, counted[kind], string(kind))
	}
	now, listed := time.Now(), 0
	for addr, r := range m.view.memory.all() {
		if !r.Dispute.Lasts(now) || listed == v1beta1.MaxSpeakerAnnouncements {
			continue
		}
		listed++
		for _, rival := range r.Dispute.With {
			kube.Gauge(out, m.contested, 1, addr.String(), m.view.node, rival)
		}
	}
}
