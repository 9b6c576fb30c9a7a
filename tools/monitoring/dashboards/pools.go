package dashboards

import "github.com/grafana/grafana-foundation-sdk/go/units"

var pools = page{
	file:        "pools",
	title:       "Berth / Pools",
	description: "How full the pools are, and which Service has which address.",
	choices: []choice{
		{label: "pool", metric: "berth_controller_pool_addresses"},
	},
	rows: []row{
		{"Use", []panel{
			{
				title:       "Used",
				description: "Assigned addresses, of those that can be assigned.",
				unit:        units.PercentUnit,
				width:       12,
				queries: []query{{
					`max by (pool, family) (berth_controller_pool_addresses` +
						`{job="berth",pool=~"$pool",state="assigned"}) / ` +
						`sum by (pool, family) (max by (pool, family, state) (` +
						`berth_controller_pool_addresses` +
						`{job="berth",pool=~"$pool",state=~"assigned|available|resting"}))`,
					"{{pool}} {{family}}",
				}},
			},
			{
				title:       "Available",
				description: "Addresses that a Service may have now.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`max by (pool, family) (berth_controller_pool_addresses` +
						`{job="berth",pool=~"$pool",state="available"})`,
					"{{pool}} {{family}}",
				}},
			},
			{
				title: "Assigned, resting and out of range",
				description: "Resting addresses were released a while ago and are kept back; those out of " +
					"range are held although the pool no longer contains them.",
				kind:  areas,
				unit:  units.Short,
				width: 12,
				queries: []query{{
					`max by (pool, family, state) (berth_controller_pool_addresses` +
						`{job="berth",pool=~"$pool",state=~"assigned|resting|out_of_range"})`,
					"{{pool}} {{family}} {{state}}",
				}},
			},
			{
				title:       "Services waiting, by reason",
				description: "Why Services lack an address that they ask for, whatever the pool.",
				unit:        units.Short,
				width:       12,
				queries: []query{{
					`max by (reason) (berth_controller_services_waiting{job="berth"})`, "{{reason}}",
				}},
			},
		}},
		{"Addresses", []panel{
			{
				title: "Who has which address",
				description: "The Service of each address, and the node that answers for it by layer 2. " +
					"With --address-metrics=false the controller has no such list.",
				kind:  listing,
				unit:  units.Short,
				width: 24,
				by:    "address",
				queries: []query{
					{expr: `max by (address, pool, holder) (berth_controller_address_info` +
						`{job="berth",pool=~"$pool"})`},
					{expr: `max by (address, node) (berth_speaker_announced{job="berth"})`},
				},
			},
		}},
	},
}
