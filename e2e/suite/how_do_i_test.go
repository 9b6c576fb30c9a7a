package suite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/recipe"
	"github.com/berth-lb/berth/e2e/watch"
)

const howDoI = root + "/docs/how-do-i.md"

// A kitchen is where one recipe of docs/how-do-i.md is tried: pool main, which L2Advertisement main
// announces, and Service web, which has an address of it and is asked for pages all the while.
type kitchen struct {
	all []recipe.Recipe
	// dir is where the commands run, with the manifests in it.
	dir string
	// address is that of Service web before the recipe, owner its node.
	address, owner string
	// names are put in place of those of the page, in pairs, and so are addresses of the lab.
	names []string
	asked *traffic
	// open are connections with the address that some recipes begin with.
	open *watch.Connections
}

// A trial of a recipe: what must be there before it, what is done after one of its blocks (counted from 1)
// that no command does, and what must be true after it.
type recipeTrial struct {
	before func(*testing.T, *kitchen)
	after  map[int]func(*testing.T, *kitchen)
	then   func(*testing.T, *kitchen)
	// lossless: the client loses no request, but for those that may break: each move of an address breaks the
	// connection that is open then, as the next node does not know it.
	lossless bool
	breaks   int
	// slow says why the recipe is tried in the full suite only.
	slow string
}

// Why recipes are slow.
const (
	restoring   = "half a minute for backup and restoring, which are kubectl and one install"
	renumbering = "twenty seconds for the recipes that renumber; TestShrunkPool has a Service move"
)

// recipeTrials has an entry for each recipe of the page.
var recipeTrials = map[string]recipeTrial{
	"Take a node out of service, and move addresses back": {
		slow:     "half a minute; TestFailover drains nodes",
		lossless: true,
		breaks:   2, // it moves away and back
		before:   func(_ *testing.T, k *kitchen) { k.names = append(k.names, "node1", k.owner) },
		after: map[int]func(*testing.T, *kitchen){1: func(t *testing.T, k *kitchen) {
			if now := ownedBy(t, k.address); now == k.owner {
				t.Errorf("%s is at %s still", k.address, now)
			}
		}},
		then: func(t *testing.T, k *kitchen) {
			k.keepsAddress(t)
			if got := get(t, "get node "+k.owner, ".spec.unschedulable"); got != "" {
				t.Errorf("%s is cordoned: %s", k.owner, got)
			}
		},
	},
	"Let open connections end before a node goes out of service": {
		slow:     "half a minute; TestLingering has the same with a thousand connections",
		lossless: true,
		breaks:   1, // when the former owner ceases to linger
		before: func(t *testing.T, k *kitchen) {
			k.names = append(k.names, "node1", k.owner, "10m", "10s")
			k.open = opened(t, lab.HostClient, netip.MustParseAddr(k.address), openEach)
		},
		after: map[int]func(*testing.T, *kitchen){
			1: func(t *testing.T, k *kitchen) {
				// The client is not asked who answers it: an answer changes where it sends.
				eventually(t, 5*time.Second, k.owner+" lingers", func() (bool, string) {
					got := get(t, "get speaker "+k.owner, ".status.layer2.announcements[*].lingersFor")
					return got != "" && got != k.owner, got
				})
				k.haveEnded(t, watch.Open)
			},
			2: func(t *testing.T, k *kitchen) {
				time.Sleep(time.Second) // until each has sent something
				k.haveEnded(t, watch.Reset)
			},
		},
		then: func(t *testing.T, k *kitchen) { k.keepsAddress(t) },
	},
	"Prefer a node for one Service": {
		lossless: true,
		breaks:   1,
		then: func(t *testing.T, k *kitchen) {
			k.keepsAddress(t)
			ownedBy(t, k.address, "node2")
		},
	},
	"Rename a pool": {
		lossless: true,
		then: func(t *testing.T, k *kitchen) {
			k.keepsAddress(t)
			k.fromPool(t, "office")
			k.noPool(t, "main")
		},
	},
	"Renumber all Services of a pool at once": {slow: renumbering, then: func(t *testing.T, k *kitchen) {
		k.hasNew(t, 230, 239)
		k.fromPool(t, "main")
	}},
	"Renumber one Service after the other": {slow: renumbering, then: func(t *testing.T, k *kitchen) {
		k.hasNew(t, 230, 230)
		k.fromPool(t, "next")
	}},
	"Retire a pool": {slow: renumbering, then: func(t *testing.T, k *kitchen) {
		k.hasNew(t, 230, 239)
		k.fromPool(t, "next")
		k.noPool(t, "main")
	}},
	"Set or change a BGP password": {
		slow:     "a quarter of a minute; TestBGP changes a password",
		lossless: true,
		before: func(t *testing.T, _ *kitchen) {
			router(t, peering.Router{Host: lab.HostRouter, HoldTime: 9 * time.Second})
			apply(t, peering.Peer{Name: "tor", Address: first().of(lab.RouterAddresses)}.Manifest())
			established(t, "tor")
			cleanup(t, "delete", "secret", "-n", system, "tor", "--ignore-not-found")
		},
		after: map[int]func(*testing.T, *kitchen){
			1: func(t *testing.T, _ *kitchen) { routerPassword(t, "change-me") },
			3: func(t *testing.T, _ *kitchen) { routerPassword(t, "changed") },
		},
		then: func(t *testing.T, _ *kitchen) {
			eventually(t, 30*time.Second, "sessions with the new password", func() (bool, string) {
				nodes := peering.NodeAddresses(first().of(lab.RouterAddresses), cluster.NodeNames()...)
				err := peering.Up(t.Context(), cluster, lab.HostRouter, nodes...)
				return err == nil, fmt.Sprint(err)
			})
			established(t, "tor")
		},
	},
	"Back up the configuration": {slow: restoring, lossless: true, then: func(t *testing.T, k *kitchen) {
		for _, file := range []string{"berth.yaml", "berth-secrets.yaml"} {
			must(t)(os.ReadFile(filepath.Join(k.dir, file)))
		}
	}},
	"Restore the configuration": {
		slow: restoring,
		before: func(t *testing.T, k *kitchen) {
			k.cook(t, k.find(t, "Back up the configuration"), nil)
			kubectl(t, "delete", "-k", filepath.Join(k.dir, "manifests/base"))
		},
		then: func(t *testing.T, k *kitchen) {
			k.keepsAddress(t)
			k.fromPool(t, "main")
		},
	},
	"Remove Berth": {then: func(t *testing.T, _ *kitchen) {
		got := kubectl(t, "get", "crds,clusterroles,clusterrolebindings,namespaces", "-o", "name")
		if strings.Contains(got, "berth") {
			t.Errorf("something of Berth is left:\n%s", got)
		}
		if got := address(t, "web"); got != "" {
			t.Errorf("the Service has %s", got)
		}
	}},
}

// TestHowDoI pastes the commands of docs/how-do-i.md into a shell, recipe by recipe, and looks whether they
// do what the page says.
func TestHowDoI(t *testing.T) {
	page, err := os.ReadFile(howDoI)
	if err != nil {
		t.Fatal(err)
	}
	recipes, err := recipe.Parse(string(page))
	if err != nil {
		t.Fatal(howDoI, err)
	}
	for _, r := range recipes {
		if _, known := recipeTrials[r.Title]; !known {
			t.Errorf("nothing tells what must be true after %q", r.Title)
		}
	}
	if len(recipes) != len(recipeTrials) {
		t.Fatalf("%d recipes, and %d that are tried", len(recipes), len(recipeTrials))
	}
	forwarded(t)
	useBareLab(t, "howdoi", lab.Options{Nodes: 3})
	// As the page advises: pods serve for a while after their end has begun.
	apply(t, strings.Replace(web("web", cluster.NodeNames()...), "      - name: web\n",
		"      - name: web\n        lifecycle: {preStop: {sleep: {seconds: 5}}}\n", 1))
	for i, r := range recipes {
		t.Run(r.Title, func(t *testing.T) {
			trial := recipeTrials[r.Title]
			if trial.slow != "" {
				fullOnly(t, trial.slow)
			}
			// Addresses of its own: those of a pool that the last recipe has deleted stay with it for half a
			// minute.
			k := prepare(t, recipes, first().span(120+10*i, 120+10*i+9))
			if trial.before != nil {
				trial.before(t, k)
			}
			k.cook(t, r, trial.after)
			trial.then(t, k)
			k.asked.stop()
			requests, failed, longest := k.asked.count()
			fmt.Printf("figure: %s: %d of %d requests to the address that the Service had failed, "+
				"longest without an answer %d ms\n",
				r.Title, failed, requests, longest.Milliseconds())
			if trial.lossless && failed > trial.breaks {
				t.Errorf("%d of %d requests failed", failed, requests)
			}
		})
	}
}

// prepare makes what the page takes for granted, from nothing, with these addresses in the pool. When the
// test ends nothing of it is left but Berth, where the recipe has left it.
func prepare(t *testing.T, all []recipe.Recipe, addresses string) *kitchen {
	t.Helper()
	manifests, err := filepath.Abs(root + "/manifests")
	if err != nil {
		t.Fatal(err)
	}
	k := &kitchen{all: all, dir: t.TempDir(), names: pageAddresses()}
	if err := os.Symlink(manifests, filepath.Join(k.dir, "manifests")); err != nil {
		t.Fatal(err)
	}
	if get(t, "get namespace "+system, ".metadata.name") == "" {
		install(t)
	}
	t.Cleanup(func() {
		if err := clearKitchen(context.WithoutCancel(t.Context())); err != nil {
			t.Error("clean up:", err)
		}
	})
	kubectl(t, "rollout", "status", "deployment/web", "--timeout=60s")
	kubectlInput(t, pool("main", addresses))
	kubectlInput(t, service("web", "web", ""))
	k.address = hasAddress(t, "web")
	served(t, k.address)
	k.owner = ownedBy(t, k.address)
	whole(t)
	k.asked = startTraffic(t, k.address, untilSure)
	return k
}

// pageAddresses tells what to put in place of the addresses of the page, which are of IPv4.
func pageAddresses() []string {
	pairs := []string{`10\.77\.0\.23`, strings.TrimSuffix(first().at(230), "0")} // for grep
	for _, n := range []int{230, 239} {
		pairs = append(pairs, ipv4.at(n), first().at(n))
	}
	return pairs
}

// clearKitchen takes away whatever a recipe may have left, but for Berth itself.
func clearKitchen(ctx context.Context) error {
	_, err := cluster.API().Kubectl(ctx, "delete", "service", "web", "--ignore-not-found")
	errs := []error{err}
	for _, node := range cluster.NodeNames() {
		_, err := cluster.API().Kubectl(ctx, "uncordon", node)
		errs = append(errs, err)
	}
	out, err := cluster.API().Kubectl(ctx, "api-resources", "--api-group=berth.io", "-o", "name")
	errs = append(errs, err)
	for _, kind := range strings.Fields(string(out)) {
		if kind == "speakers.berth.io" {
			continue
		}
		_, err := cluster.API().Kubectl(ctx, "delete", kind, "--all")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// kubectlInput applies a manifest that something else deletes.
func kubectlInput(t *testing.T, manifest string) {
	t.Helper()
	must(t)(cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "apply", "-f", "-"))
}

func (k *kitchen) find(t *testing.T, title string) recipe.Recipe {
	t.Helper()
	for _, r := range k.all {
		if r.Title == title {
			return r
		}
	}
	t.Fatalf("no recipe %q", title)
	return recipe.Recipe{}
}

// cook pastes the blocks of a recipe, one after another. A command that fails fails the test.
func (k *kitchen) cook(t *testing.T, r recipe.Recipe, after map[int]func(*testing.T, *kitchen)) {
	t.Helper()
	for i, b := range r.Blocks {
		text := strings.NewReplacer(k.names...).Replace(b.Text)
		if b.Language == recipe.YAML {
			kubectlInput(t, text)
		} else {
			// By a shell that ends at the first command that fails.
			shell, err := cluster.Host(lab.HostControlPlane).Command(t.Context(), "bash", "-eo",
				"pipefail", "-c", text)
			if err != nil {
				t.Fatal(err)
			}
			shell.Dir = k.dir
			if out, err := shell.CombinedOutput(); err != nil {
				t.Fatalf("%s:%d: %v\n%s\n%s", filepath.Base(howDoI), b.Line, err, text, out)
			}
		}
		if do := after[i+1]; do != nil {
			do(t, k)
		}
	}
}

// keepsAddress: the Service has the address that it had, and it is served.
func (k *kitchen) keepsAddress(t *testing.T) {
	t.Helper()
	if got := address(t, "web"); got != k.address {
		t.Errorf("the Service had %s and has %s", k.address, got)
	}
	served(t, k.address)
}

// haveEnded: this is what has become of all connections that the recipe began with.
func (k *kitchen) haveEnded(t *testing.T, want watch.Ending) {
	t.Helper()
	var fates watch.Fates
	now := time.Now()
	for _, one := range k.open.All() {
		fates = append(fates, one.Fate(now.Add(-2*quietLimit), now, quietLimit))
	}
	if n := len(fates.Of(want)); n < len(fates) {
		t.Errorf("%d of %d connections are %s, want all: %s", n, len(fates), want, fates)
	}
}

// hasNew: the Service has another address, whose number is from low to high, and it is served.
func (k *kitchen) hasNew(t *testing.T, low, high int) {
	t.Helper()
	got := ""
	what := "the Service has one of " + first().span(low, high)
	eventually(t, 10*time.Second, what, func() (bool, string) {
		got = address(t, "web")
		addr, err := netip.ParseAddr(got)
		return err == nil && !addr.Less(first().prefix(low).Addr()) &&
			!first().prefix(high).Addr().Less(addr), got
	})
	served(t, got)
}

func (k *kitchen) fromPool(t *testing.T, name string) {
	t.Helper()
	got := condition(t, "service web", "berth.io/AddressAssigned")
	if !strings.Contains(got, "from pool "+name) {
		t.Errorf("the Service says %q, want pool %s", got, name)
	}
}

func (k *kitchen) noPool(t *testing.T, name string) {
	t.Helper()
	if got := get(t, "get ipaddresspool "+name, ".metadata.name"); got != "" {
		t.Errorf("pool %s is there", got)
	}
}

// routerPassword has the router want this password of all nodes.
func routerPassword(t *testing.T, password string) {
	t.Helper()
	must(t)(cluster.Router(lab.HostRouter).Vtysh(t.Context(), "configure terminal",
		fmt.Sprintf("router bgp %d", peering.RouterASN), "neighbor "+first().group()+" password "+password))
}
