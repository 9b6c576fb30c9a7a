package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"golang.org/x/sync/errgroup"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// Reasons for which a kind could not be read.
const (
	ReasonForbidden    = "Forbidden"
	ReasonNotInstalled = "NotInstalled"
	ReasonFailed       = "Failed"
)

// Request says what to read.
type Request struct {
	Kinds []Kind
	// Berth is Berth's own namespace. Of its kinds only what is in it is read.
	Berth string
	// Namespace is where to look for objects of a kind of which those of the whole cluster
	// may not be read; "" for nowhere.
	Namespace string
	// Class is spec.loadBalancerClass of the Services that Berth handles, nil to read it from
	// the settings of the controller.
	Class *string
	// Now is the clock, nil for that of the system.
	Now func() time.Time
}

// Snapshot is a cluster at about one moment, as far as it could be read.
type Snapshot struct {
	Objects
	Berth string
	// Taken is when it was read.
	Taken time.Time
	// Settings are those of the running controller and speakers.
	Settings Settings

	read   map[string]bool // by the name of the kind: asked for
	unread map[string]v1alpha1.Unread
}

// New returns a Snapshot of objects that were read elsewhere, as of all kinds.
func New(objects Objects, request Request, taken time.Time) *Snapshot {
	s := &Snapshot{
		Objects: objects,
		Berth:   request.Berth,
		Taken:   taken,
		read:    map[string]bool{},
		unread:  map[string]v1alpha1.Unread{},
	}
	for _, k := range request.Kinds {
		s.read[k.Name] = true
	}
	s.Settings = readSettings(s, request)
	return s
}

// Gather reads what is asked for, all kinds at once. What cannot be read is told by Unread;
// an error is returned only if nothing at all can.
func Gather(ctx context.Context, c *Client, request Request) (*Snapshot, error) {
	s := &Snapshot{
		Berth:  request.Berth,
		Taken:  request.now(),
		read:   map[string]bool{},
		unread: map[string]v1alpha1.Unread{},
	}
	var mu sync.Mutex
	var firstFailure error
	answered := false
	var group errgroup.Group
	for _, r := range readers {
		if !slices.ContainsFunc(request.Kinds, func(k Kind) bool { return k.Name == r.Name }) {
			continue
		}
		s.read[r.Name] = true
		group.Go(func() error {
			unread, err := r.gather(ctx, c, request, &s.Objects)
			mu.Lock()
			defer mu.Unlock()
			answered = answered || err == nil || isAnswer(err)
			if unread != nil {
				s.unread[r.Name] = *unread
				firstFailure = cmp.Or(firstFailure, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each error is kept beside its kind
	if !answered && firstFailure != nil {
		return nil, fmt.Errorf("the API server cannot be asked: %w", firstFailure)
	}
	s.readConfigMaps(ctx, c)
	s.Settings = readSettings(s, request)
	return s, nil
}

func (r Request) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// isAnswer reports whether an error is what the API server says, and not that it cannot be
// reached or does not know the user.
func isAnswer(err error) bool {
	return apierrors.ReasonForError(err) != metav1.StatusReasonUnknown && !apierrors.IsUnauthorized(err)
}

// gather reads one kind. If the objects of the cluster may not be read, it reads those of
// the user's namespace.
func (r reader) gather(
	ctx context.Context, c *Client, request Request, into *Objects,
) (*v1alpha1.Unread, error) {
	namespace := ""
	if r.own {
		namespace = request.Berth
	}
	err := r.read(ctx, c, namespace, into)
	if err == nil {
		return nil, nil
	}
	unread := UnreadOf(r.Kind, err)
	if apierrors.IsForbidden(err) && r.namespaced && !r.own && request.Namespace != "" {
		if r.read(ctx, c, request.Namespace, into) == nil {
			unread.Namespace = request.Namespace
		}
	}
	return &unread, err
}

// UnreadOf returns what is said of a kind that could not be read.
func UnreadOf(k Kind, err error) v1alpha1.Unread {
	out := v1alpha1.Unread{Kind: k.Name, Reason: ReasonFailed, Message: err.Error()}
	switch {
	case apierrors.IsForbidden(err):
		out.Reason = ReasonForbidden
	case apierrors.IsNotFound(err):
		out.Reason = ReasonNotInstalled
		out.Message = "the API server does not know the kind"
	}
	return out
}

// Has reports whether all objects of these kinds were read.
func (s *Snapshot) Has(kinds ...Kind) bool {
	return !slices.ContainsFunc(kinds, func(k Kind) bool {
		_, failed := s.unread[k.Name]
		return failed || !s.read[k.Name]
	})
}

// HasSome reports whether objects of a kind were read, those of one namespace at least.
func (s *Snapshot) HasSome(k Kind) bool {
	u, failed := s.unread[k.Name]
	return s.read[k.Name] && (!failed || u.Namespace != "")
}

// SetUnread records that a kind could not be read.
func (s *Snapshot) SetUnread(k Kind, err error) { s.unread[k.Name] = UnreadOf(k, err) }

// Inherit takes from an earlier Snapshot what a Follower does not follow: which kinds could
// not be read, and the settings that stand in objects it has.
func (s *Snapshot) Inherit(earlier *Snapshot) {
	for name := range earlier.read {
		s.read[name] = true
	}
	for name, u := range earlier.unread {
		if _, failed := s.unread[name]; !failed {
			s.unread[name] = u
		}
	}
	s.Settings = earlier.Settings
}

// With returns the Snapshot with other objects. What could not be read stays unread, and the
// settings are those of the running programs.
func (s *Snapshot) With(objects Objects) *Snapshot {
	out := *s
	out.Objects = objects
	return &out
}

// Unread returns the kinds that were asked for and of which not all could be read, by name.
func (s *Snapshot) Unread() []v1alpha1.Unread {
	var out []v1alpha1.Unread
	for _, u := range s.unread {
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b v1alpha1.Unread) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

// Installed is false if the API server knows none of Berth's kinds that were asked for.
func (s *Snapshot) Installed() bool {
	asked := false
	for _, r := range readers {
		if r.custom && s.read[r.Name] {
			asked = true
			if s.unread[r.Name].Reason != ReasonNotInstalled {
				return true
			}
		}
	}
	return !asked
}

// Config returns what users configure Berth with, for package config.
func (s *Snapshot) Config() config.Objects {
	return config.Objects{
		Pools:             s.Pools,
		L2Advertisements:  s.L2Advertisements,
		BGPPeers:          s.BGPPeers,
		BGPAdvertisements: s.BGPAdvertisements,
		BFDProfiles:       s.BFDProfiles,
		Communities:       s.Communities,
	}
}

// NamespaceLabels returns the labels of each namespace, by name.
func (s *Snapshot) NamespaceLabels() map[string]labels.Set {
	out := make(map[string]labels.Set, len(s.Namespaces))
	for i := range s.Namespaces {
		out[s.Namespaces[i].Name] = s.Namespaces[i].Labels
	}
	return out
}

// EventsOf returns the Events of one object, unsorted.
func EventsOf(ctx context.Context, c *Client, object v1alpha1.Ref, kind string) ([]corev1.Event, error) {
	selector := fields.Set{"involvedObject.kind": kind, "involvedObject.name": object.Name}
	options := metav1.ListOptions{FieldSelector: selector.AsSelector().String()}
	namespace := cmp.Or(object.Namespace, metav1.NamespaceDefault) // of what has none
	var out []corev1.Event
	for _, r := range readers {
		if r.Name != Events.Name {
			continue
		}
		err := c.list(ctx, Events, options, namespace, r.list, func(page runtimeObject, _ bool) {
			out = append(out, page.(*corev1.EventList).Items...)
		})
		if err != nil {
			return nil, fmt.Errorf("list Events of %s: %w", object, err)
		}
	}
	return out, nil
}
