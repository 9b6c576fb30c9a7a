package watch

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Frames written down by the layout of the RFCs.
const (
	arpReply = `02000a4d0064 02000a4d000b 0806  0001 0800 06 04 0002
		02000a4d000b 0a4d00a0  02000a4d0064 0a4d0064`
	// Says where the address is for another, as a stand-in does.
	arpFor = `02000a4d0064 02000a4d000c 0806  0001 0800 06 04 0002
		02000a4d000b 0a4d00a0  02000a4d0064 0a4d0064`
	arpProbe = `ffffffffffff 02000a4d000b 0806  0001 0800 06 04 0001
		02000a4d000b 00000000  000000000000 0a4d00a0`
	na = `02000a4d0064 02000a4d000c 86dd  60000000 0020 3a ff
		fe800000000000000000000000000001 fd770000000000000000000000000100
		88 00 0000 60000000 fd770000000000000000000000000a00 02 01 02000a4d000b`
	naBare = `02000a4d0064 02000a4d000c 86dd  60000000 0018 3a ff
		fe800000000000000000000000000001 fd770000000000000000000000000100
		88 00 0000 60000000 fd770000000000000000000000000a00`
)

func TestParseClaim(t *testing.T) {
	for _, test := range []struct{ story, frame, want string }{
		{"a reply", arpReply, "10.77.0.160 02:00:0a:4d:00:0b"},
		{"a reply for another counts where it points to", arpFor, "10.77.0.160 02:00:0a:4d:00:0b"},
		{"a gratuitous request",
			strings.Replace(arpReply, "04 0002", "04 0001", 1), "10.77.0.160 02:00:0a:4d:00:0b"},
		{"a probe claims nothing", arpProbe, ""},
		{"a Neighbor Advertisement with its option", na, "fd77::a00 02:00:0a:4d:00:0b"},
		{"and without", naBare, "fd77::a00 02:00:0a:4d:00:0c"},
		{"a solicitation claims nothing", strings.Replace(na, "\t88 00", "\t87 00", 1), ""},
		{"an option of no length",
			strings.Replace(na, "02 01 0200", "02 00 0200", 1), "fd77::a00 02:00:0a:4d:00:0c"},
		{"other hardware", strings.Replace(arpReply, "0001 0800", "0006 0800", 1), ""},
		{"UDP", strings.Replace(na, "0020 3a", "0020 11", 1), ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := ""
			if addr, mac, ok := parseClaim(unhex(t, test.frame)); ok {
				got = addr.String() + " " + mac.String()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzParseClaim(f *testing.F) {
	for _, text := range []string{arpReply, arpProbe, na, naBare} {
		frame, _ := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if addr, _, ok := parseClaim(frame); ok && !addr.IsValid() {
			t.Error("a claim of nothing")
		}
	})
}

// TestQuestions has tcpdump read what is asked.
func TestQuestions(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("needs tcpdump")
	}
	mac := MAC{2, 0, 10, 77, 0, 1}
	for want, frame := range map[string][]byte{
		"Request who-has 10.77.0.160 tell 10.77.0.1, length 28": arpRequest(mac,
			netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.160")),
		"fd77::1 > ff02::1:ff00:a00: [icmp6 sum ok] ICMP6, neighbor solicitation, length 32, " +
			"who has fd77::a00": solicitation(mac,
			netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::a00")),
	} {
		// The header of a capture file, see pcap-savefile(5), and one packet.
		file := unhex(t, "a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000001 00000000 00000000")
		file = append(file, 0, 0, 0, byte(len(frame)), 0, 0, 0, byte(len(frame)))
		cmd := exec.CommandContext(t.Context(), "tcpdump", "-n", "-vv", "-r", "-")
		cmd.Stdin = bytes.NewReader(append(file, frame...))
		out, err := cmd.Output()
		text := strings.Join(strings.Fields(string(out)), " ")
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("tcpdump: %v\n%s\nwant %s", err, text, want)
		}
	}
}
