// Package report maintains the Speaker object of this node. It puts the status together
// from the parts of the speaker, writes it when it has changed, and reads what the node's
// former speaker wrote.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/version"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

const (
	// objectInterval is the shortest time between two writes of the Speaker object.
	objectInterval = time.Second
	// objectRetry is how soon a failed write is tried again.
	objectRetry = 2 * time.Second
)

// Section is what one part of the speaker contributes to the Speaker object.
type Section interface {
	// Status fills in the status of the part.
	Status(*v1beta1.SpeakerStatus)
	// StoppedStatus fills in the status of the part while the speaker does not run. retains
	// says whether the node retains what it owns until the speaker is back.
	StoppedStatus(s *v1beta1.SpeakerStatus, retains bool)
}

// Config is what an [Object] works with.
type Config struct {
	Node string // this one
	// Address is the one at which this speaker is a member; invalid if it is none.
	Address netip.AddrPort
	Profile membership.Profile
	Cached  *cluster.Reader
	Live    client.Reader // the API server
	Writer  client.Client
	Ready   *Readiness
	Members *members.Tracker
	Joiner  *members.Joiner // nil if this speaker is no member
	// Protocols are those by which this speaker announces.
	Protocols []v1beta1.Protocol
	// Sections are those of the protocols.
	Sections []Section
	// Status is set when the object is out of date.
	Status notify.Signal
	Logger *slog.Logger
	// IgnoreExclude and IgnoreCordon say which marks of nodes this speaker ignores.
	IgnoreExclude bool
	IgnoreCordon  bool
	// Last is what this node's former speaker wrote. The object lists its links until this
	// speaker knows them.
	Last v1beta1.SpeakerStatus
}

// An Object writes this node's Speaker object. It is a prometheus.Collector, and safe for
// concurrent use.
type Object struct {
	c       Config
	renewed atomic.Pointer[metav1.MicroTime]
	failed  atomic.Pointer[string] // why the last write failed, "" when it did not

	failures  atomic.Uint64
	failuresD *prometheus.Desc
}

// New returns an Object, which writes nothing before [Object.Run].
func New(c Config) *Object {
	return &Object{
		c: c,
		failuresD: prometheus.NewDesc(
			"berth_speaker_object_write_errors_total", "Failed writes of the Speaker object.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (o *Object) Describe(out chan<- *prometheus.Desc) { out <- o.failuresD }

// Collect implements prometheus.Collector.
func (o *Object) Collect(out chan<- prometheus.Metric) {
	kube.Counter(out, o.failuresD, o.failures.Load())
}

// Renew writes the object with the present time, which proves to members that do not hear
// this speaker that it works.
func (o *Object) Renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	now := metav1.NewMicroTime(time.Now().Truncate(time.Microsecond)) // what the API keeps of it
	o.renewed.Store(&now)
	return o.Write(ctx)
}

// Reachable reports whether the API server answers.
func (o *Object) Reachable(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var have v1beta1.Speaker
	return client.IgnoreNotFound(o.c.Live.Get(ctx, types.NamespacedName{Name: o.c.Node}, &have)) == nil
}

// writeTimeout bounds a write. A webhook may take half a minute to fail.
const writeTimeout = 10 * time.Second

// apiTimeout bounds a call that checks whether the API server answers.
const apiTimeout = 3 * time.Second

// Run writes the object whenever something has changed, and a last time when the speaker
// stops.
func (o *Object) Run(ctx context.Context) error {
	o.c.Status.Set()
	for {
		select {
		case <-ctx.Done():
			return o.stop()
		case <-o.c.Status.C():
		}
		pause := objectInterval
		if err := o.Write(ctx); err != nil && ctx.Err() == nil {
			pause = objectRetry
			o.c.Status.Set()
		}
		select {
		case <-ctx.Done():
			return o.stop()
		case <-time.After(pause):
		}
	}
}

// stop writes that the node announces nothing, and what it retains until the speaker is
// back. It makes one attempt: a killed speaker cannot write this either.
func (o *Object) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	status := o.Current()
	for _, s := range o.c.Sections {
		s.StoppedStatus(&status, o.c.Members.Stage() != announcement.StageLeaving)
	}
	status.AbsentCount, status.AbsentMembers, status.RenewTime = 0, nil, nil
	meta.SetStatusCondition(&status.Conditions, kube.Condition(v1beta1.ConditionReady, false,
		v1beta1.ReasonStopped, "The speaker shut down cleanly and announces nothing.", 0))
	if err := o.write(ctx, status); err != nil {
		o.c.Logger.Info("cannot write the Speaker object while stopping", "name", o.c.Node, "error", err)
	}
	return nil
}

// Write writes the present status, and creates the object if there is none.
func (o *Object) Write(ctx context.Context) error { return o.write(ctx, o.Current()) }

func (o *Object) write(ctx context.Context, status v1beta1.SpeakerStatus) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := o.writeOver(ctx, o.c.Cached, status)
	if apierrors.IsConflict(err) { // the cache lags behind
		err = o.writeOver(ctx, o.c.Live, status)
	}
	o.wrote(err)
	return err
}

// wrote records how a write ended, and logs a change. One that was given up, because the
// speaker stops, says nothing about the next.
func (o *Object) wrote(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	why := ""
	if err != nil {
		o.failures.Add(1)
		why = err.Error()
	}
	switch before := o.failed.Swap(&why); {
	case before != nil && *before == why, before == nil && err == nil:
	case err != nil:
		o.c.Logger.Warn("cannot write the Speaker object", "name", o.c.Node, "error", err)
	default:
		o.c.Logger.Info("the Speaker object can be written again", "name", o.c.Node)
	}
}

func (o *Object) writeOver(ctx context.Context, reader getter, status v1beta1.SpeakerStatus) error {
	var have v1beta1.Speaker
	err := reader.Get(ctx, types.NamespacedName{Name: o.c.Node}, &have)
	if apierrors.IsNotFound(err) {
		err = o.create(ctx, &have)
	}
	if err != nil {
		return err
	}
	want := have.DeepCopy()
	conditions := want.Status.Conditions
	for _, c := range status.Conditions {
		meta.SetStatusCondition(&conditions, c)
	}
	if !status.Announces(v1beta1.ProtocolLayer2) { // what a former speaker said
		meta.RemoveStatusCondition(&conditions, v1beta1.ConditionMembersReachable)
		meta.RemoveStatusCondition(&conditions, v1beta1.ConditionAddressesClear)
	}
	want.Status = status
	want.Status.Conditions = conditions
	if equality.Semantic.DeepEqual(have.Status, want.Status) {
		return nil
	}
	// An update, not a patch: it stores zeros as well.
	if err := o.c.Writer.Status().Update(ctx, want); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// getter reads one object.
type getter interface {
	Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error
}

// create creates the object, owned by the Node, with which it is deleted.
func (o *Object) create(ctx context.Context, into *v1beta1.Speaker) error {
	var node corev1.Node
	if err := o.c.Cached.Get(ctx, types.NamespacedName{Name: o.c.Node}, &node); err != nil {
		return fmt.Errorf("read this node (is --node-name its name?): %w", err)
	}
	*into = v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{
		Name: node.Name,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID,
		}},
	}}
	err := o.c.Writer.Create(ctx, into)
	if apierrors.IsAlreadyExists(err) {
		return o.c.Live.Get(ctx, types.NamespacedName{Name: o.c.Node}, into)
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return nil
}

// Current returns the present status.
func (o *Object) Current() v1beta1.SpeakerStatus {
	snapshot := o.c.Members.Current()
	settled := o.c.Ready.Settled().IsSet()
	status := v1beta1.SpeakerStatus{
		MemberProfile: string(o.c.Profile),
		Version:       version.String(),
		Stage:         stageStatus(o.c.Members.Stage()),
		RenewTime:     o.renewed.Load(),
		HasWorked:     o.c.Last.Worked() || settled,
		ExcludeLabel:  markStatus(o.c.IgnoreExclude),
		Cordon:        markStatus(o.c.IgnoreCordon),
		Protocols:     o.c.Protocols,
		Links:         o.links(),
	}
	if o.c.Address.IsValid() {
		status.MemberAddress = o.c.Address.String()
	}
	status.AbsentCount, status.AbsentMembers = absentStatus(snapshot.Absent)
	for _, s := range o.c.Sections {
		s.Status(&status)
	}
	meta.SetStatusCondition(&status.Conditions, o.ready())
	if o.c.Joiner == nil {
		return status
	}
	if why := o.c.Joiner.Problem(); why != nil || settled {
		meta.SetStatusCondition(&status.Conditions, members.ReachableCondition(why, snapshot, o.c.Address))
	}
	return status
}

// links returns the links of the node, or those of the former speaker while they are not
// known.
func (o *Object) links() []v1beta1.SpeakerLink {
	if !o.c.Members.LinksKnown() {
		return o.c.Last.Links
	}
	return linkStatus(o.c.Members.OwnLinks())
}

// ready returns the condition Ready.
func (o *Object) ready() metav1.Condition {
	if missing := o.c.Ready.Missing(); missing != "" {
		return kube.Condition(v1beta1.ConditionReady, false, v1beta1.ReasonStarting,
			"The speaker does not announce everything yet: "+missing+".", 0)
	}
	return kube.Condition(v1beta1.ConditionReady, true, v1beta1.ReasonAnnouncing,
		"The speaker sees the cluster and announces what this node owns.", 0)
}

// stageStatus returns a stage as the API writes it.
func stageStatus(s announcement.Stage) v1beta1.SpeakerStage {
	return map[announcement.Stage]v1beta1.SpeakerStage{
		announcement.StageStarting:   v1beta1.StageStarting,
		announcement.StageReady:      v1beta1.StageReady,
		announcement.StageRestarting: v1beta1.StageRestarting,
		announcement.StageLeaving:    v1beta1.StageLeaving,
	}[s]
}

// markStatus returns whether the speaker heeds a mark, as the API writes it.
func markStatus(ignored bool) v1beta1.NodeMark {
	if ignored {
		return v1beta1.MarkIgnored
	}
	return v1beta1.MarkHeeded
}

// absentStatus returns how many other members this node reports as absent, and lists them. If
// there are too many, it leaves out first those that cannot prove that they work.
func absentStatus(all []presence.Absent) (count int32, listed []v1beta1.AbsentMember) {
	for _, m := range all {
		listed = append(listed, v1beta1.AbsentMember{
			Name:     m.Node,
			Presence: v1beta1.MemberPresence(m.Presence.String()),
			Reason:   string(m.Reason),
			Since:    kube.Time(m.Since),
		})
	}
	return int32(len(all)), kube.WorstFirst(listed, v1beta1.MaxSpeakerAnnouncements,
		func(m v1beta1.AbsentMember) bool { return !presence.IsSuspicion(v1beta1.Reason(m.Reason)) },
		func(a, b v1beta1.AbsentMember) int { return cmp.Compare(a.Name, b.Name) })
}

func linkStatus(all []links.Link) []v1beta1.SpeakerLink {
	var out []v1beta1.SpeakerLink
	for _, l := range all {
		s := v1beta1.SpeakerLink{
			Name:       l.Name,
			MACAddress: l.HardwareAddr.String(),
			Up:         l.Up,
			OnlyNamed:  l.Excluded,
			Balances:   l.Balances,
			Problem:    members.LinkProblem(l),
		}
		for _, subnet := range l.Shadowed {
			s.Shadowed = append(s.Shadowed, subnet.String())
		}
		for _, p := range l.Prefixes {
			s.Prefixes = append(s.Prefixes, p.String())
		}
		out = append(out, s)
	}
	return kube.WorstFirst(out, v1beta1.MaxSpeakerAnnouncements, nil,
		func(a, b v1beta1.SpeakerLink) int { return cmp.Compare(a.Name, b.Name) })
}
