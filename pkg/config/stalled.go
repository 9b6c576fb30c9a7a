package config

import "github.com/berth-lb/berth/api/v1beta1"

// Stalled reports whether only an edit of the object itself can cure the problem. An
// object that misses another object, a Secret or a node may be in force as soon as
// that is there; one that collides with another is in force when that has gone or was
// edited, which may be part of the same change.
func (p Problem) Stalled() bool { return p.Reason == v1beta1.ReasonInvalid }
