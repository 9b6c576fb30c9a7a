package members

import (
	"cmp"
	"strings"

	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// The keys and values that a speaker publishes about itself. Both are text, so that people
// can read them. To publish another fact, add a key here and a field to
// [presence.NodeState].
const (
	keyStage = "stage"  // an announcement.Stage
	keyLink  = "link/"  // + name: see encodeLinks
	keyProbe = "probe/" // + node: what this node's probes say of its kernel and its links, see encodeProbe
	// keyIgnoresExclude exists, with any value, if the speaker ignores the exclude label,
	// keyIgnoresCordon if it ignores a cordon.
	keyIgnoresExclude = "ignores-exclude-label"
	keyIgnoresCordon  = "ignores-cordon"
	// keyClaims and keyFull are in claims.go.
)

// decodeState reads what a member publishes. It leaves out what it cannot read, because it
// comes from another version; ClaimsUnknown says whether claims are missing.
func decodeState(published map[string][]byte) presence.NodeState {
	s := presence.NodeState{
		Stage:   announcement.Stage(published[keyStage]),
		Links:   decodeLinks(published),
		Reports: map[string]presence.ProbeReport{},
	}
	_, s.IgnoresExclude = published[keyIgnoresExclude]
	_, s.IgnoresCordon = published[keyIgnoresCordon]
	_, s.Full = published[keyFull]
	for key, value := range published {
		if name, ok := strings.CutPrefix(key, keyProbe); ok {
			if r := decodeProbe(value); encodeProbe(r) != nil {
				s.Reports[name] = r
			}
		}
	}
	s.Claims, s.ClaimsUnknown = decodeClaims(published)
	return s
}

// encodeFlag returns the value of a flag: nil if it is not set.
func encodeFlag(set bool) []byte {
	if !set {
		return nil
	}
	return []byte("yes")
}

// encodeProbe returns the published form of a report about another node: the state of its
// kernel, then +NAME for each link on which it answers and -NAME for each on which it is
// silent. Fields that begin with another sign belong to other versions.
func encodeProbe(r presence.ProbeReport) []byte {
	fields := []string{cmp.Or(string(r.Kernel), kernelUnknown)}
	for _, name := range r.Answers {
		fields = append(fields, "+"+name)
	}
	for _, name := range r.Silent {
		fields = append(fields, "-"+name)
	}
	if len(fields) == 1 && r.Kernel == "" {
		return nil
	}
	return []byte(strings.Join(fields, " "))
}

// kernelUnknown is published if the state of a kernel is not known.
const kernelUnknown = "?"

func decodeProbe(value []byte) presence.ProbeReport {
	fields := strings.Fields(string(value))
	var out presence.ProbeReport
	for i, field := range fields {
		switch {
		case i == 0 && field != kernelUnknown:
			out.Kernel = announcement.Report(field)
		case strings.HasPrefix(field, "+"):
			out.Answers = append(out.Answers, field[1:])
		case strings.HasPrefix(field, "-"):
			out.Silent = append(out.Silent, field[1:])
		}
	}
	return out
}

// encodeReports returns what this node publishes about the others.
func encodeReports(reports map[string]presence.ProbeReport) map[string][]byte {
	out := make(map[string][]byte, len(reports))
	for name, r := range reports {
		if value := encodeProbe(r); value != nil {
			out[keyProbe+name] = value
		}
	}
	return out
}

// states caches what members publish, decoded once for each revision.
type states map[string]stateRead

type stateRead struct {
	revision uint64
	state    presence.NodeState
}

// observe returns what membership knows of its members now, and forgets those that it no
// longer knows.
func (s states) observe(all []membership.Member) []presence.Observed {
	out := make([]presence.Observed, 0, len(all))
	known := make(map[string]bool, len(all))
	for _, m := range all {
		known[m.Name] = true
		alive := m.State == membership.Alive
		out = append(out, presence.Observed{
			Name:       m.Name,
			Alive:      alive,
			Left:       m.State == membership.Left,
			Since:      m.Since,
			State:      s.read(m),
			Published:  len(m.Values) > 0,
			Incomplete: m.Incomplete,
			Unread:     alive && !m.Format.Readable(),
		})
	}
	for name := range s {
		if !known[name] {
			delete(s, name)
		}
	}
	return out
}

// read returns what a member publishes. It decodes that again only if its revision has
// changed.
func (s states) read(m membership.Member) presence.NodeState {
	if before, known := s[m.Name]; known && before.revision == m.Revision && m.Revision != 0 {
		return before.state
	}
	state := decodeState(m.Values)
	s[m.Name] = stateRead{m.Revision, state}
	return state
}
