package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReportManifest is manifest.json in the archive of `kubectl berth report`.
type ReportManifest struct {
	metav1.TypeMeta `json:",inline"`
	Created         metav1.Time `json:"created"`
	// Client is the version of kubectl-berth.
	Client   string `json:"client"`
	Redacted bool   `json:"redacted"`
	// Files are all of the archive but this one and SHA256SUMS.
	Files []ReportFile `json:"files"`
	// Cut is what did not fit.
	Cut []ReportCut `json:"cut,omitempty"`
	// Unread is what could not be read.
	Unread []Unread `json:"unread,omitempty"`
}

// ReportFile is a file of the archive.
type ReportFile struct {
	Name   string `json:"name"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ReportCut is a file of which not all fits into the archive, or nothing.
type ReportCut struct {
	Name string `json:"name"`
	Kept int64  `json:"kept"`
	Of   int64  `json:"of"`
	// Unit is bytes, objects or pods.
	Unit string `json:"unit"`
}
