package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v2"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/internal/cli/bundle"
	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// reportFlags are those of report.
type reportFlags struct {
	file, maxSize string
	redact        bool
	since         time.Duration
}

func (o *options) reportCommand() *cobra.Command {
	asked := reportFlags{maxSize: "64Mi", since: 24 * time.Hour}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write one archive for a ticket: summary, objects, Events, logs, metrics",
		Long: "Write one archive for a ticket: a summary that a person can read (report.md), and the " +
			"objects, " +
			"Events, logs and metrics that belong to Berth. SHA256SUMS has the checksums of all files, and " +
			"manifest.json says what is in it, what did not fit, and what could not be read.\n\n" +
			"Secrets are never read, and passwords in other objects are left out. With --redact, " +
			"addresses and " +
			"names are replaced by tokens, the same by the same everywhere; docs/cli.md says what is " +
			"replaced and " +
			"what is not. Look at an archive before you publish it.",
		Example: "  # Into a file whose name has the time\n  kubectl berth report\n\n" +
			"  # For a public ticket, the last hour only\n  kubectl berth report --redact --since 1h -f " +
			"berth.tar.gz",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.report(cmd.Context(), asked)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&asked.file, "file", "f", "", "File to write, - for stdout. Without it, a file in the "+
		"current directory whose name has the time.")
	flags.BoolVar(&asked.redact, "redact", false, "Replace addresses and names by tokens.")
	flags.StringVar(&asked.maxSize, "max-size", asked.maxSize,
		"Size of all files before they are compressed. "+
			"What does not fit is left out and listed.")
	flags.DurationVar(&asked.since, "since", asked.since,
		"How far logs go back; 0 for as far as there are any.")
	return cmd
}

// report gathers and writes an archive.
func (o *options) report(ctx context.Context, asked reportFlags) error {
	size, err := resource.ParseQuantity(asked.maxSize)
	if err != nil || size.Value() <= 0 {
		return fmt.Errorf("--max-size: %q is no size: use a number of bytes such as 64Mi", asked.maxSize)
	}
	if asked.since < 0 {
		return fmt.Errorf("--since: %s is negative", asked.since)
	}
	kinds := slices.Concat(view.CheckKinds, []snapshot.Kind{snapshot.Events})
	f, c, err := o.gather(ctx, kinds)
	if err != nil {
		return err
	}
	r := &reporter{options: o, asked: asked, facts: f, client: c, bundle: bundle.New(size.Value())}
	if asked.redact {
		r.redactor = bundle.NewRedactor(f.UsualNames()...)
		for _, n := range f.ChosenNames() {
			r.redactor.Name(n.Kind, n.Name)
		}
	}
	files, err := r.files(ctx)
	if err != nil {
		return err
	}

	dir := "berth-report-" + f.Taken.UTC().Format("20060102-150405")
	if asked.file == "-" {
		return bundle.Write(o.streams.Out, dir, files, f.Taken)
	}
	name := asked.file
	if name == "" {
		name = dir + ".tar.gz"
	}
	if err := writeFile(name, func(w io.Writer) error {
		return bundle.Write(w, dir, files,
			f.Taken)
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.streams.Out, name)
	if err == nil {
		err = output.Unread(o.streams.ErrOut, r.unread, o.stderrStyle())
	}
	return err
}

// writeFile writes a file that only the user may read. It is there whole, or as it was.
func writeFile(name string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write the archive: %s is no file; use - for stdout", name)
	}
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if err := write(file); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// reporter puts an archive together.
type reporter struct {
	*options
	asked    reportFlags
	facts    *view.Facts
	client   *snapshot.Client
	bundle   *bundle.Bundle
	redactor *bundle.Redactor // nil to replace nothing
	unread   []v1alpha1.Unread
	cut      []v1alpha1.ReportCut
}

// files returns all files of the archive, the summary first.
func (r *reporter) files(ctx context.Context) ([]bundle.File, error) {
	status := r.facts.Status("")
	around := snapshot.Look(ctx, r.client, view.LookAround(view.StageInstalled, r.berth))
	checks := r.facts.Check(around, view.StageInstalled, "")
	r.unread = checks.Unread

	if err := r.addObjects(); err != nil {
		return nil, err
	}
	r.addPods(ctx, r.facts.LogOrder(status.Problems))
	r.addCuts()

	manifest, err := r.manifest()
	if err != nil {
		return nil, err
	}
	summary, err := r.summary(status, checks, around.Version)
	if err != nil {
		return nil, err
	}
	return append([]bundle.File{summary, manifest}, r.bundle.Files()...), nil
}

// addObjects adds a file for each kind of objects, and one of Events.
func (r *reporter) addObjects() error {
	for _, k := range append(slices.Clone(view.ReportKinds), snapshot.Events) {
		var texts [][]byte
		for d, err := range r.facts.Documents(k, r.facts.InReport(k)) {
			if err != nil {
				return err
			}
			if r.redactor != nil {
				d = r.redactor.Object(d)
			}
			text, err := yaml.Marshal(d) // without a way by JSON, which takes thrice as long
			if err != nil {
				return fmt.Errorf("write an object of %s: %w", k.Name, err)
			}
			texts = append(texts, text)
		}
		name := "objects/" + k.Name + ".yaml"
		if k.Name == snapshot.Events.Name {
			name = "events.yaml"
		}
		r.bundle.AddDocuments(name, texts)
	}
	return nil
}

const (
	// mostLog is how much of one log an archive has, and mostMetrics of one pod's metrics.
	mostLog     = 2 << 20
	mostMetrics = 16 << 20
	// podPatience is how long one pod's log or metrics may take.
	podPatience = 30 * time.Second
	// podsAtOnce is of how many pods logs are read at a time.
	podsAtOnce = 8
)

// answer is what a pod has to say: a log, or what it answers at a port.
type answer struct {
	name  string
	data  []byte
	total int64
	err   error
	// kind is how it is redacted.
	kind answerKind
}

type answerKind int

const (
	isLog answerKind = iota
	isText
	isMetrics
)

// addPods adds logs, health and metrics of pods, until the archive is full. What is refused
// for one pod is not asked for again.
func (r *reporter) addPods(ctx context.Context, pods []view.PodLogs) {
	refused := map[answerKind]bool{}
	told := map[string]bool{}
	for len(pods) > 0 && r.bundle.Left() > 0 {
		some := pods[:min(podsAtOnce, len(pods))]
		answers := make([][]answer, len(some))
		var group errgroup.Group
		for i, p := range some {
			group.Go(func() error {
				answers[i] = r.ask(ctx, p, refused)
				return nil
			})
		}
		_ = group.Wait() // each answer has its own error
		for _, a := range slices.Concat(answers...) {
			r.addAnswer(a, refused, told)
		}
		pods = pods[len(some):]
	}
	if len(pods) > 0 {
		r.cut = append(r.cut, v1alpha1.ReportCut{Name: "logs", Kept: 0, Of: int64(len(pods)), Unit: "pods"})
	}
}

// metricsRefused says why an archive has no metrics. There is a way to them, to forward a port of the pod and
// to send one's own token there; it takes the right to create pods/portforward, by which any port of the pod
// can be reached.
const metricsRefused = "the pods give metrics to those who may read them, and the API server does not pass " +
	"on who asks: attach what Prometheus has"

// addAnswer adds what a pod said, or why it did not.
func (r *reporter) addAnswer(a answer, refused map[answerKind]bool, told map[string]bool) {
	if a.err == nil {
		total := int64(0)
		if a.total > int64(len(a.data)) {
			total = a.total
		}
		r.bundle.AddText(a.name, r.redacted(a), total)
		return
	}
	u := snapshot.UnreadOf(snapshot.Kind{Name: a.name}, a.err)
	if u.Reason == snapshot.ReasonForbidden || apierrors.IsUnauthorized(a.err) {
		refused[a.kind] = true
		u.Kind = map[answerKind]string{isLog: "pods/log", isText: "pods/proxy", isMetrics: "metrics"}[a.kind]
	}
	if u.Reason == snapshot.ReasonNotInstalled {
		u.Reason = snapshot.ReasonFailed // the pod has gone meanwhile
		u.Message = a.err.Error()
	}
	if a.kind == isMetrics && apierrors.IsUnauthorized(a.err) {
		u.Message = metricsRefused
	}
	if !told[u.Kind] {
		told[u.Kind] = true
		r.unread = append(r.unread, u)
	}
}

// redacted returns what a pod said as the archive has it.
func (r *reporter) redacted(a answer) []byte {
	switch {
	case r.redactor == nil:
		return a.data
	case a.kind == isLog:
		return r.redactor.JSONLines(a.data)
	case a.kind == isMetrics:
		return r.redactor.Quoted(a.data)
	}
	return []byte(r.redactor.Text(string(a.data)))
}

// ask asks a pod for everything that is not refused.
func (r *reporter) ask(ctx context.Context, p view.PodLogs, refused map[answerKind]bool) []answer {
	ctx, cancel := context.WithTimeout(ctx, podPatience)
	defer cancel()
	var out []answer
	log := func(container, suffix string, previous bool) {
		of := snapshot.LogOf{
			Namespace: r.berth,
			Pod:       p.Pod,
			Container: container,
			Previous:  previous,
			Since:     r.asked.since,
		}
		a := answer{name: "logs/" + p.Pod + "/" + container + suffix, kind: isLog}
		a.data, a.total, a.err = r.client.Log(ctx, of, mostLog)
		out = append(out, a)
	}
	if !refused[isLog] {
		for _, c := range p.Containers {
			log(c, ".log", false)
			if slices.Contains(p.Restarted, c) {
				log(c, ".previous.log", true)
			}
		}
	}
	get := func(kind answerKind, name, scheme, setting, usual, path string) {
		port := r.facts.PortOf(p.Component, setting, usual)
		if refused[kind] || port == "" {
			return
		}
		a := answer{name: name + p.Pod + ".txt", kind: kind}
		a.data, a.err = r.client.Ask(ctx, r.berth, p.Pod, scheme, port, path, mostMetrics)
		out = append(out, a)
	}
	get(isText, "ready/", "http", "health-bind-address", "9741", "readyz")
	get(isMetrics, "metrics/", "https", "metrics-bind-address", "9740", "metrics")
	return out
}

// addCuts takes note of what did not fit.
func (r *reporter) addCuts() {
	for _, c := range r.bundle.Cuts() {
		unit := "bytes"
		if c.Documents {
			unit = "objects"
		}
		r.cut = append(r.cut, v1alpha1.ReportCut{Name: c.Name, Kept: c.Kept, Of: c.Of, Unit: unit})
	}
}

func (r *reporter) manifest() (bundle.File, error) {
	m := v1alpha1.ReportManifest{
		TypeMeta: v1alpha1.TypeMeta("ReportManifest"),
		Created:  metav1.NewTime(r.facts.Taken.UTC()),
		Client:   clientVersion(),
		Redacted: r.redactor != nil,
		Cut:      r.cut,
	}
	for _, f := range r.bundle.Files() {
		m.Files = append(m.Files, v1alpha1.ReportFile{Name: f.Name, Bytes: len(f.Data), SHA256: f.Sum()})
	}
	for _, u := range r.unread {
		u.Message, u.Namespace = r.text(u.Message), r.text(u.Namespace)
		m.Unread = append(m.Unread, u)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return bundle.File{}, fmt.Errorf("write the manifest: %w", err)
	}
	return bundle.File{Name: "manifest.json", Data: append(data, '\n')}, nil
}

// text returns a text as the archive has it.
func (r *reporter) text(text string) string {
	if r.redactor == nil {
		return text
	}
	return r.redactor.Text(text)
}

// summary returns the page that a person reads first.
func (r *reporter) summary(
	status v1alpha1.Status, checks v1alpha1.Checks, kubernetes string,
) (bundle.File, error) {
	var body bytes.Buffer
	style := output.PlainStyle()
	parts := []struct {
		title string
		write func(io.Writer) error
	}{
		{"Versions", func(w io.Writer) error {
			return output.Version(w, r.facts.Version(clientVersion(), kubernetes), style)
		}},
		{"kubectl berth status", func(w io.Writer) error {
			return output.Status(w, status, style, r.facts.Taken)
		}},
		{"kubectl berth check", func(w io.Writer) error { return output.Checks(w, checks, style) }},
	}
	for _, p := range parts {
		fmt.Fprintf(&body, "\n## %s\n\n```\n", p.title)
		if err := p.write(&body); err != nil {
			return bundle.File{}, err
		}
		body.WriteString("```\n")
	}
	text := r.text(body.String())
	head := output.ReportHead(r.facts.Taken, r.redactor != nil, r.cut, r.unread)
	return bundle.File{Name: "report.md", Data: []byte(r.text(head) + text)}, nil
}
