// Package definitions compares the CustomResourceDefinitions of the cluster with those of
// this version. Tools that upgrade Berth may leave the former as they are, as Helm does.
// Then the API server drops what is written into new fields, and nobody is told.
package definitions

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/manifests/crds"
)

const (
	// checkInterval is how often definitions are read that were as they should be: seven requests. Whoever
	// applies older ones is told by then.
	checkInterval = time.Hour
	// outdatedInterval is the same while one is outdated, so that what was repaired is seen soon.
	outdatedInterval = 30 * time.Second
	// namedParts is how many of the parts that a definition lacks are named.
	namedParts = 5
)

// Checker compares the definitions of the cluster with its own, on the replica that leads.
// It needs no right but to get these by name. It writes nothing itself: objects of an
// outdated kind get the condition with their next status.
type Checker struct {
	live   client.Reader
	state  *state.State
	queues *shared.Queues
	log    *slog.Logger
	gauge  *prometheus.Desc

	mu sync.Mutex
	// outdated says of each definition that could be read why it is outdated, "" for one that is not.
	outdated map[string]string
	unread   string // the last trouble that was logged
}

// New returns a Checker that has read nothing.
func New(with shared.Shared) *Checker {
	return &Checker{
		live:     with.Live,
		state:    with.State,
		queues:   with.Queues,
		log:      with.Log,
		outdated: map[string]string{},
		gauge: prometheus.NewDesc("berth_controller_crd_outdated",
			"1 for a CustomResourceDefinition of the cluster that is older than this controller, 0 for "+
				"one that is not. Only the controller that leads has it, of those that it could read.",
			[]string{"crd"}, nil),
	}
}

// Run checks again and again until ctx ends.
func (c *Checker) Run(ctx context.Context) error {
	own, err := Own()
	if err != nil {
		return err
	}
	for {
		wait := checkInterval
		if c.check(ctx, own) {
			wait = outdatedInterval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Own returns the definitions of this version.
func Own() ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	names, err := fs.Glob(crds.Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(crds.Files, name)
		if err != nil {
			return nil, err
		}
		// By JSON, so that numbers are of the same type as those that the API server sends.
		crd := &unstructured.Unstructured{}
		json, err := yaml.YAMLToJSON(text)
		if err == nil {
			err = crd.UnmarshalJSON(json)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, crd)
	}
	return out, nil
}

// check compares all definitions once. It reports whether one is outdated or could not be read.
func (c *Checker) check(ctx context.Context, own []*unstructured.Unstructured) (again bool) {
	trouble := ""
	for _, mine := range own {
		installed := &unstructured.Unstructured{}
		installed.SetGroupVersionKind(mine.GroupVersionKind())
		err := c.live.Get(ctx, types.NamespacedName{Name: mine.GetName()}, installed)
		if err != nil {
			// What could not be read is neither outdated nor right.
			trouble = err.Error()
			again = again || !apierrors.IsForbidden(err)
			continue
		}
		message := describe(mine.GetName(), Behind(mine, installed))
		again = again || message != ""
		c.record(mine, message)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if trouble != "" && trouble != c.unread && ctx.Err() == nil {
		c.log.Warn("cannot compare CustomResourceDefinitions with those of this version", "error", trouble)
	}
	c.unread = trouble
	return again
}

// record remembers what is known of a definition, and has what differs from before told.
func (c *Checker) record(crd *unstructured.Unstructured, message string) {
	name := crd.GetName()
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	c.mu.Lock()
	before, known := c.outdated[name]
	c.outdated[name] = message
	c.mu.Unlock()
	if known && message == before {
		return
	}
	switch {
	case message != "":
		c.log.Warn("CustomResourceDefinition is outdated", "name", name,
			"reason", string(v1beta1.ReasonCRDOutdated), "message", message)
	case known:
		c.log.Info("CustomResourceDefinition is up to date again", "name", name)
	}
	// Also what is right is recorded: a leader before may have written the opposite into statuses.
	c.state.SetOutdated(kind, message)
	for _, key := range c.state.Objects() {
		if key.Kind == kind {
			c.queues.Objects.Add(key)
		}
	}
}

// describe says what a definition lacks and what to do; "" if it lacks nothing.
func describe(name string, parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	named := strings.Join(parts[:min(len(parts), namedParts)], ", ")
	if more := len(parts) - namedParts; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("The CustomResourceDefinition %s is older than the controller: it has not, or "+
		"not as here, %s. What is written there is dropped or refused. Apply the definitions of this "+
		"version: kubectl apply --server-side --force-conflicts -k manifests/crds.", name, named)
}

// Describe implements prometheus.Collector.
func (c *Checker) Describe(out chan<- *prometheus.Desc) { out <- c.gauge }

// Collect implements prometheus.Collector.
func (c *Checker) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, message := range c.outdated {
		value := 0.0
		if message != "" {
			value = 1
		}
		out <- prometheus.MustNewConstMetric(c.gauge, prometheus.GaugeValue, value, name)
	}
}
