package main

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// What a speaker says of itself to its fellows, as keys and values of
// membership. Both are text, so that they can be read where they turn up.
const (
	saysStage = "stage"  // a stage
	saysLink  = "link/"  // + name: see linkValues
	saysProbe = "probe/" // + node: what this node's probes say of its kernel and its links, see probeValue
	// saysIgnoresExclude is said, with any value, where the exclude label means
	// nothing to the speaker.
	saysIgnoresExclude = "ignores-exclude-label"
	// saysIgnoresCordon is the same for a cordon.
	saysIgnoresCordon = "ignores-cordon"
	// saysClaims and saysFull are in claims.go.
)

// word is all that one speaker says of itself.
type word struct {
	stage   announcement.Stage
	links   []links.Link // by name
	reports map[string]probeReport
	claims  map[netip.Addr]announcement.Claim
	// unknown is set when there may be more claims than could be read.
	unknown bool
	// full is set when the node must get no address that it does not claim.
	full bool
	// until is when what a Speaker object lends to it does not count any more; zero
	// for nothing lent, or for as long as the speaker is not heard.
	until time.Time

	ignoresExclude bool
	ignoresCordon  bool
}

// probeReport is what a speaker says of another node: of its kernel, and on which
// of its links that answers and is silent.
type probeReport struct {
	kernel          announcement.Report
	answers, silent []string
}

// readWord reads what a member says. What cannot be understood, because it
// comes from another version, is left out; of claims it is known that they were.
func readWord(m membership.Member) word {
	w := word{
		stage:   announcement.Stage(m.Said[saysStage]),
		links:   readLinks(m.Said),
		reports: map[string]probeReport{},
		claims:  map[netip.Addr]announcement.Claim{},
	}
	_, w.ignoresExclude = m.Said[saysIgnoresExclude]
	_, w.ignoresCordon = m.Said[saysIgnoresCordon]
	for key, value := range m.Said {
		if name, ok := strings.CutPrefix(key, saysProbe); ok {
			if r := parseProbe(value); probeValue(r) != nil {
				w.reports[name] = r
			}
		}
		if text, ok := strings.CutPrefix(key, saysClaims); ok {
			w.unknown = !w.readClaims(text, value) || w.unknown
		}
	}
	_, w.full = m.Said[saysFull]
	return w
}

// flagValue is what is said of a flag: nothing when it is not set.
func flagValue(set bool) []byte {
	if !set {
		return nil
	}
	return []byte("yes")
}

// probeValue is what is said of another node: a word about its kernel, "" for
// nothing, then +NAME for each link on which it answers and -NAME for each on which
// it is silent. What begins with another sign is for other versions.
func probeValue(r probeReport) []byte {
	fields := []string{cmp.Or(string(r.kernel), kernelUnknown)}
	for _, name := range r.answers {
		fields = append(fields, "+"+name)
	}
	for _, name := range r.silent {
		fields = append(fields, "-"+name)
	}
	if len(fields) == 1 && r.kernel == "" {
		return nil
	}
	return []byte(strings.Join(fields, " "))
}

// kernelUnknown is said in the place of a word about a kernel.
const kernelUnknown = "?"

func parseProbe(value []byte) probeReport {
	fields := strings.Fields(string(value))
	var out probeReport
	for i, field := range fields {
		switch {
		case i == 0 && field != kernelUnknown:
			out.kernel = announcement.Report(field)
		case strings.HasPrefix(field, "+"):
			out.answers = append(out.answers, field[1:])
		case strings.HasPrefix(field, "-"):
			out.silent = append(out.silent, field[1:])
		}
	}
	return out
}

// readClaims reads what is said of one block, and reports whether all of it could
// be read.
func (w *word) readClaims(text string, value []byte) bool {
	first, err := parseBlockKey(text)
	if err != nil {
		return false
	}
	b, err := parseBlock(value)
	for at, claim := range b {
		if claim.Generation > 0 {
			w.claims[addressAt(first, at)] = claim
		}
	}
	return err == nil
}
