package kv

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// earlier are messages as versions of Berth have written them, one for each format, in its order. They stay
// as they are: members of these versions may be met in an upgrade. A new format adds one at the end.
var earlier = []struct {
	major, minor byte
	message      string // in hexadecimal digits
	says         []line
}{
	{
		major: 1,
		minor: 0,
		message: "0100010000004107056e6f646531001c0110636c61696d732f3139322e302e322e30180937773a612c323a62" +
			"071002313605003c1301057374616765eeffffffff3f067265616479010000001a08056e6f646532911c1001" +
			"05737461676506086c656176696e67",
		says: []line{
			{Member: "node1", Alive: true, Key: "claims/192.0.2.0", Value: "7w:a,2:b", Version: 12},
			{
				Member:  "node1",
				Alive:   true,
				Key:     "claims/192.0.2.16",
				Deleted: true,
				Age:     time.Minute,
				Version: 9,
			},
			{Member: "node1", Alive: true, Key: "stage", Value: "ready", Version: 1 << 40},
			{Member: "node2", Gone: time.Hour, Key: "stage", Value: "leaving", Version: 3},
		},
	},
}

// TestMessagesOfEarlierVersionsAreRead: what members of earlier versions publish is understood.
func TestMessagesOfEarlierVersionsAreRead(t *testing.T) {
	for _, e := range earlier {
		message, err := hex.DecodeString(e.message)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lines(noon, message)
		if diff := cmp.Diff(e.says, got); err != nil || diff != "" {
			t.Errorf("format %d.%d: %v (-want +got):\n%s", e.major, e.minor, err, diff)
		}
	}
	last := earlier[len(earlier)-1]
	if last.major != Major || last.minor != Minor {
		t.Fatalf("there is no message of format %d.%d: add one", Major, Minor)
	}
	p := NewPacker(0)
	for _, l := range last.says {
		of := Section{
			Member: l.Member,
			Alive:  l.Alive,
			Gone:   l.Gone,
		}
		if !p.Add(noon, of, l.Key, l.entry(noon)) {
			t.Fatalf("there is no room for %+v", l)
		}
	}
	if got := hex.EncodeToString(p.Message()); got != last.message {
		t.Errorf("this version writes\n%s and no longer\n%s: a change that is not a new format",
			got, last.message)
	}
}
