package members

import (
	"cmp"
	"strings"

	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// What a speaker publishes of itself, as keys and values of membership. Both are text,
// so that they can be read where they turn up. Another fact takes a key here, and a
// field of [presence.NodeState].
const (
	keyStage = "stage"  // an announcement.Stage
	keyLink  = "link/"  // + name: see encodeLinks
	keyProbe = "probe/" // + node: what this node's probes say of its kernel and its links, see encodeProbe
	// keyIgnoresExclude is there, with any value, where the exclude label means
	// nothing to the speaker, keyIgnoresCordon where a cordon means nothing.
	keyIgnoresExclude = "ignores-exclude-label"
	keyIgnoresCordon  = "ignores-cordon"
	// keyClaims and keyFull are in claims.go.
)

// decodeState reads what a member publishes. What cannot be understood, because it comes
// from another version, is left out; of claims it is known that they were.
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

// encodeFlag returns the value of a flag: nothing when it is not set.
func encodeFlag(set bool) []byte {
	if !set {
		return nil
	}
	return []byte("yes")
}

// encodeProbe returns what is published of another node: a word about its kernel, "" for
// nothing, then +NAME for each link on which it answers and -NAME for each on which it is
// silent. What begins with another sign is for other versions.
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

// kernelUnknown stands in the place of a word about a kernel.
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

// encodeReports returns what this node publishes of the others.
func encodeReports(reports map[string]presence.ProbeReport) map[string][]byte {
	out := make(map[string][]byte, len(reports))
	for name, r := range reports {
		if value := encodeProbe(r); value != nil {
			out[keyProbe+name] = value
		}
	}
	return out
}

// states are the states of members, each read once for each revision of it.
type states map[string]stateRead

type stateRead struct {
	revision uint64
	state    presence.NodeState
}

// observe returns what membership knows of its members now. Those that it does not know
// any more are forgotten.
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
			Published:  len(m.Said) > 0,
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

// read returns what a member publishes. It is decoded again when its revision is
// another.
func (s states) read(m membership.Member) presence.NodeState {
	if before, known := s[m.Name]; known && before.revision == m.Revision && m.Revision != 0 {
		return before.state
	}
	state := decodeState(m.Said)
	s[m.Name] = stateRead{m.Revision, state}
	return state
}
