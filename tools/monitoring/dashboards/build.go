// Package dashboards has the dashboards of Berth for Grafana, as tables of panels, and
// makes their JSON.
//
// They are of the format that every Grafana since 10 reads. The library calls it
// deprecated, in favour of one that only the newest read.
package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// page is one dashboard.
type page struct {
	file        string // without .json; "berth-" before it is the uid
	title       string
	description string
	choices     []choice
	rows        []row
}

// choice is a variable whose values are those of a label.
type choice struct {
	label  string // and the name of the variable
	metric string // that has it
	single bool   // one value is chosen, not several
}

// row is a heading with panels below it.
type row struct {
	title  string
	panels []panel
}

// kind is how a panel shows its queries.
type kind int

const (
	lines   kind = iota // over time
	areas               // over time, one upon the other
	number              // now, as a number
	listing             // now, as a table
)

// panel shows one thing.
type panel struct {
	title       string
	description string
	kind        kind
	unit        string // of Grafana
	queries     []query
	width       uint32 // of 24 columns
	// bad has a number turn red from 1 on.
	bad bool
	// by joins the tables of several queries by this column.
	by string
}

// query is an expression, and how its series are called.
type query struct{ expr, legend string }

// height is that of all panels but numbers.
const height = 8

// All returns the files of all dashboards, by name.
func All() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, p := range []page{cluster, pools, layer2, bgp, node} {
		built, err := build(p)
		if err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", p.title, err)
		}
		var text bytes.Buffer
		in := json.NewEncoder(&text)
		in.SetIndent("", "  ")
		in.SetEscapeHTML(false)
		if err := in.Encode(built); err != nil {
			return nil, err
		}
		out[p.file+".json"] = text.Bytes()
	}
	return out, nil
}

// source is the data source that the user chooses.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}
}

// build returns a dashboard.
func build(p page) (dashboard.Dashboard, error) { //nolint:staticcheck // see the package
	links := []cog.Builder[dashboard.DashboardLink]{
		dashboard.NewDashboardLinkBuilder("Berth").
			Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"berth"}).
			AsDropdown(true).
			IncludeVars(true).
			KeepTime(true),
		dashboard.NewDashboardLinkBuilder("Alerts").
			Type(dashboard.DashboardLinkTypeLink).
			Url("https://github.com/berth-lb/berth/blob/main/docs/alerts.md"),
	}
	b := dashboard.NewDashboardBuilder(p.title) //nolint:staticcheck // see the package
	b = b.Uid("berth-"+p.file).
		Description(p.description).
		Tags([]string{"berth"}).
		Editable().
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Time("now-6h", "now").
		Refresh("30s").
		Links(links).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").
			Label("Data source").
			Type("prometheus"))
	for _, c := range p.choices {
		b = b.WithVariable(c.build())
	}
	id := uint32(0)
	for _, r := range p.rows {
		id++
		b = b.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		for _, one := range r.panels {
			id++
			b = b.WithPanel(one.build(id))
		}
	}
	return b.Build()
}

// build returns the variable.
func (c choice) build() cog.Builder[dashboard.VariableModel] {
	text := fmt.Sprintf(`label_values(%s{job="berth"}, %s)`, c.metric, c.label)
	v := dashboard.NewQueryVariableBuilder(c.label).
		Query(dashboard.StringOrMap{String: &text}).
		Datasource(source()).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc)
	if c.single {
		return v
	}
	return v.Multi(true).IncludeAll(true).AllValue(".*")
}

// build returns the panel. Its id is unique within the dashboard.
func (p panel) build(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case number:
		return p.number(id)
	case listing:
		return p.listing(id)
	default:
		return p.lines(id)
	}
}

// lines returns a panel over time.
func (p panel) lines(id uint32) cog.Builder[dashboard.Panel] {
	b := timeseries.NewPanelBuilder().
		Id(id).
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Unit(p.unit).
		Height(height).
		Span(p.width).
		Min(0).
		Legend(common.NewVizLegendOptionsBuilder().
			DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom).
			ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().
			Mode(common.TooltipDisplayModeMulti).
			Sort(common.SortOrderDescending))
	if p.kind == areas {
		b = b.FillOpacity(30).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
	}
	for i, q := range p.queries {
		b = b.WithTarget(q.build(i).Range())
	}
	return b
}

// number returns a panel with a number.
func (p panel) number(id uint32) cog.Builder[dashboard.Panel] {
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.bad {
		steps = append(steps, dashboard.Threshold{Value: cog.ToPtr(1.0), Color: "red"})
	}
	b := stat.NewPanelBuilder().
		Id(id).
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Unit(p.unit).
		Height(4).
		Span(p.width).
		NoValue("–").
		GraphMode(common.BigValueGraphModeArea).
		Thresholds(dashboard.NewThresholdsConfigBuilder().
			Mode(dashboard.ThresholdsModeAbsolute).
			Steps(steps))
	for i, q := range p.queries {
		b = b.WithTarget(q.build(i).Range())
	}
	return b
}

// listing returns a panel with a table of what there is now.
func (p panel) listing(id uint32) cog.Builder[dashboard.Panel] {
	b := table.NewPanelBuilder().
		Id(id).
		Title(p.title).
		Description(p.description).
		Datasource(source()).
		Unit(p.unit).
		Height(height).
		Span(p.width)
	for i, q := range p.queries {
		b = b.WithTarget(q.build(i).Instant().Format(prometheus.PromQueryFormatTable))
	}
	hidden := map[string]bool{"Time": true}
	if p.by != "" {
		b = b.WithTransformation(dashboard.DataTransformerConfig{
			Id:      "joinByField",
			Options: map[string]any{"byField": p.by, "mode": "outer"},
		})
		for i := range p.queries {
			hidden[fmt.Sprintf("Time %d", i+1)] = true
			hidden[fmt.Sprintf("Value #%s", refID(i))] = true
		}
	}
	return b.WithTransformation(dashboard.DataTransformerConfig{
		Id:      "organize",
		Options: map[string]any{"excludeByName": hidden},
	})
}

// build returns the query, the one of this number in its panel.
func (q query) build(i int) *prometheus.DataqueryBuilder {
	b := prometheus.NewDataqueryBuilder().Datasource(source()).Expr(q.expr).RefId(refID(i))
	if q.legend != "" {
		b = b.LegendFormat(q.legend)
	}
	return b
}

// refID names the queries of a panel.
func refID(i int) string { return string(rune('A' + i)) }
