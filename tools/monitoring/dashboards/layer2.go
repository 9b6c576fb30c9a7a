package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

var layer2 = page{
	file:        "layer2",
	title:       "Berth / Layer 2",
	description: "Who answers for addresses by ARP and NDP, how they move, and conflicts with other hosts.",
	choices: []choice{
		{label: "node", metric: "berth_speaker_members"},
	},
	rows: []row{
		{"Addresses", []panel{
			{
				title:       "Announced addresses",
				description: "How many addresses each node answers for.",
				kind:        areas,
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`count by (node) (berth_speaker_announced{job="berth",node=~"$node"})`, "{{node}}",
				}},
			},
			{
				title: "Conflicts",
				description: "Addresses that are not answered as they should be, as the node sees it that " +
					"sees most of them.",
				unit:  units.Short,
				width: 12,
				queries: []query{{
					`max by (kind) (berth_speaker_conflicts{job="berth",node=~"$node"})`, "{{kind}}",
				}},
			},
			{
				title:       "Takeovers",
				description: "Addresses that nodes took, by cause.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (cause) (increase(berth_speaker_takeover_seconds_count` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`,
					"{{cause}}",
				}},
			},
			{
				title: "Time of takeovers after a node died",
				description: "Time until the first announcement, since the kernel of the dead owner last " +
					"answered.",
				unit:  units.Seconds,
				width: 12,
				queries: quantiles("berth_speaker_takeover_seconds",
					`job="berth",node=~"$node",cause="NodeGone"`),
			},
			{
				title:       "Contested addresses",
				description: "Addresses that two nodes both claim.",
				kind:        listing,
				unit:        units.Short,
				width:       12,
				queries: []query{{
					expr: `max by (address, node, rival) (berth_speaker_address_contested` +
						`{job="berth",node=~"$node"})`,
				}},
			},
			{
				title:       "Addresses that more than one node announces",
				description: "For moments this is a hand-over or a stand-in.",
				kind:        listing,
				unit:        units.Short,
				width:       12,
				queries:     []query{{expr: `count by (address) (berth_speaker_announced{job="berth"}) > 1`}},
			},
		}},
		{"Frames", []panel{
			{
				title:       "Requests",
				description: "Valid requests that came in, and replies that were sent.",
				unit:        units.PacketsPerSecond,
				width:       12,
				queries: []query{
					{`sum by (protocol) (rate(berth_speaker_layer2_requests_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`, "{{protocol}} requests"},
					{`sum by (protocol) (rate(berth_speaker_layer2_replies_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`, "{{protocol}} replies"},
				},
			},
			{
				title:       "Frames, by outcome",
				description: "Frames that the kernel let through. docs/metrics.md explains the words.",
				unit:        units.PacketsPerSecond,
				width:       12,
				queries: []query{{
					`sum by (verdict) (rate(berth_speaker_layer2_frames_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`,
					"{{verdict}}",
				}},
			},
			{
				title: "Announcements",
				description: "Bursts begin when an address comes to a link; refreshes follow now and then; " +
					"defences answer claims of other hosts.",
				unit:  units.OpsPerSecond,
				width: 12,
				queries: []query{
					{`sum(rate(berth_speaker_layer2_bursts_total{job="berth",node=~"$node"}` +
						`[$__rate_interval]))`, "bursts"},
					{`sum(rate(berth_speaker_layer2_refreshes_total{job="berth",node=~"$node"}` +
						`[$__rate_interval]))`, "refreshes"},
					{`sum(rate(berth_speaker_layer2_defences_total{job="berth",node=~"$node"}` +
						`[$__rate_interval]))`, "defences"},
				},
			},
			{
				title:       "Send errors",
				description: "Replies and announcements that could not be sent.",
				unit:        units.PacketsPerSecond,
				width:       12,
				queries: []query{{
					`sum by (node, link) (rate(berth_speaker_layer2_send_errors_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`,
					"{{node}} {{link}}",
				}},
			},
		}},
		{"Health of nodes", []panel{
			{
				title:       "Missed probes",
				description: "Probes to the kernels of other nodes that were not answered in time.",
				unit:        units.PercentUnit,
				width:       12,
				queries: []query{{
					`sum by (node) (rate(berth_speaker_layer2_node_probe_misses_total` +
						`{job="berth",node=~"$node"}[$__rate_interval])) / ` +
						`sum by (node) (rate(berth_speaker_layer2_node_probes_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`,
					"{{node}}",
				}},
			},
			{
				title:       "Stalls",
				description: "Times that a speaker did not run for more than a second.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (node) (increase(berth_speaker_stalls_total{job="berth",node=~"$node"}` +
						`[$__rate_interval]))`,
					"{{node}}",
				}},
			},
		}},
	},
}
