package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
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
	// objectInterval is the least time between two writes of the Speaker object.
	objectInterval = time.Second
	// objectRetry is how soon a write is tried again that failed.
	objectRetry = 2 * time.Second
)

// object keeps this node's Speaker object, which tells what the speaker is
// doing.
type object struct {
	view    *view
	live    client.Reader // the API server
	writer  client.Client
	log     *slog.Logger
	address netip.AddrPort // of this speaker, for its fellows
	profile membership.Profile
	stage   func() announcement.Stage
	// conflicts are those that the announcer and the self-check know of.
	conflicts func() []v1beta1.Layer2Conflict
	bgp       interface{ Status(*v1beta1.SpeakerStatus) }
	// before is what the speaker before this one claimed. The object says so
	// until this one has settled, which then knows better.
	before map[netip.Addr]announcement.Claim
	// linksBefore are the node's links as the speaker before this one wrote them.
	// The object lists them until this one has looked for them.
	linksBefore []v1beta1.SpeakerLink
	// workedBefore is set when a speaker before this one has been ready.
	workedBefore bool

	dirty   notify.Signal // write again
	renewed atomic.Pointer[metav1.MicroTime]
	failed  atomic.Pointer[string] // why the last write failed, "" when it did not
}

// renew writes the object with the time of now, to prove that this speaker
// works to those that do not hear it.
func (o *object) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	now := metav1.NewMicroTime(time.Now().Truncate(time.Microsecond)) // what the API keeps of it
	o.renewed.Store(&now)
	return o.write(ctx, o.status())
}

// Reachable reports whether the API server answers.
func (o *object) Reachable(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var have v1beta1.Speaker
	return client.IgnoreNotFound(o.live.Get(ctx, types.NamespacedName{Name: o.view.node}, &have)) == nil
}

// writeTimeout bounds a write. A webhook may take half a minute to fail.
const writeTimeout = 10 * time.Second

// apiTimeout bounds a call that finds out whether the API server is there.
const apiTimeout = 3 * time.Second

// tell has the object written again, soon.
func (o *object) tell() { o.dirty.Set() }

// run writes the object whenever something changed, and a last time when the
// speaker stops.
func (o *object) run(ctx context.Context) error {
	o.tell()
	for {
		select {
		case <-ctx.Done():
			return o.stopped()
		case <-o.dirty.C():
		}
		pause := objectInterval
		if err := o.write(ctx, o.status()); err != nil && ctx.Err() == nil {
			pause = objectRetry
			o.tell()
		}
		select {
		case <-ctx.Done():
			return o.stopped()
		case <-time.After(pause):
		}
	}
}

// stopped says in the object that nothing is announced any more, and what the
// node keeps until the speaker is back. A speaker that is killed cannot, so it is
// said briefly and not insisted on.
func (o *object) stopped() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	status := o.status()
	status.Members = 0
	status.Layer2 = v1beta1.SpeakerLayer2{}
	if o.stage() != announcement.StageLeaving {
		status.Layer2.Kept = keptOf(o.kept())
	}
	status.Fellows, status.RenewTime = nil, nil
	status.BGP = v1beta1.SpeakerBGP{BootID: status.BGP.BootID} // for the one that comes after
	meta.SetStatusCondition(&status.Conditions, clearCondition(nil))
	meta.SetStatusCondition(&status.Conditions, kube.Condition(v1beta1.ConditionReady, false,
		v1beta1.ReasonStopped, "The speaker has stopped in order. It announces nothing.", 0))
	if err := o.write(ctx, status); err != nil {
		o.log.Info("the Speaker object could not be told that the speaker stops", "name", o.view.node, "error", err)
	}
	return nil
}

// write makes the status of the object what it should be. It creates the
// object where there is none.
func (o *object) write(ctx context.Context, status v1beta1.SpeakerStatus) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := o.writeOver(ctx, o.view.cluster, status)
	if apierrors.IsConflict(err) { // the cache lags behind
		err = o.writeOver(ctx, o.live, status)
	}
	o.wrote(err)
	return err
}

// wrote takes in how a write ended. Only what is new is logged.
func (o *object) wrote(err error) {
	why := ""
	if err != nil {
		o.view.writeFailures.Add(1)
		why = err.Error()
	}
	switch before := o.failed.Swap(&why); {
	case before != nil && *before == why, before == nil && err == nil, errors.Is(err, context.Canceled):
	case err != nil:
		o.log.Warn("cannot write the Speaker object", "name", o.view.node, "error", err)
	default:
		o.log.Info("the Speaker object can be written again", "name", o.view.node)
	}
}

func (o *object) writeOver(ctx context.Context, reader getter, status v1beta1.SpeakerStatus) error {
	var have v1beta1.Speaker
	err := reader.Get(ctx, types.NamespacedName{Name: o.view.node}, &have)
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
	want.Status = status
	want.Status.Conditions = conditions
	if equality.Semantic.DeepEqual(have.Status, want.Status) {
		return nil
	}
	// An update, not a patch: zeros are to be stored as well.
	if err := o.writer.Status().Update(ctx, want); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// getter reads one object.
type getter interface {
	Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error
}

// create makes the object, owned by the Node: it goes when the Node goes.
func (o *object) create(ctx context.Context, into *v1beta1.Speaker) error {
	var node corev1.Node
	if err := o.view.cluster.Get(ctx, types.NamespacedName{Name: o.view.node}, &node); err != nil {
		return fmt.Errorf("read this node (is --node-name its name?): %w", err)
	}
	*into = v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{
		Name: node.Name,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Node", Name: node.Name, UID: node.UID,
		}},
	}}
	err := o.writer.Create(ctx, into)
	if apierrors.IsAlreadyExists(err) {
		return o.live.Get(ctx, types.NamespacedName{Name: o.view.node}, into)
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return nil
}

// status is what the object should say.
func (o *object) status() v1beta1.SpeakerStatus {
	picture := o.view.tracker.Current()
	conflicts := o.conflicts()
	status := v1beta1.SpeakerStatus{
		MemberAddress: o.address.String(),
		MemberProfile: string(o.profile),
		Members:       int32(max(picture.Alive, 1)),
		Version:       version.String(),
		Stage:         stageStatus(o.stage()),
		RenewTime:     o.renewed.Load(),
		HasWorked:     o.workedBefore || o.view.state.settled.IsSet(),
		ExcludeLabel:  markStatus(o.view.ignoreExclude),
		Cordon:        markStatus(o.view.ignoreCordon),
		Links:         o.links(),
		Fellows:       fellowStatus(picture),
		Layer2:        v1beta1.SpeakerLayer2{ConflictCount: int32(len(conflicts)), Conflicts: capped(conflicts)},
	}
	o.bgp.Status(&status)
	announced := o.view.state.announced()
	kept := o.kept()
	maps.DeleteFunc(kept, func(addr netip.Addr, _ announcement.Claim) bool {
		r, listed := announced[addr]
		return listed && r.Claim != nil
	})
	status.Layer2.Kept = keptOf(kept)
	status.Layer2.Count = int32(len(announced))
	for addr, r := range announced {
		if r.StandInFor == "" && !r.HandingOver {
			status.Layer2.Owned++
		}
		status.Layer2.Announcements = append(status.Layer2.Announcements, announcementStatus(addr, r))
	}
	slices.SortFunc(status.Layer2.Announcements, func(a, b v1beta1.Layer2Announcement) int {
		return netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address))
	})
	status.Layer2.Addresses = inOneLine(status.Layer2.Announcements)
	status.Layer2.Announcements = capped(status.Layer2.Announcements)
	meta.SetStatusCondition(&status.Conditions, o.ready())
	meta.SetStatusCondition(&status.Conditions, clearCondition(conflicts))
	if why := o.view.joiner.Problem(); why != nil || o.view.state.settled.IsSet() {
		meta.SetStatusCondition(&status.Conditions, members.ReachableCondition(why, picture, o.address))
	}
	return status
}

// kept is what the node keeps while its speaker does not work.
func (o *object) kept() map[netip.Addr]announcement.Claim {
	if !o.view.state.settled.IsSet() {
		return maps.Clone(o.before)
	}
	out := map[netip.Addr]announcement.Claim{}
	for addr, r := range o.view.state.all() {
		if r.Claim != nil {
			out[addr] = *r.Claim
		}
	}
	return out
}

// links are those of the node, as far as this speaker knows them.
func (o *object) links() []v1beta1.SpeakerLink {
	if !o.view.tracker.LinksKnown() {
		return o.linksBefore
	}
	return linkStatus(o.view.tracker.OwnLinks())
}

// ready is the condition that tells whether the speaker announces what it
// should.
func (o *object) ready() metav1.Condition {
	if missing := o.view.state.missing(); missing != "" {
		return kube.Condition(v1beta1.ConditionReady, false, v1beta1.ReasonStarting,
			"The speaker announces nothing by layer 2 yet: "+missing+".", 0)
	}
	return kube.Condition(v1beta1.ConditionReady, true, v1beta1.ReasonAnnouncing, "The speaker sees the cluster and announces what this node owns.", 0)
}

// clearCondition tells whether only the owners answer for their addresses.
func clearCondition(conflicts []v1beta1.Layer2Conflict) metav1.Condition {
	if len(conflicts) == 0 {
		return kube.Condition(v1beta1.ConditionAddressesClear, true, v1beta1.ReasonNoConflicts, "Only their owners answer for the addresses, as far as this node sees.", 0)
	}
	const most = 10
	var told []string
	for _, c := range conflicts[:min(len(conflicts), most)] {
		told = append(told, c.Message)
	}
	if len(conflicts) > most {
		told = append(told, fmt.Sprintf("And %d more, see status.layer2.conflicts.", len(conflicts)-most))
	}
	return kube.Condition(v1beta1.ConditionAddressesClear, false, v1beta1.ReasonConflicts, strings.Join(told, " "), 0)
}

// inOneLine names the first addresses, and says how many more there are.
func inOneLine(all []v1beta1.Layer2Announcement) string {
	const most = 4
	var named []string
	for _, a := range all[:min(len(all), most)] {
		named = append(named, a.Address)
	}
	out := strings.Join(named, ",")
	if more := len(all) - len(named); more > 0 {
		out += fmt.Sprintf(" + %d more", more)
	}
	return out
}

func announcementStatus(addr netip.Addr, r remembered) v1beta1.Layer2Announcement {
	out := v1beta1.Layer2Announcement{
		Address: addr.String(), Services: r.Services, Links: r.Links, StandInFor: r.StandInFor,
		Since: metav1.NewTime(r.since.Truncate(time.Second)),
	}
	if r.Claim != nil {
		out.Generation = int64(r.Claim.Generation)
	}
	return out
}

// stageStatus is a stage as the API writes it.
func stageStatus(s announcement.Stage) v1beta1.SpeakerStage {
	return map[announcement.Stage]v1beta1.SpeakerStage{
		announcement.StageStarting: v1beta1.StageStarting, announcement.StageReady: v1beta1.StageReady,
		announcement.StageRestarting: v1beta1.StageRestarting, announcement.StageLeaving: v1beta1.StageLeaving,
	}[s]
}

// markStatus is what a mark of the node means to this speaker, as the API writes it.
func markStatus(ignored bool) v1beta1.NodeMark {
	if ignored {
		return v1beta1.MarkIgnored
	}
	return v1beta1.MarkHeeded
}

// fellowStatus lists the fellows: of more than can be listed, those that are
// not present first; then all by name.
func fellowStatus(p presence.Snapshot) []v1beta1.SpeakerFellow {
	var out []v1beta1.SpeakerFellow
	for name, f := range p.Members {
		out = append(out, v1beta1.SpeakerFellow{
			Name: name, Presence: v1beta1.FellowPresence(f.Presence.String()), Reason: string(f.Reason),
			Since: metav1.NewTime(f.Since.Truncate(time.Second)),
		})
	}
	byName := func(a, b v1beta1.SpeakerFellow) int { return cmp.Compare(a.Name, b.Name) }
	present := func(f v1beta1.SpeakerFellow) int {
		if f.Presence == v1beta1.FellowPresent {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b v1beta1.SpeakerFellow) int { return cmp.Or(present(a)-present(b), byName(a, b)) })
	out = capped(out)
	slices.SortFunc(out, byName)
	return out
}

func linkStatus(links []links.Link) []v1beta1.SpeakerLink {
	var out []v1beta1.SpeakerLink
	for _, l := range links {
		s := v1beta1.SpeakerLink{
			Name: l.Name, MACAddress: l.HardwareAddr.String(), Up: l.Up, OnlyNamed: l.Excluded, Balances: l.Balances, Problem: members.LinkProblem(l),
		}
		for _, subnet := range l.Shadowed {
			s.Shadowed = append(s.Shadowed, subnet.String())
		}
		for _, p := range l.Prefixes {
			s.Prefixes = append(s.Prefixes, p.String())
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b v1beta1.SpeakerLink) int { return cmp.Compare(a.Name, b.Name) })
	return capped(out)
}

func capped[T any](list []T) []T {
	return list[:min(len(list), v1beta1.MaxSpeakerAnnouncements)]
}
