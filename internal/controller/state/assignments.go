package state

import "net/netip"

// Assignment is an address that Berth has given to a Service.
type Assignment struct {
	Address netip.Addr
	Pool    string // that it is in, or was in last; "" for none
	Holder  string // the Service, as namespace/name
}

// Assignments returns all of them, in no order.
func (s *State) Assignments() []Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Assignment
	for holder, h := range s.addresses.Holdings() {
		if h.Terms.Foreign {
			continue
		}
		for _, addr := range h.Addresses {
			out = append(out, Assignment{addr, s.addresses.From(addr), string(holder)})
		}
	}
	return out
}
