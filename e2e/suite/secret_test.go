package suite

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/product"
)

// memberSecret writes the Secret of the speakers' keys, as a file of GitOps has it, with these entries.
func memberSecret(entries ...string) string {
	manifest := "apiVersion: v1\nkind: Secret\nmetadata:\n  name: berth-memberlist\n  namespace: " + system +
		"\ntype: Opaque\n"
	if len(entries) > 0 {
		manifest += "data:\n  " + strings.Join(entries, "\n  ") + "\n"
	}
	return manifest
}

// replaceSecret replaces the Secret, as `kubectl replace` and Argo CD's Replace=true do.
func replaceSecret(t *testing.T, manifest string) {
	t.Helper()
	must(t)(cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "replace", "-f", "-"))
}

func memberKey(t *testing.T) string {
	t.Helper()
	return get(t, "get secret -n "+system+" berth-memberlist", ".data.key")
}

// TestMemberSecret: the Secret of the speakers' keys is emptied, and then has an entry that is no key. It is
// filled again at once, speakers that restart come back, and no address moves.
func TestMemberSecret(t *testing.T) {
	addresses := aDualStack(t, "secret", spans(206, 206))
	whole(t)
	leaderWorks(t, "secret-probe")
	e := watched(t, addresses)
	from := e.served(t)
	before := e.owners(t)
	t.Run("emptied", func(t *testing.T) {
		t.Cleanup(func() { refilled(t) })
		replaceSecret(t, memberSecret())
		filled := eventually(t, 15*time.Second, "the Secret is filled", func() (bool, string) {
			key, err := base64.StdEncoding.DecodeString(memberKey(t))
			return err == nil && len(key) == 32, fmt.Sprintf("%d bytes, %v", len(key), err)
		})
		// What speakers hear of it they hear within half a minute, each at a time of its own.
		time.Sleep(5 * time.Second)
		fmt.Printf("figure: member Secret emptied: filled again after %d ms\n", filled.Milliseconds())
		restartEach(t, e, before)
		checkSecretLoss(t, e, from)
	})
	t.Run("no key", func(t *testing.T) {
		fullOnly(t, "a quarter of a minute; unit tests show what speakers do with such a Secret")
		key := memberKey(t)
		if key == "" {
			t.Fatal("there is no key")
		}
		note := base64.StdEncoding.EncodeToString([]byte("do not touch"))
		replaceSecret(t, memberSecret("key: "+key, "note: "+note))
		t.Cleanup(func() {
			text := strings.NewReader(memberSecret("key: " + key))
			_, err := cluster.API().KubectlInput(context.WithoutCancel(t.Context()), text,
				"replace", "-f", "-")
			if err != nil {
				t.Error("clean up:", err)
			}
		})
		from := e.served(t)
		restartEach(t, e, before)
		checkSecretLoss(t, e, from)
	})
}

// refilled makes sure that there is a key: what comes after needs speakers that hear each other. A controller
// that starts fills the Secret whatever else it does.
func refilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	key := func() string {
		out, _ := cluster.API().Kubectl(ctx, "get", "secret", "-n", system, "berth-memberlist", "-o",
			"jsonpath={.data.key}")
		return string(out)
	}
	if key() != "" {
		return
	}
	_, err := cluster.API().Kubectl(ctx, "rollout", "restart", "-n", system, product.Controller)
	if err != nil {
		t.Error("clean up:", err)
	}
	for key() == "" {
		if ctx.Err() != nil {
			t.Error("clean up: the Secret is not filled")
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// restartEach restarts the speakers one by one. Each comes back, sees the others, and has the addresses that
// its node had.
func restartEach(t *testing.T, e *eyes, before any) {
	t.Helper()
	for _, node := range cluster.NodeNames() {
		took := restartSpeaker(t, node)
		fmt.Printf("figure: the speaker of %s restarted, ready after %d ms\n", node, took.Milliseconds())
		whole(t)
		if now := e.owners(t); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("owners are %v after the restart at %s, and were %v", now, node, before)
		}
	}
}

func checkSecretLoss(t *testing.T, e *eyes, from time.Time) {
	t.Helper()
	to := e.served(t)
	loss, at := e.longest(e.addresses, from, to)
	fmt.Printf("figure: meanwhile the client lost an address for %d ms at most\n", loss.Milliseconds())
	if loss > fewLost {
		t.Errorf("the client lost %s for %d ms", at, loss.Milliseconds())
	}
	e.clear(t, from)
}
