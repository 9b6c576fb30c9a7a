package bfd

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// good is a packet as BIRD 2.0.12 sent it, with its fields.
const good = "20c80318 11223344 55667788 000186a0 000186a0 00000000"

var goodPacket = Packet{
	State:                   Up,
	ControlPlaneIndependent: true,
	DetectMultiplier:        3,
	MyDiscriminator:         0x11223344,
	YourDiscriminator:       0x55667788,
	DesiredMinTx:            100 * time.Millisecond,
	RequiredMinRx:           100 * time.Millisecond,
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParsePacket(t *testing.T) {
	const tail = " 11223344 55667788 000186a0 000186a0 00000000"
	for _, test := range []struct {
		story, packet string
		want          Verdict
	}{
		{"a good packet", good, Accepted},
		{"with something behind it", good + " ffff", Accepted},
		{"with authentication", "20c4031a" + tail + " 0102", Accepted},
		{"nothing", "", BadLength},
		{"a byte short", good[:len(good)-2], BadLength},
		{"version 0", "00c00318" + tail, BadVersion},
		{"version 2", "40c00318" + tail, BadVersion},
		{"version before length", "40c00300" + tail, BadVersion},
		{"length below the least", "20c00317" + tail, BadLength},
		{"length above what came", "20c00319" + tail, BadLength},
		{"length 255", "20c003ff" + tail, BadLength},
		{"A bit without a section", "20c40318" + tail, BadLength},
		{"A bit with half a section", "20c40319" + tail + " 01", BadLength},
		{"multiplier 0", "20c00018" + tail, ZeroMultiplier},
		{"M bit", "20c10318" + tail, Multipoint},
		{"my discriminator 0", "20c00318 00000000 55667788 000186a0 000186a0 00000000", ZeroDiscriminator},
	} {
		t.Run(test.story, func(t *testing.T) {
			if _, got := ParsePacket(unhex(t, test.packet)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestPacketFields(t *testing.T) {
	got, _ := ParsePacket(unhex(t, good))
	if diff := cmp.Diff(goodPacket, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(unhex(t, good), goodPacket.Append(nil)); diff != "" {
		t.Error(diff)
	}
	all := Packet{
		Diagnostic:              31,
		State:                   Init,
		Poll:                    true,
		Final:                   true,
		ControlPlaneIndependent: true,
		Demand:                  true,
		DetectMultiplier:        255,
		MyDiscriminator:         math.MaxUint32,
		YourDiscriminator:       1,
		DesiredMinTx:            math.MaxUint32 * time.Microsecond,
		RequiredMinRx:           time.Microsecond,
		RequiredMinEchoRx:       time.Hour,
	}
	got, verdict := ParsePacket(all.Append(nil))
	if diff := cmp.Diff(all, got); diff != "" || verdict != Accepted {
		t.Error(verdict, diff)
	}
}

func TestIntervalsAreBoundedToTheWire(t *testing.T) {
	p := goodPacket
	p.DesiredMinTx, p.RequiredMinRx, p.RequiredMinEchoRx = 100*time.Hour, -time.Second, 1500*time.Nanosecond
	got, _ := ParsePacket(p.Append(nil))
	if got.DesiredMinTx != math.MaxUint32*time.Microsecond || got.RequiredMinRx != 0 ||
		got.RequiredMinEchoRx != time.Microsecond {
		t.Errorf("got %+v", got)
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Up.String(), "Up"}, {State(9).String(), "State(9)"},
		{DiagTimeExpired.String(), "control detection time expired"}, {Diagnostic(31).String(),
			"diagnostic 31"},
		{WrongTTL.String(), "wrong_ttl"}, {Verdict(99).String(), "unknown"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
	for _, v := range Verdicts() {
		if v.String() == "" {
			t.Errorf("verdict %d has no name", v)
		}
	}
}

// FuzzParsePacket: what is accepted keeps the promises of Packet and comes out
// again as it went in; nothing panics.
func FuzzParsePacket(f *testing.F) {
	f.Add(unhex(f, good))
	f.Add(unhex(f, "20c4031a 11223344 55667788 000186a0 000186a0 00000000 0102"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, verdict := ParsePacket(b)
		if verdict != Accepted {
			if p != (Packet{}) || verdict > ZeroDiscriminator {
				t.Errorf("refused with %s and %+v", verdict, p)
			}
			return
		}
		if p.DetectMultiplier == 0 || p.MyDiscriminator == 0 || p.State > Up || p.Diagnostic > 31 {
			t.Errorf("accepted %+v", p)
		}
		want := p
		want.Authenticated = false
		if again, verdict := ParsePacket(p.Append(nil)); verdict != Accepted || again != want {
			t.Errorf("%+v came back as %s %+v", p, verdict, again)
		}
	})
}
