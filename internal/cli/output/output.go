// Package output prints what package view says: as a table, as a text for a person, or as
// -o asks for.
package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/util/jsonpath"
)

// Flags are those that say how to print.
type Flags struct {
	print     *genericclioptions.PrintFlags
	noHeaders bool
	color     string
	ascii     bool
}

// Formats that only Berth's printer knows; cli-runtime knows the others.
const (
	formatWide          = "wide"
	formatName          = "name"
	formatCustomColumns = "custom-columns"
)

// NewFlags returns Flags with nothing set.
func NewFlags() *Flags {
	return &Flags{print: genericclioptions.NewPrintFlags(""), color: "auto"}
}

// Add defines the flags at a command.
func (f *Flags) Add(cmd *cobra.Command) {
	f.print.AddFlags(cmd)
	output := cmd.Flags().Lookup("output")
	output.Usage = "Output format. One of: (" + strings.Join(f.formats(), ", ") + ")."
	_ = cmd.RegisterFlagCompletionFunc("output",
		func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			others := func(one string) bool { return !strings.HasPrefix(one, typed) }
			return slices.DeleteFunc(f.formats(), others), cobra.ShellCompDirectiveNoFileComp
		})
	_ = cmd.Flags().MarkHidden("allow-missing-template-keys")
	_ = cmd.Flags().MarkHidden("show-managed-fields")
	cmd.Flags().BoolVar(&f.noHeaders, "no-headers", false, "Print tables without a header.")
}

// AddStyle defines the flags that say how texts look, at all commands below one.
func (f *Flags) AddStyle(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.color, "color", "auto",
		"Colour texts: auto (on a terminal, unless NO_COLOR is set), always or never.")
	cmd.PersistentFlags().BoolVar(&f.ascii, "ascii", false, "Print no characters beyond ASCII.")
	_ = cmd.RegisterFlagCompletionFunc("color",
		cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
}

// formats returns the values of -o.
func (f *Flags) formats() []string {
	out := slices.Concat(
		f.print.JSONYamlPrintFlags.AllowedFormats(),
		f.print.TemplatePrinterFlags.AllowedFormats(),
		[]string{formatName, formatWide, formatCustomColumns},
	)
	slices.Sort(out)
	return slices.Compact(out)
}

// Format is the value of -o, "" for none.
func (f *Flags) format() string { return *f.print.OutputFormat }

// Validate returns an error if something that the flags ask for does not exist.
func (f *Flags) Validate() error {
	if !slices.Contains([]string{"auto", "always", "never"}, f.color) {
		return fmt.Errorf("--color: %q is not valid: use auto, always or never", f.color)
	}
	switch format := f.format(); {
	case format == "", format == formatWide, format == formatName:
		return nil
	case format == formatCustomColumns || strings.HasPrefix(format, formatCustomColumns+"="):
		_, err := parseColumns(format)
		return err
	}
	_, err := f.print.ToPrinter()
	if genericclioptions.IsNoCompatiblePrinterError(err) {
		return fmt.Errorf("--output: %q is not valid: use one of "+
			"%s", f.format(), strings.Join(f.formats(), ", "))
	}
	return err
}

// Structured reports whether -o asks for something else than a table or a text.
func (f *Flags) Structured() bool { return f.format() != "" && f.format() != formatWide }

// Wide reports whether tables are to have all their columns.
func (f *Flags) Wide() bool { return f.format() == formatWide }

// Table prints a table.
func (f *Flags) Table(w io.Writer, t *metav1.Table) error {
	return f.TableRows(w, t, false)
}

// TableRows prints the rows of a table, with a header unless others were printed before.
func (f *Flags) TableRows(w io.Writer, t *metav1.Table, more bool) error {
	return printers.NewTablePrinter(printers.PrintOptions{
		NoHeaders: f.noHeaders || more,
		Wide:      f.Wide(),
	}).PrintObj(t, w)
}

// Object prints an object as -o asks for. names are those of the objects that it is about.
func (f *Flags) Object(w io.Writer, o any, names []string) error {
	if f.format() == formatName {
		var last string
		for _, name := range names {
			if name != last {
				if _, err := fmt.Fprintln(w, name); err != nil {
					return err
				}
			}
			last = name
		}
		return nil
	}
	generic, err := genericOf(o)
	if err != nil {
		return err
	}
	if strings.HasPrefix(f.format(), formatCustomColumns) {
		return f.customColumns(w, generic)
	}
	printer, err := f.print.ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(generic, w)
}

// genericOf returns an object as printers take any.
func genericOf(o any) (runtime.Object, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	out := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&out); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	whole(out)
	return &unstructured.Unstructured{Object: out}, nil
}

// whole turns numbers into what unstructured objects may have.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, one := range v {
			v[k] = whole(one)
		}
	case []any:
		for i, one := range v {
			v[i] = whole(one)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, _ := v.Float64()
		return n
	}
	return v
}

// column is one of -o custom-columns.
type column struct {
	header string
	path   *jsonpath.JSONPath
}

// parseColumns reads custom-columns=HEADER:PATH,...
func parseColumns(format string) ([]column, error) {
	_, spec, _ := strings.Cut(format, "=")
	if spec == "" {
		return nil, fmt.Errorf("--output: %s needs columns, each HEADER:PATH", formatCustomColumns)
	}
	var out []column
	for _, part := range strings.Split(spec, ",") {
		header, path, ok := strings.Cut(part, ":")
		if !ok || header == "" || path == "" {
			return nil, fmt.Errorf("--output: %q is not HEADER:PATH", part)
		}
		path = strings.TrimSuffix(strings.TrimPrefix(path, "{"), "}")
		if !strings.HasPrefix(path, ".") {
			path = "." + path
		}
		p := jsonpath.New(header).AllowMissingKeys(true)
		if err := p.Parse("{" + path + "}"); err != nil {
			return nil, fmt.Errorf("--output: column %s: %w", header, err)
		}
		out = append(out, column{header, p})
	}
	return out, nil
}

// customColumns prints the columns that -o names, a line for each item.
func (f *Flags) customColumns(w io.Writer, o runtime.Object) error {
	columns, err := parseColumns(f.format())
	if err != nil {
		return err
	}
	content := o.(*unstructured.Unstructured).Object
	items, isList := content["items"].([]any)
	if !isList {
		items = []any{content}
	}
	t := &metav1.Table{}
	for _, c := range columns {
		t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{
			Name: c.header,
			Type: "string",
		})
	}
	for _, item := range items {
		row := metav1.TableRow{}
		for _, c := range columns {
			var text bytes.Buffer
			if err := c.path.Execute(&text, item); err != nil || text.Len() == 0 {
				text.WriteString("<none>")
			}
			row.Cells = append(row.Cells, text.String())
		}
		t.Rows = append(t.Rows, row)
	}
	return printers.NewTablePrinter(printers.PrintOptions{NoHeaders: f.noHeaders}).PrintObj(t, w)
}
