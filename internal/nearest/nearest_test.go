package nearest

import (
	"testing"

	"pgregory.net/rapid"
)

func TestOf(t *testing.T) {
	known := []string{"address-pool", "loadBalancerIPs", "allow-shared-ip"}
	for _, test := range []struct{ word, want string }{
		{"loadbalancerIPs", "loadBalancerIPs"},
		{"loadBalancerIP", "loadBalancerIPs"},
		{"load-balancer-ips", "loadBalancerIPs"},
		{"address-pol", "address-pool"},
		{"addrses-pool", "address-pool"},
		{"allow-shared-ips", "allow-shared-ip"},
		{"pool", ""},
		{"weather", ""},
		{"", ""},
	} {
		if got := Of(test.word, known); got != test.want {
			t.Errorf("nearest to %q is %q, want %q", test.word, got, test.want)
		}
	}
}

// TestDistance: it is a distance, and no more than the steps that were taken.
func TestDistance(t *testing.T) {
	word := rapid.StringMatching(`[ab-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("from %q to %q it is %d, back %d", a, b, d, distance(b, a))
		}
		at := rapid.IntRange(0, len(a)).Draw(t, "at")
		if d := distance(a, a[:at]+"x"+a[at:]); d != 1 {
			t.Fatalf("one letter more in %q is %d", a, d)
		}
	})
}
