package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CheckState is how a check came out.
type CheckState string

// The states of checks.
const (
	CheckOK      CheckState = "OK"
	CheckWarning CheckState = "Warning"
	CheckProblem CheckState = "Problem"
	// CheckUnknown: what the check looks at could not be read.
	CheckUnknown CheckState = "Unknown"
	// CheckInfo: no API object shows what the check looks at. The text says what to look for.
	CheckInfo CheckState = "Info"
)

// Checks is what `kubectl berth check` prints.
type Checks struct {
	metav1.TypeMeta `json:",inline"`
	// Stage is BeforeInstall or Installed.
	Stage     string `json:"stage"`
	Context   string `json:"context,omitempty"`
	Namespace string `json:"namespace"`
	// Verdict is Healthy, Warnings, Unknown (no problem was found, and not all could be
	// seen) or Problems.
	Verdict string       `json:"verdict"`
	Counts  CheckCounts  `json:"counts"`
	Groups  []CheckGroup `json:"groups"`
	Unread  []Unread     `json:"unread,omitempty"`
}

// CheckCounts is how many checks came out how; those that can see nothing are not counted.
type CheckCounts struct {
	OK       int `json:"ok"`
	Warnings int `json:"warnings"`
	Problems int `json:"problems"`
	Unknown  int `json:"unknown"`
}

// CheckGroup is checks that belong together.
type CheckGroup struct {
	Name   string  `json:"name"`
	Checks []Check `json:"checks"`
}

// Check is one thing that was looked at.
type Check struct {
	// Name is the word for the check, the same in all versions.
	Name  string     `json:"name"`
	State CheckState `json:"state"`
	// Message says in one line what was seen.
	Message string `json:"message"`
	// Details are what it was seen at, such as one object each; of many the first few.
	Details []string `json:"details,omitempty"`
	// Link is where the documentation says what to do.
	Link string `json:"link"`
	// Command is what to type next.
	Command string `json:"command,omitempty"`
}
