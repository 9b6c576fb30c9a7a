package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	for _, test := range []struct{ story, text, want string }{
		{"no route", "[]", "map[]"},
		{"one next hop", `[{"dst":"198.51.100.7","gateway":"10.77.0.12","dev":"eth0","protocol":"bgp"}]`,
			"map[198.51.100.7/32:[10.77.0.12]]"},
		{"several", `[{"dst":"198.51.100.0/24","protocol":"bgp",` +
			`"nexthops":[{"gateway":"10.77.0.13","weight":1},{"gateway":"10.77.0.11"}]}]`,
			"map[198.51.100.0/24:[10.77.0.11 10.77.0.13]]"},
		{"of the other family", `[{"dst":"198.51.100.7",` +
			`"nexthops":[{"via":{"family":"inet6","host":"fe80::1"}},{"gateway":"10.77.0.11"}]}]`,
			"map[198.51.100.7/32:[10.77.0.11 fe80::1]]"},
		{"IPv6 as several routes",
			`[{"dst":"2001:db8::7","gateway":"fd77::11"},{"dst":"2001:db8::7","gateway":"fd77::12"}]`,
			"map[2001:db8::7/128:[fd77::11 fd77::12]]"},
		{"routes to nowhere and everywhere",
			`[{"type":"blackhole","dst":"198.51.100.7"},{"dst":"default","gateway":"10.77.0.1"}]`, "map[]"},
	} {
		t.Run(test.story, func(t *testing.T) {
			got, err := parseRoutes([]byte(test.text))
			if err != nil || fmt.Sprint(got) != test.want {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
		})
	}
	if _, err := parseRoutes([]byte("Error")); err == nil {
		t.Error("what is not JSON is no error")
	}
}

func TestCheckDaemonLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "router.bgpd.log")
	old := "2026/01/01 BGP: No such command on config line 1: neighbour x\n"
	if err := os.WriteFile(file, []byte(old+"2026/01/01 BGP: started\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkDaemonLog(file, int64(len(old))); err != nil {
		t.Errorf("of an earlier start: %v", err)
	}
	if err := checkDaemonLog(file, 0); err == nil || !strings.Contains(err.Error(), "neighbour x") {
		t.Errorf("got %v, want the line", err)
	}
}
