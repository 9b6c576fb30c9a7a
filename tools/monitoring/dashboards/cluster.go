package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

var cluster = page{
	file:        "cluster",
	title:       "Berth / Cluster",
	description: "Whether Berth works: its processes, what waits for it, and what is wrong on the network.",
	rows: []row{
		{"Now", []panel{
			{
				title:       "Controllers",
				description: "Controllers that could be scraped. One of them leads.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				queries:     []query{{expr: `sum(up{job="berth",role="controller"})`}},
			},
			{
				title:       "Speakers",
				description: "Speakers that could be scraped.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				queries:     []query{{expr: `sum(up{job="berth",role="speaker"})`}},
			},
			{
				title:       "Speakers down",
				description: "Speakers that could not be scraped: the node is dead, or its speaker ended.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries: []query{{
					expr: `count(max by (node) (up{job="berth",role="speaker"}) == 0) or vector(0)`,
				}},
			},
			{
				title:       "Services waiting",
				description: "Services without all the addresses that they ask for.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries:     []query{{expr: `sum(berth_controller_services_waiting{job="berth"})`}},
			},
			{
				title:       "Objects not ready",
				description: "Pools, advertisements, peers and others that are not in force as written.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries: []query{{
					expr: `sum(berth_controller_objects{job="berth",reason!="Accepted"}) or vector(0)`,
				}},
			},
			{
				title:       "Conflicts",
				description: "Addresses that another than the owner answers for, or nobody, or two nodes.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries: []query{{
					expr: `sum(max by (kind) (berth_speaker_conflicts{job="berth"}))`,
				}},
			},
			{
				title:       "BGP sessions down",
				description: "Sessions that nodes are to have and have not.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries: []query{{
					expr: `count(berth_speaker_bgp_session_up{job="berth"} == 0) or vector(0)`,
				}},
			},
			{
				title:       "Speakers that miss others",
				description: "Speakers that do not reach others at the member port, although these work.",
				kind:        number,
				unit:        units.Short,
				width:       3,
				bad:         true,
				queries: []query{{
					expr: `count(berth_speaker_members_unreachable{job="berth"} > 0) or vector(0)`,
				}},
			},
		}},
		{"Addresses", []panel{
			{
				title:       "Assigned addresses",
				description: "Addresses that Services have, by pool.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`sum by (pool) (max by (pool, family) (` +
						`berth_controller_pool_addresses{job="berth",state="assigned"}))`,
					"{{pool}}",
				}},
			},
			{
				title:       "Services waiting, by reason",
				description: "Why Services lack an address that they ask for.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`max by (reason) (berth_controller_services_waiting{job="berth"})`, "{{reason}}",
				}},
			},
			{
				title:       "Time to address",
				description: "Time from seeing a Service without an address to writing its first one.",
				unit:        units.Seconds,
				width:       12,
				queries:     quantiles("berth_controller_time_to_address_seconds", `job="berth"`),
			},
			{
				title:       "Status writes to Services",
				description: "By the reason of the condition that was written.",
				unit:        units.RequestsPerSecond,
				width:       12,
				queries: []query{{
					`sum by (reason) (rate(berth_controller_assignment_changes_total{job="berth"}` +
						`[$__rate_interval]))`,
					"{{reason}}",
				}},
			},
			{
				title: "Takeovers",
				description: "Addresses that nodes took by layer 2, by cause: NodeGone after a node died, " +
					"HandOver when a node gave it up.",
				unit:  units.Short,
				width: 12,
				queries: []query{{
					`sum by (cause) (increase(berth_speaker_takeover_seconds_count{job="berth"}` +
						`[$__rate_interval]))`,
					"{{cause}}",
				}},
			},
			{
				title:       "Objects not ready, by kind",
				description: "By kind and reason. The condition Ready of each says more.",
				kind:        listing,
				unit:        units.Short,
				width:       12,
				queries: []query{{
					expr: `sum by (kind, reason) (berth_controller_objects` +
						`{job="berth",reason!="Accepted"}) > 0`,
				}},
			},
		}},
		{"Processes", []panel{
			{
				title:       "Processor time",
				description: "The busiest process of each role. 100 % is one core.",
				unit:        units.PercentUnit,
				width:       8,
				queries: []query{{
					`max by (role) (rate(process_cpu_seconds_total{job="berth"}[$__rate_interval]))`,
					"{{role}}",
				}},
			},
			{
				title:       "Memory",
				description: "The largest process of each role, resident.",
				unit:        units.BytesIEC,
				width:       8,
				queries: []query{{
					`max by (role) (process_resident_memory_bytes{job="berth"})`, "{{role}}",
				}},
			},
			{
				title:       "Versions",
				description: "How many processes of each role run which version.",
				kind:        listing,
				unit:        units.Short,
				width:       8,
				queries:     []query{{expr: `count by (role, version) (berth_build_info{job="berth"})`}},
			},
		}},
	},
}

// quantiles are the queries for what half, and all but a hundredth, of what a histogram
// has seen took at most.
func quantiles(histogram, matchers string) []query {
	expr := func(quantile string) string {
		return `histogram_quantile(` + quantile + `, sum by (le) (rate(` + histogram + `_bucket{` + matchers +
			`}[$__rate_interval])))`
	}
	return []query{{expr("0.5"), "median"}, {expr("0.99"), "99 %"}}
}
