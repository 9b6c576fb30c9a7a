package incumbent

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// TestFrames: requests for its addresses are answered, and nothing else is.
func TestFrames(t *testing.T) {
	mac := MAC{2, 0, 0, 0, 0, 1}
	v4, v6 := netip.MustParseAddr("10.77.0.5"), netip.MustParseAddr("fd77::5")
	const (
		question4 = "ffffffffffff 020000000009 0806 0001 0800 06 04 0001 " +
			"020000000009 0a4d0064 000000000000 0a4d0005"
		reply4 = "020000000009 020000000001 0806 0001 0800 06 04 0002 " +
			"020000000001 0a4d0005 020000000009 0a4d0064"
		question6 = "3333ff000005 020000000009 86dd 60000000 0020 3a ff " +
			"fd770000000000000000000000000100 ff0200000000000000000001ff000005 " +
			"87 00 0000 00000000 fd770000000000000000000000000005 0101 020000000009"
	)
	bytes := func(text string) []byte {
		out, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ours := []netip.Addr{v4, v6}

	if got, want := replyTo(bytes(question4), mac, ours), bytes(reply4); string(got) != string(want) {
		t.Errorf("ARP: got\n%x, want\n%x", got, want)
	}
	got := replyTo(bytes(question6), mac, ours)
	if len(got) != icmpAt+32 || MAC(got[:6]) != (MAC{2, 5: 9}) ||
		got[icmpAt] != 136 || got[icmpAt+4] != 0x60 {
		t.Fatalf("NDP: got %x", got)
	}
	if sum := sumOf(got); sum != 0xffff {
		t.Errorf("NDP: the checksum is wrong, the sum is %x", sum)
	}
	probe := strings.Replace(question6, "fd770000000000000000000000000100", strings.Repeat("00", 16), 1)
	for _, ignored := range [][]byte{
		bytes(probe), bytes(reply4), got, bytes(question4)[:30], bytes(question6)[:60], nil,
	} {
		if reply := replyTo(ignored, mac, ours); reply != nil {
			t.Errorf("%x is answered by %x", ignored, reply)
		}
	}
	if reply := replyTo(bytes(question4), mac, ours[1:]); reply != nil {
		t.Errorf("another's address is answered by %x", reply)
	}
	for _, addr := range ours {
		claim := claimOf(addr, mac)
		if claim[0]&1 == 0 || MAC(claim[6:12]) != mac {
			t.Errorf("%s is claimed by %x, which does not go to all", addr, claim)
		}
	}
}

// sumOf adds up an ICMPv6 message with its checksum and its pseudo-header, which makes 0xffff (RFC 1071).
func sumOf(frame []byte) uint32 {
	message := frame[icmpAt:]
	sum := uint32(len(message)) + protocolICMPv6
	for _, part := range [][]byte{frame[22:icmpAt], message} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
