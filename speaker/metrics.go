package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/pkg/layer2"
)

// metrics are the speaker's own, read from its state when they are scraped.
type metrics struct {
	view      *view
	announcer interface{ Stats() layer2.Stats }

	announced  *prometheus.Desc
	members    *prometheus.Desc
	frames     *prometheus.Desc
	gratuitous *prometheus.Desc
	sendErrors *prometheus.Desc
}

func newMetrics(v *view, announcer interface{ Stats() layer2.Stats }) *metrics {
	return &metrics{
		view:      v,
		announcer: announcer,
		announced: prometheus.NewDesc("berth_speaker_announced",
			"1 for each address that this node announces by layer 2.", []string{"address"}, nil),
		members: prometheus.NewDesc("berth_speaker_members",
			"Speakers seen alive, this one included.", nil, nil),
		frames: prometheus.NewDesc("berth_speaker_layer2_frames_total",
			"ARP and NDP frames that the kernel's filter let through, by what became of them.", []string{"link", "protocol", "verdict"}, nil),
		gratuitous: prometheus.NewDesc("berth_speaker_layer2_gratuitous_total",
			"Announcements sent unasked.", []string{"link", "protocol"}, nil),
		sendErrors: prometheus.NewDesc("berth_speaker_layer2_send_errors_total",
			"Replies and announcements that could not be sent.", []string{"link", "protocol"}, nil),
	}
}

// Describe tells the registry what there is.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.announced, m.members, m.frames, m.gratuitous, m.sendErrors} {
		out <- d
	}
}

// Collect reads the values.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for addr := range m.view.state.announced() {
		out <- prometheus.MustNewConstMetric(m.announced, prometheus.GaugeValue, 1, addr.String())
	}
	out <- prometheus.MustNewConstMetric(m.members, prometheus.GaugeValue, float64(len(m.view.members.Members())))
	for _, l := range m.announcer.Stats().Links {
		for verdict, n := range l.Verdicts {
			out <- prometheus.MustNewConstMetric(m.frames, prometheus.CounterValue, float64(n), l.Link, l.Protocol, verdict.String())
		}
		out <- prometheus.MustNewConstMetric(m.gratuitous, prometheus.CounterValue, float64(l.Gratuitous), l.Link, l.Protocol)
		out <- prometheus.MustNewConstMetric(m.sendErrors, prometheus.CounterValue, float64(l.SendErrors), l.Link, l.Protocol)
	}
}
