package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

var node = page{
	file:        "node",
	title:       "Berth / One node",
	description: "What the speaker of one node does and sees.",
	choices: []choice{
		{label: "node", metric: "berth_speaker_members", single: true},
	},
	rows: []row{
		{"Now", []panel{
			{
				title:       "Scraped",
				description: "1 while the speaker can be scraped.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				queries:     []query{{expr: `max(up{job="berth",role="speaker",node="$node"})`}},
			},
			{
				title:       "Announced addresses",
				description: "How many addresses this node answers for by layer 2.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				queries: []query{{
					expr: `count(berth_speaker_announced{job="berth",node="$node"}) or vector(0)`,
				}},
			},
			{
				title:       "Members",
				description: "Speakers that this one sees alive, itself included.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				queries:     []query{{expr: `max(berth_speaker_members{job="berth",node="$node"})`}},
			},
			{
				title:       "Members not reached",
				description: "Speakers that work, as the API server knows, and are not reached.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				bad:         true,
				queries: []query{{
					expr: `max(berth_speaker_members_unreachable{job="berth",node="$node"})`,
				}},
			},
			{
				title:       "BGP sessions up",
				description: "Sessions with routers that are established.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				queries:     []query{{expr: `sum(berth_speaker_bgp_session_up{job="berth",node="$node"})`}},
			},
			{
				title:       "Isolated",
				description: "1 while the speaker hears neither the API server nor another speaker.",
				kind:        number,
				unit:        units.Short,
				width:       4,
				bad:         true,
				queries:     []query{{expr: `max(berth_speaker_isolated{job="berth",node="$node"})`}},
			},
		}},
		{"Addresses and sessions", []panel{
			{
				title:       "Addresses",
				description: "The addresses that this node answers for, and the Services that have them.",
				kind:        listing,
				unit:        units.Short,
				width:       12,
				queries: []query{{
					expr: `max by (address, pool, holder) (berth_controller_address_info{job="berth"}) ` +
						`and on (address) berth_speaker_announced{job="berth",node="$node"}`,
				}},
			},
			{
				title:       "BGP sessions",
				description: "The state of each.",
				kind:        listing,
				unit:        units.Short,
				width:       12,
				queries: []query{{
					expr: `max by (peer, state) (berth_speaker_bgp_session_state` +
						`{job="berth",node="$node"}) == 1`,
				}},
			},
		}},
		{"Other speakers", []panel{
			{
				title:       "Presence",
				description: "The speakers of other nodes, by presence.",
				kind:        areas,
				unit:        units.Short,
				width:       8,
				queries: []query{{
					`max by (presence) (berth_speaker_members_by_presence{job="berth",node="$node"})`,
					"{{presence}}",
				}},
			},
			{
				title:       "Connections to the member port",
				description: "By outcome. docs/metrics.md explains the words.",
				unit:        units.OpsPerSecond,
				width:       8,
				queries: []query{{
					`sum by (verdict) (rate(berth_speaker_member_connections_total` +
						`{job="berth",node="$node"}[$__rate_interval]))`,
					"{{verdict}}",
				}},
			},
			{
				title: "What others publish about this node",
				description: "Entries that the speaker had to correct, packets that it dropped, and failed " +
					"writes of its Speaker object.",
				unit:  units.OpsPerSecond,
				width: 8,
				queries: []query{
					{`sum(rate(berth_speaker_member_contradictions_total{job="berth",node="$node"}` +
						`[$__rate_interval]))`, "corrected"},
					{`sum by (verdict) (rate(berth_speaker_member_packets_dropped_total` +
						`{job="berth",node="$node"}[$__rate_interval]))`, "dropped: {{verdict}}"},
					{`sum(rate(berth_speaker_object_write_errors_total{job="berth",node="$node"}` +
						`[$__rate_interval]))`, "failed writes"},
				},
			},
		}},
		{"Frames", []panel{
			{
				title:       "Frames, by link and outcome",
				description: "ARP and NDP frames that the kernel's filter let through.",
				unit:        units.PacketsPerSecond,
				width:       12,
				queries: []query{{
					`sum by (link, verdict) (rate(berth_speaker_layer2_frames_total` +
						`{job="berth",node="$node"}[$__rate_interval]))`,
					"{{link}} {{verdict}}",
				}},
			},
			{
				title:       "Probes",
				description: "Probes to the kernels of other nodes, and those not answered in time.",
				unit:        units.PacketsPerSecond,
				width:       12,
				queries: []query{
					{`sum by (link) (rate(berth_speaker_layer2_node_probes_total` +
						`{job="berth",node="$node"}[$__rate_interval]))`, "{{link}} sent"},
					{`sum by (link) (rate(berth_speaker_layer2_node_probe_misses_total` +
						`{job="berth",node="$node"}[$__rate_interval]))`, "{{link}} missed"},
				},
			},
		}},
		{"Process", []panel{
			{
				title:       "Processor time",
				description: "100 % is one core.",
				unit:        units.PercentUnit,
				width:       8,
				queries: []query{{
					`rate(process_cpu_seconds_total{job="berth",role="speaker",node="$node"}` +
						`[$__rate_interval])`,
					"speaker",
				}},
			},
			{
				title:       "Memory",
				description: "Resident.",
				unit:        units.BytesIEC,
				width:       8,
				queries: []query{{
					`process_resident_memory_bytes{job="berth",role="speaker",node="$node"}`, "speaker",
				}},
			},
			{
				title: "Main loops",
				description: "How long the pass lasts that a main loop is in. A pass takes milliseconds; " +
					"after a minute the kubelet restarts the speaker.",
				unit:  units.Seconds,
				width: 8,
				queries: []query{{
					`max by (loop) (berth_loop_pass_seconds{job="berth",role="speaker",node="$node"})`,
					"{{loop}}",
				}},
			},
		}},
	},
}
