package layer2

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestControlAddresses: whatever the subnet, they are in it, different, not at its
// ends, where routers are, and nobody's; and the same each time.
func TestControlAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bases := []string{"10.0.0.0", "192.0.2.0", "2001:db8::"}
		base := netip.MustParseAddr(rapid.SampledFrom(bases).Draw(t, "base"))
		subnet := netip.PrefixFrom(base, rapid.IntRange(8, base.BitLen()).Draw(t, "bits")).Masked()
		odd := rapid.Bool().Draw(t, "odd ones are taken")
		taken := func(a netip.Addr) bool { return odd && a.AsSlice()[len(a.AsSlice())-1]%2 == 1 }
		got := controlAddresses(subnet, taken)
		if len(got) > controlCount || len(got) < controlCount && subnet.Bits() < base.BitLen()-6 {
			t.Fatalf("%d addresses", len(got))
		}
		for i, a := range got {
			low, high := subnet.Addr(), a
			for range 4 {
				low, high = low.Next(), high.Next()
				if a.Less(low) || !subnet.Contains(high) {
					t.Fatalf("%s is at the end of %s", a, subnet)
				}
			}
			if taken(a) || i > 0 && a == got[0] {
				t.Fatalf("%v of %s", got, subnet)
			}
		}
		for i, a := range controlAddresses(subnet, taken) {
			if a != got[i] {
				t.Fatalf("%s, and %s before", a, got[i])
			}
		}
	})
}
