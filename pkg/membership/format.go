package membership

import (
	"fmt"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// Format is how a member writes what it publishes, and what it reads. It travels beside the
// member's address, so members know it even of those that they cannot read.
type Format struct {
	// Major and Minor are those of the messages that it writes. Those with one
	// major understand each other, whatever the minor.
	Major, Minor uint8
	// Oldest and Newest are the first and the last major that it reads.
	Oldest, Newest uint8
}

// ownFormat is that of this version. A version with another major should read this one too,
// and write it until all members read the other: Oldest and Newest serve that.
var ownFormat = Format{Major: kv.Major, Minor: kv.Minor, Oldest: kv.Major, Newest: kv.Major}

// String returns the format as it is written in logs.
func (f Format) String() string { return fmt.Sprintf("%d.%d", f.Major, f.Minor) }

// Readable reports whether this version reads what a member with this format writes. It is
// true while the format is not known.
func (f Format) Readable() bool { return f.Major == 0 || ownFormat.reads(f.Major) }

// reads reports whether a member with this format reads a major.
func (f Format) reads(major uint8) bool {
	return f.Newest == 0 || f.Oldest <= major && major <= f.Newest
}

// meta returns the format as it travels. Later versions may append to it.
func (f Format) meta() []byte { return []byte{f.Major, f.Minor, f.Oldest, f.Newest} }

// readFormat reads the published format of a member; zero if there is none.
func readFormat(meta []byte) Format {
	if len(meta) < 4 {
		return Format{}
	}
	return Format{Major: meta[0], Minor: meta[1], Oldest: meta[2], Newest: meta[3]}
}
