package bgp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// TestPasswordsStayHidden: also in the middle of other values, and in
// unexported fields, of which fmt does not ask the methods.
func TestPasswordsStayHidden(t *testing.T) {
	const secret = "correct horse"
	p := Peer{Name: "tor", Password: NewPassword(secret)}
	outer := struct {
		Peers   []Peer
		hidden  Peer
		pointer *Peer
	}{[]Peer{p}, p, &p}
	var seen bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&seen, verb+"\n", p)
		fmt.Fprintf(&seen, verb+"\n", p.Password)
		fmt.Fprintf(&seen, verb+"\n", outer)
		fmt.Fprintf(&seen, verb+"\n", Change{Peer: p})
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&seen, nil), slog.NewTextHandler(&seen, nil)} {
		slog.New(handler).Info("x", "peer", p, "password", p.Password, "outer", outer)
	}
	if err := json.NewEncoder(&seen).Encode(outer); err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{secret, fmt.Sprintf("%x", secret), "[99 111"} {
		if strings.Contains(seen.String(), leak) {
			t.Errorf("the password shows:\n%s", seen.String())
		}
	}
	if p.Password.Reveal() != secret || !p.Password.Set() {
		t.Error("the password is lost")
	}
	if none := NewPassword(""); none.Set() || none.Reveal() != "" || none != (Password{}) {
		t.Error("no password is one")
	}
}

func TestPasswordsCompare(t *testing.T) {
	a, b := NewPassword("a"), NewPassword("a")
	if a != b || a == NewPassword("b") || a == (Password{}) {
		t.Error("passwords compare by what they are")
	}
}

func TestRouterIDFrom(t *testing.T) {
	a, b := RouterIDFrom("node-1"), RouterIDFrom("node-2")
	if a == b || a != RouterIDFrom("node-1") || !a.Is4() || a == netip.AddrFrom4([4]byte{}) {
		t.Errorf("node-1 is %s, node-2 is %s", a, b)
	}
}

func TestFamilies(t *testing.T) {
	if FamilyOf(netip.MustParseAddr("192.0.2.1")) != IPv4 ||
		FamilyOf(netip.MustParseAddr("2001:db8::1")) != IPv6 {
		t.Error("families of addresses")
	}
	if !DualStack.Has(IPv4) || IPv4.Has(DualStack) || len(DualStack.List()) != 2 || IPv6.List()[0] != IPv6 {
		t.Error("sets of families")
	}
	if got := fmt.Sprint(Families(0), IPv4, IPv6, DualStack); got != "none IPv4 IPv6 IPv4 and IPv6" {
		t.Error(got)
	}
}
