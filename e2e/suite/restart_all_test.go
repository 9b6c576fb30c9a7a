package suite

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// claimed returns the owners of all addresses with the generations of their claims, as
// the Speaker objects tell; an address that two announce has both. One whose speaker
// is not ready counts for nothing.
func claimed(t *testing.T) map[string]string {
	t.Helper()
	var speakers struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Stage  string
				Layer2 struct {
					Announcements []struct {
						Address    string
						Generation int64
						StandInFor string
					}
				}
			}
		}
	}
	if err := cluster.API().Get(t.Context(), "/apis/berth.io/v1beta1/speakers", &speakers); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range speakers.Items {
		for _, a := range s.Status.Layer2.Announcements {
			if a.StandInFor == "" && s.Status.Stage == "Ready" {
				out[a.Address] += fmt.Sprintf("%s/%d ", s.Metadata.Name, a.Generation)
			}
		}
	}
	return out
}

// restarts is how often all speakers are restarted at once: as $BERTH_E2E_RESTARTS
// says, 3 times in the full suite, and else once.
func restarts(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("BERTH_E2E_RESTARTS"); text != "" {
		times, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return times
	}
	if full() {
		return 3
	}
	return 1
}

// TestRestartOfAll: all speakers are deleted at once, again and again. No address
// moves, and none is claimed anew.
func TestRestartOfAll(t *testing.T) {
	times := restarts(t)
	apply(t, web("flock", "node1", "node2", "node3"))
	kubectl(t, "rollout", "status", "deployment/flock", "--timeout=60s")
	names := twenty(t, "flock", first().span(30, 49))
	var all []string
	for _, n := range names {
		all = append(all, hasAddress(t, n))
	}
	whole := func() map[string]string {
		t.Helper()
		var now map[string]string
		eventually(t, 90*time.Second, "every address has an owner", func() (bool, string) {
			now = claimed(t)
			maps.DeleteFunc(now, func(addr, _ string) bool { return !slices.Contains(all, addr) })
			single := !slices.ContainsFunc(slices.Collect(maps.Values(now)), func(owners string) bool {
				return strings.Count(owners, " ") > 1
			})
			return len(now) == len(all) && single, fmt.Sprint(now)
		})
		return now
	}
	first := whole()
	moved, bad := 0, 0
	for i := range times {
		kubectl(t, "delete", "pods", "-n", system, "-l", "app.kubernetes.io/component=speaker", "--wait=true")
		kubectl(t, "rollout", "status", "-n", system, "daemonset/berth-speaker", "--timeout=90s")
		whole()
		time.Sleep(3 * time.Second) // what is wrong shows now
		now := whole()
		differ := 0
		for addr, owner := range first {
			if now[addr] != owner {
				differ++
				t.Errorf("restart %d: %s was owned by %s and is by %s", i+1, addr, owner, now[addr])
			}
		}
		if differ > 0 {
			bad++
		}
		moved += differ
		first = now
	}
	fmt.Printf(
		"figure: all speakers restarted at once %d times: %d addresses of %d moved, in %d of the restarts\n",
		times, moved, len(all), bad,
	)
}
