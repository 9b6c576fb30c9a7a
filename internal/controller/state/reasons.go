package state

import (
	"maps"

	"github.com/berth-lb/berth/api/v1beta1"
)

// KindReason is a kind of configuration object, and the reason of a Ready condition.
type KindReason struct {
	Kind   string
	Reason v1beta1.Reason
}

// SetReason remembers the reason of an object's Ready condition. An object that the
// configuration in force was not made from, because it is gone, is not remembered.
func (s *State) SetReason(key ObjectKey, reason v1beta1.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.judged[key]; !known {
		return
	}
	s.dropReason(key)
	s.reasons[key] = reason
	s.counts[KindReason{key.Kind, reason}]++
}

// CountObjects returns how many configuration objects have each reason in their Ready
// conditions. It has the reasons that some had before, too.
func (s *State) CountObjects() map[KindReason]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// forgetReasons forgets those of objects that are gone. The caller holds the lock.
func (s *State) forgetReasons() {
	for key := range s.reasons {
		if _, known := s.judged[key]; !known {
			s.dropReason(key)
		}
	}
}

// dropReason forgets the reason of one object. The caller holds the lock.
func (s *State) dropReason(key ObjectKey) {
	if reason, had := s.reasons[key]; had {
		s.counts[KindReason{key.Kind, reason}]--
		delete(s.reasons, key)
	}
}

// SetOutdated remembers why the definition of a kind is outdated; "" if it is not.
func (s *State) SetOutdated(kind, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outdated[kind] = message
}

// Outdated returns why the definition of a kind is outdated, "" if it is not, and whether that is known.
func (s *State) Outdated(kind string) (message string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	message, known = s.outdated[kind]
	return message, known
}
