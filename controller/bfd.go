package main

import (
	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// bfdNotInForce tells of each peer that asks for BFD, and of each profile, that
// speakers do not do BFD yet. It goes when they do.
func bfdNotInForce(c config.Config) []config.Problem {
	var out []config.Problem
	for _, p := range c.BGPPeers {
		if p.BFD != nil {
			out = append(out, config.Problem{Kind: config.KindBGPPeer, Name: p.Name, Reason: v1beta1.ReasonBFDNotInForce,
				Message: "spec.bfdProfile: BFD is not in force yet. The sessions run without it: a silent router is noticed after holdTime."})
		}
	}
	for _, p := range c.BFDProfiles {
		out = append(out, config.Problem{Kind: config.KindBFDProfile, Name: p.Name, Reason: v1beta1.ReasonBFDNotInForce,
			Message: "Speakers do not use BFD yet."})
	}
	return out
}
