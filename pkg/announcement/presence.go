package announcement

import (
	"slices"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2/election"
)

// Presence is what other speakers may expect of a node.
type Presence int

// The kinds of presence, from none to full.
const (
	// Gone: the node does not forward traffic, or its speaker will not come
	// back. Others take over what it owned, at once.
	Gone Presence = iota
	// Held: the speaker is silent or starts again, and the node goes on
	// forwarding. It keeps what it owns for a while and gets nothing new.
	Held
	// Leaving: the speaker works and wants others to take over.
	Leaving
	// Present: the speaker works.
	Present
)

var presenceNames = [...]string{Gone: "Gone", Held: "Held", Leaving: "Leaving", Present: "Present"}

// String is the presence as it is written in status and logs.
func (p Presence) String() string { return presenceNames[p] }

// Stage is how far a speaker says that it is with its work.
type Stage string

// The stages in the life of a speaker.
const (
	// StageStarting: it reads the cluster and looks for the other speakers.
	StageStarting Stage = "starting"
	// StageReady: it announces what it owns.
	StageReady Stage = "ready"
	// StageRestarting: it ends, and is expected to come back soon.
	StageRestarting Stage = "restarting"
	// StageLeaving: it hands over what it owns and then ends.
	StageLeaving Stage = "leaving"
)

// works reports whether a speaker at this stage announces what it owns. One that is
// not known is of a later version, and a step to, or a kind of, being ready: all
// that ends is told by the stages that are known.
func (s Stage) works() bool {
	switch s {
	case "", StageStarting, StageRestarting, StageLeaving:
		return false
	}
	return true
}

// Report is what a witness says of the kernel of another node, which it
// probes by ARP or NDP.
type Report string

// The reports of a witness. None at all means that it cannot tell.
const (
	// KernelAnswers: the node forwards, whatever its speaker does.
	KernelAnswers Report = "answers"
	// KernelRefuses: it answers, and refuses connections to the speaker's port:
	// the process is not there, and the kubelet will start it again.
	KernelRefuses Report = "refuses"
	// KernelSilent: the kernel answered before and no longer does, and the
	// speaker does not answer the witness either.
	KernelSilent Report = "silent"
)

// Member is what is known of one other node's speaker and kernel.
type Member struct {
	// Alive is what membership thinks, Since when it came to think so, and
	// Left is set when the speaker sent a leave notice.
	Alive bool
	Left  bool
	Since time.Time
	// Unmet is set when this speaker, since it was started, has not heard of the
	// other from any member: all may have been started anew at once.
	Unmet bool
	// Stage is what the speaker said last, "" for nothing yet; StageSince is when
	// that was heard.
	Stage      Stage
	StageSince time.Time
	// Reports are those of the witnesses that are alive, in the order of
	// Witnesses; "" of one that cannot tell.
	Reports []Report
	// Probeable is set when this node shares a link with it, so that its kernel
	// can be probed.
	Probeable bool
	// Renewed is when the speaker last renewed its Speaker object, as seen
	// from here. Speakers do so while a member says that it does not hear them.
	Renewed time.Time
	// SeenAPI is when this speaker last knew that it sees what others write to the
	// API, Contact when it last knew that it hears others in any way. What did not
	// arrive after that is unknown.
	SeenAPI time.Time
	Contact time.Time
}

// GracePeriods are for how long a node may keep what it owns without its speaker.
type GracePeriods struct {
	// Restart is for a speaker that said it comes back, or that came back and
	// does not announce yet.
	Restart time.Duration
	// Silence is for one that is silent while its kernel answers. A process that
	// has died is started again soon, and Restart is for that too; one that is
	// there and silent may hang, with the whole node.
	Silence time.Duration
	// Suspicion is for one that membership misses and of whose kernel no witness can
	// tell yet, because they have only begun to probe it.
	Suspicion time.Duration
	// Renewal is how long a renewed Speaker object proves that the speaker
	// works although it is not heard.
	Renewal time.Duration
	// Contact is how long this speaker may take to find out whether it hears
	// anybody.
	Contact time.Duration
}

// Assessment is the outcome of Assess.
type Assessment struct {
	Presence Presence
	Reason   v1beta1.Reason
	// Until is when the assessment may change by itself; zero for never.
	Until time.Time
}

// Assess says what to expect of a node. It asks two witnesses two questions: membership
// whether the speaker is there, and the node's kernel whether the node is. A kernel
// that falls silent together with its speaker is gone at once. One that answers goes on
// forwarding, so its speaker has a grace period. A speaker that could not have heard of
// another assesses it as it did last.
func Assess(f Member, p GracePeriods, now time.Time) Assessment {
	kernel := kernelOf(f)
	switch {
	case kernel == KernelSilent:
		return Assessment{Gone, v1beta1.ReasonNodeSilent, time.Time{}}
	case f.Alive && f.Stage.works():
		return Assessment{Present, v1beta1.ReasonNodePresent, time.Time{}}
	case f.Alive && f.Stage == StageLeaving:
		return Assessment{Leaving, v1beta1.ReasonNodeLeaving, time.Time{}}
	case f.Alive:
		return heldUntil(f.StageSince.Add(p.Restart), now)
	case f.Stage == StageLeaving:
		return Assessment{Gone, v1beta1.ReasonNodeLeaving, time.Time{}}
	}
	// What was renewed before the speaker fell silent, or left, proves nothing. One
	// that has come back need not be heard: its port may be closed now, or its address be of
	// another family.
	renewedSince := f.Stage.works() && f.Renewed.After(f.Since)
	if f.Left && !renewedSince {
		return heldUntil(later(f.Since, f.StageSince).Add(p.Restart), now)
	}
	if renewedSince {
		renewed := f.Renewed.Add(p.Renewal)
		switch {
		case renewed.After(now):
			return Assessment{Present, v1beta1.ReasonNodeRenewing, renewed}
		case !f.SeenAPI.After(renewed):
			return Assessment{Present, v1beta1.ReasonNodeAssumed, time.Time{}}
		}
	}
	switch kernel {
	case KernelRefuses:
		// A firewall refuses connections too. A stand-in answers meanwhile, with the
		// node's own hardware address, so that either is well.
		if !f.Since.Add(p.Restart).After(now) && !hadContact(f, p.Restart) {
			return Assessment{Held, v1beta1.ReasonNodeHeld, time.Time{}}
		}
		return heldUntil(f.Since.Add(p.Restart), now)
	case KernelAnswers:
		if f.Unmet {
			return answering(f, p, p.Restart, now)
		}
		return answering(f, p, p.Silence, now)
	}
	if f.Probeable {
		return heldUntil(f.Since.Add(p.Suspicion), now)
	}
	return Assessment{Gone, v1beta1.ReasonSpeakerNotAlive, time.Time{}}
}

// answering assesses a node whose speaker is silent and whose kernel
// answers. It is held for a while. After that it is gone, but only for a speaker
// that was in contact with the rest meanwhile: one that hears nobody knows nothing
// of anybody, and what it knew last goes on. So the loss of the API server, of the
// speakers' port or of both takes no address from a node that forwards.
func answering(f Member, p GracePeriods, hold time.Duration, now time.Time) Assessment {
	end := f.Since.Add(hold)
	switch {
	case end.After(now):
		return heldUntil(end, now)
	case f.Stage != StageReady || hadContact(f, hold):
		return Assessment{Gone, v1beta1.ReasonSpeakerNotAlive, time.Time{}}
	case end.Add(p.Contact).After(now):
		return Assessment{Held, v1beta1.ReasonNodeHeld, end.Add(p.Contact)}
	}
	return Assessment{Present, v1beta1.ReasonNodeAssumed, time.Time{}}
}

// hadContact reports whether this speaker heard others late enough in the time for
// which one is held: it would have heard of that one too.
func hadContact(f Member, hold time.Duration) bool { return f.Contact.After(f.Since.Add(hold / 2)) }

// heldUntil holds a node until a time, after which it is gone.
func heldUntil(end, now time.Time) Assessment {
	if !end.After(now) {
		return Assessment{Gone, v1beta1.ReasonSpeakerNotAlive, time.Time{}}
	}
	return Assessment{Held, v1beta1.ReasonNodeHeld, end}
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// kernelOf sums up the reports. One witness that gets answers is believed, also one
// whose connection is refused. The kernel is silent when every witness says so; where
// some cannot tell, the silence of the others counts once membership misses the speaker
// too.
func kernelOf(f Member) Report {
	silent := 0
	for _, r := range f.Reports {
		if r == KernelSilent {
			silent++
		}
	}
	switch {
	case slices.Contains(f.Reports, KernelRefuses):
		return KernelRefuses
	case slices.Contains(f.Reports, KernelAnswers):
		return KernelAnswers
	}
	if silent > 0 && (silent == len(f.Reports) || !f.Alive) {
		return KernelSilent
	}
	return ""
}

// maxWitnesses is how many nodes probe one. With two, a broken path between
// two nodes takes neither of them out.
const maxWitnesses = 2

// Witnesses names the nodes that probe the kernel of a node: the first two of
// those alive, in an order that each node has for itself, so that the work is
// spread evenly. Every speaker names the same. alive is sorted.
func Witnesses(node string, alive []string) []string {
	out := election.FirstFor(node, alive, maxWitnesses+1) // it may be among them itself
	out = slices.DeleteFunc(out, func(name string) bool { return name == node })
	out = out[:min(len(out), maxWitnesses)]
	slices.Sort(out)
	return out
}
