package neighbor

import (
	"golang.org/x/net/bpf"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Spec says which socket to open.
type Spec struct {
	Link     links.Link
	Protocol Protocol
	// Filter is in force before the first frame can arrive.
	Filter []bpf.Instruction
	// ReadBuffer is the size of the queue in bytes, as the kernel counts them: some 800
	// for a small frame. Zero leaves the kernel's default.
	ReadBuffer int
}

// ReadLen is a buffer's length that is enough for any frame which [Parse] accepts; the
// rest of a longer one is cut off.
const ReadLen = snapLen
