package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Import is what becomes of the configuration of another load balancer with Berth.
type Import struct {
	metav1.TypeMeta `json:",inline"`
	// From is the other load balancer: metallb, openelb, purelb, kube-vip or cilium.
	From string `json:"from"`
	// Found is how many objects of it were found, by kind.
	Found []ImportCount `json:"found"`
	// Manifests are Berth's objects, in the order in which to apply them.
	Manifests []map[string]any `json:"manifests"`
	// Remarks are what there is to know and to do.
	Remarks []ImportRemark `json:"remarks"`
	// Services says whether any would get another address.
	Services ImportServices `json:"services"`
	// Steps are those of --take-over, in their order; none without it.
	Steps  []ImportStep `json:"steps,omitempty"`
	Unread []Unread     `json:"unread,omitempty"`
}

// ImportCount is how many objects of a kind there are.
type ImportCount struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
}

// ImportReason is why there is something to say of an object.
type ImportReason string

// The reasons.
const (
	// ImportNoEquivalent: Berth has nothing that does the same.
	ImportNoEquivalent ImportReason = "NoEquivalent"
	// ImportUnknownField: this program does not know the field, and leaves it out.
	ImportUnknownField ImportReason = "UnknownField"
	// ImportRefused: it is left out, as Berth would not accept it.
	ImportRefused ImportReason = "Refused"
	// ImportToDo: it has to be done by hand.
	ImportToDo ImportReason = "ToDo"
	// ImportDiffers: it carries over, and does not do quite the same.
	ImportDiffers ImportReason = "Differs"
	// ImportRewritten: it is written in another way, and does the same.
	ImportRewritten ImportReason = "Rewritten"
)

// Carries reports whether what is said of does the same with Berth, or nearly, without
// anybody's doing.
func (r ImportReason) Carries() bool { return r == ImportDiffers || r == ImportRewritten }

// ImportRemark is one thing to know, of one object or of several.
type ImportRemark struct {
	Reason ImportReason `json:"reason"`
	// Objects are those of the other load balancer, or Services, as kind namespace/name.
	Objects []Ref `json:"objects,omitempty"`
	// Field is the field or annotation, if it is about one.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Commands are what to type.
	Commands []string `json:"commands,omitempty"`
}

// ImportServices says what becomes of Services when the manifests are applied.
type ImportServices struct {
	// Verdict is Unchanged, Changes or Unknown.
	Verdict string `json:"verdict"`
	// Message says why it is not known.
	Message string `json:"message,omitempty"`
	// Checked is how many Services were looked at; Assigned have addresses now.
	Checked  int `json:"checked"`
	Assigned int `json:"assigned"`
	// Changes are the Services that would change.
	Changes []ImportChange `json:"changes,omitempty"`
}

// ImportChange is a Service that would change.
type ImportChange struct {
	Service Ref `json:"service"`
	// Change is Moves, Loses, Gains, NotTaken or NotHandled.
	Change string `json:"change"`
	// Addresses that the Service has now, and that it would have.
	Now  []string `json:"now,omitempty"`
	Then []string `json:"then,omitempty"`
	// Reason is the word of the Service's condition.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// When says on what it depends: "" for the manifests alone.
	When string `json:"when,omitempty"`
}

// ImportStepState is how far a step is.
type ImportStepState string

// The states of steps.
const (
	// ImportStepDone: the cluster shows that it is done.
	ImportStepDone ImportStepState = "Done"
	// ImportStepNext: it is to be done now, or its outcome to be waited for.
	ImportStepNext ImportStepState = "Next"
	// ImportStepBlocked: it would be next, and something is in the way.
	ImportStepBlocked ImportStepState = "Blocked"
	// ImportStepLater: another comes before it.
	ImportStepLater ImportStepState = "Later"
	// ImportStepUnknown: what would show whether it is done could not be read.
	ImportStepUnknown ImportStepState = "Unknown"
)

// ImportStep is one step from the other load balancer to Berth.
type ImportStep struct {
	// Name is the word for the step, the same in all versions.
	Name  string          `json:"name"`
	State ImportStepState `json:"state"`
	// Message says what the step is and, in one line, what was seen.
	Message string `json:"message"`
	// Details are what is in the way or not there yet; of many the first few.
	Details []string `json:"details,omitempty"`
	// Commands are what to type, one after the other.
	Commands []string `json:"commands,omitempty"`
	// Back are the commands that undo the step.
	Back []string `json:"back,omitempty"`
}
