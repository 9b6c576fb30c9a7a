package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

var bgp = page{
	file:        "bgp",
	title:       "Berth / BGP and BFD",
	description: "Sessions with routers, and the prefixes that are announced to them.",
	choices: []choice{
		{label: "peer", metric: "berth_speaker_bgp_session_up"},
		{label: "node", metric: "berth_speaker_bgp_session_up"},
	},
	rows: []row{
		{"Sessions", []panel{
			{
				title:       "Sessions up",
				description: "How many nodes have a session with each peer.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (peer) (berth_speaker_bgp_session_up{job="berth",peer=~"$peer",node=~"$node"})`,
					"{{peer}}",
				}},
			},
			{
				title: "Sessions that are not up",
				description: "With the state that they are in. lastError in the Speaker object of the node " +
					"says why.",
				kind:  listing,
				unit:  units.Short,
				width: 12,
				queries: []query{{
					expr: `max by (node, peer, state) (berth_speaker_bgp_session_state` +
						`{job="berth",peer=~"$peer",node=~"$node",state!="Established"}) == 1`,
				}},
			},
			{
				title:       "Sessions that ended",
				description: "Each time the router withdraws the routes to the node.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (node, peer) (increase(berth_speaker_bgp_session_downs_total` +
						`{job="berth",peer=~"$peer",node=~"$node"}[$__rate_interval]))`,
					"{{node}} {{peer}}",
				}},
			},
			{
				title:       "Sessions that were established",
				description: "Many of them, one after another, are a session that flaps.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (node, peer) (increase(berth_speaker_bgp_session_ups_total` +
						`{job="berth",peer=~"$peer",node=~"$node"}[$__rate_interval]))`,
					"{{node}} {{peer}}",
				}},
			},
		}},
		{"Routes", []panel{
			{
				title:       "Announced prefixes",
				description: "The most that a node announces to each peer.",
				unit:        units.Short,
				width:       8,
				queries: []query{{
					`max by (peer, family) (berth_speaker_bgp_prefixes_advertised` +
						`{job="berth",peer=~"$peer",node=~"$node"})`,
					"{{peer}} {{family}}",
				}},
			},
			{
				title: "Time to route",
				description: "Time from the decision to announce a new address to its route in the first " +
					"established session.",
				unit:    units.Seconds,
				width:   8,
				queries: quantiles("berth_speaker_bgp_time_to_route_seconds", `job="berth",node=~"$node"`),
			},
			{
				title:       "UPDATE messages ignored",
				description: "Berth learns no routes: what routers send is discarded unread.",
				unit:        units.PacketsPerSecond,
				width:       8,
				queries: []query{{
					`sum by (peer) (rate(berth_speaker_bgp_updates_ignored_total` +
						`{job="berth",peer=~"$peer",node=~"$node"}[$__rate_interval]))`,
					"{{peer}}",
				}},
			},
		}},
		{"BFD", []panel{
			{
				title:       "BFD sessions up",
				description: "How many nodes have a BFD session with each peer.",
				unit:        units.Short,
				width:       8,
				queries: []query{{
					`sum by (peer) (berth_speaker_bfd_session_up{job="berth",peer=~"$peer",node=~"$node"})`,
					"{{peer}}",
				}},
			},
			{
				title:       "BFD sessions that went down",
				description: "The BGP session ends with it.",
				unit:        units.Short,
				width:       8,
				queries: []query{{
					`sum by (node, peer) (increase(berth_speaker_bfd_session_downs_total` +
						`{job="berth",peer=~"$peer",node=~"$node"}[$__rate_interval]))`,
					"{{node}} {{peer}}",
				}},
			},
			{
				title:       "Control packets",
				description: "Received, by outcome. docs/bfd.md explains the words.",
				unit:        units.PacketsPerSecond,
				width:       8,
				queries: []query{
					{`sum by (verdict) (rate(berth_speaker_bfd_packets_received_total` +
						`{job="berth",peer=~"$peer",node=~"$node"}[$__rate_interval]))`, "{{verdict}}"},
					{`sum by (verdict) (rate(berth_speaker_bfd_packets_dropped_total` +
						`{job="berth",node=~"$node"}[$__rate_interval]))`, "of no session: {{verdict}}"},
				},
			},
		}},
	},
}
