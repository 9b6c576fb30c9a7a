package suite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/nextversion"
	"github.com/berth-lb/berth/e2e/product"
)

// TestTwoVersions has speakers of this version and of one that says more than this
// one knows side by side: while the one replaces the other, while one node has it and
// the others have not, and while it is taken back. No request is lost, no address
// moves, and each takes the other for present.
func TestTwoVersions(t *testing.T) {
	archive := filepath.Join(root, "dist", "speaker-next.tar")
	if _, err := os.Stat(archive); errors.Is(err, os.ErrNotExist) {
		t.Skip("no image of the next version: make images builds it")
	}
	if err := cluster.LoadImage(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	before := get(t, "get -n "+system+" "+product.Speaker, ".spec.template.spec.containers[0].image")
	t.Cleanup(func() {
		// What is there already costs nothing.
		for _, args := range [][]string{
			{"patch", "-n", system, product.Speaker, "--type=merge", "-p",
				`{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}`},
			{"set", "image", "-n", system, product.Speaker, "speaker=" + before},
		} {
			if _, err := cluster.API().Kubectl(context.WithoutCancel(t.Context()), args...); err != nil {
				t.Error("clean up:", err)
			}
		}
	})
	addresses := eight(t)
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	first := e.owners(t)

	step := func(name string, does func()) {
		t.Helper()
		from := e.served(t)
		does()
		whole(t)
		to := e.served(t)
		loss, at := e.longest(addresses, from, to)
		fmt.Printf("figure: %s: the client lost one of %d addresses for %d ms at most\n",
			name, len(addresses), loss.Milliseconds())
		if loss > fewLost {
			t.Errorf("%s: the client lost %s for %d ms", name, at, loss.Milliseconds())
		}
		if now := e.owners(t); !maps.Equal(now, first) {
			t.Errorf("%s: addresses moved:\n%v\n%v", name, first, now)
		}
		e.clear(t, from)
	}
	install := func(image string) {
		kubectl(t, "set", "image", "-n", system, product.Speaker, "speaker="+image)
	}
	replace := func(image string) func() {
		return func() {
			install(image)
			kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=120s")
		}
	}
	next := "ghcr.io/berth-lb/speaker:" + nextversion.Version

	strategy := func(kind string) {
		patch := fmt.Sprintf(`{"spec":{"updateStrategy":{"type":%q,"rollingUpdate":null}}}`, kind)
		kubectl(t, "patch", "-n", system, product.Speaker, "--type=merge", "-p", patch)
	}
	_, owned := most(first)
	victim := first[owned[0]]
	step("one node gets the next version", func() {
		strategy("OnDelete")
		install(next)
		pod := get(t, "get pod -n "+system+" -l "+product.SpeakerPods+" --field-selector spec.nodeName="+
			victim, ".items[0].metadata.name")
		kubectl(t, "delete", "pod", "-n", system, pod, "--wait=true")
		eventually(t, time.Minute, "a speaker of the next version works", func() (bool, string) {
			got := get(t, "get speaker "+victim, ".status.version")
			return got == nextversion.Version, got
		})
	})
	for _, node := range cluster.NodeNames() {
		for _, member := range cluster.NodeNames() {
			if member == node {
				continue
			}
			path := fmt.Sprintf(`.status.absentMembers[?(@.name==%q)].presence`, member)
			eventually(t, 10*time.Second, node+" takes "+member+" for present", func() (bool, string) {
				// Those that are present and heard are not listed.
				got := get(t, "get speaker "+node, path)
				return got == "" || got == "Present", got
			})
		}
	}
	// An owner is taken over across versions, and keeps what it took.
	t.Run("takeover", func(t *testing.T) { takeOver(t, e, victim) })
	first = e.owners(t)

	step("all others get it too", func() {
		strategy("RollingUpdate")
		kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=120s")
	})
	step("the version of before comes back", replace(before))
	if !full() {
		return
	}
	step("and the next once more", replace(next))
	step("and is taken back for good", replace(before))
}

// takeOver cuts a node off until its addresses are elsewhere.
func takeOver(t *testing.T, e *eyes, victim string) {
	t.Helper()
	before := e.owners(t)
	from := e.served(t)
	if err := cluster.Node(victim).Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // a moment ago all were served
	eventually(t, holdLimit, "others own what "+victim+" had", func() (bool, string) {
		now := e.owners(t)
		for addr, node := range before {
			if node == victim && now[addr] == victim {
				return false, fmt.Sprint(addr)
			}
		}
		return true, ""
	})
	to := e.served(t)
	if err := cluster.Node(victim).Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	var had []netip.Addr
	for addr, node := range before {
		if node == victim {
			had = append(had, addr)
		}
	}
	loss, at := e.longest(had, from, to)
	fmt.Printf("figure: takeover from a node with the next version: "+
		"the client lost one of %d addresses for %d ms at most\n", len(had), loss.Milliseconds())
	if loss > lossLimit {
		t.Errorf("the client lost %s for %d ms", at, loss.Milliseconds())
	}
	whole(t)
}
