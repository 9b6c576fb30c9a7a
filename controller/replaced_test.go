package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// deletePool deletes a pool at the API server, and has that read.
func (w *world) deletePool(name string) {
	w.t.Helper()
	if err := w.api.Delete(w.t.Context(), w.pool(name)); err != nil {
		w.t.Fatal(err)
	}
	w.configure()
}

// createPool creates a pool as another object than one of its name before, and
// has that read.
func (w *world) createPool(name string, ranges ...v1beta1.AddressRange) {
	w.t.Helper()
	p := pool(name, 0, ranges...)
	p.UID, p.CreationTimestamp = types.UID("new-"+name), metav1.NewTime(time.Now())
	w.create(p)
	w.configure()
}

// message is what the condition of a Service says.
func (w *world) message(name string) string {
	w.t.Helper()
	c := meta.FindStatusCondition(w.get(name).Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil {
		return ""
	}
	return c.Message
}

// passes lets time pass, and has the configuration read when that is due by
// itself.
func (w *world) passes(d time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(d); ; {
		result, err := w.config.Reconcile(w.t.Context(), kube.WholeConfig)
		if err != nil {
			w.t.Fatal(err)
		}
		left := time.Until(end)
		if result.RequeueAfter == 0 || result.RequeueAfter > left {
			time.Sleep(left)
			return
		}
		time.Sleep(result.RequeueAfter)
	}
}

func TestServicesOfADeletedPoolAreToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
		w.look("web")
		w.forget()
		w.deletePool("lan")
		end := time.Now().Add(config.ReplaceGrace)
		w.look("web")
		w.passes(config.ReplaceQuiet - 1)
		w.look("web")
		w.didNothing() // it may be created again

		w.passes(1)
		w.configure()
		w.look("web")
		w.did([]string{"web"}, []string{"web Warning PoolDeleted"})
		w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
		want := fmt.Sprintf("192.0.2.1 from pool lan. Pool lan was deleted: "+
			"the Service loses 192.0.2.1 at %s, unless a pool contains it by then.",
			end.UTC().Format(time.RFC3339))
		if got := w.message("web"); got != want {
			t.Errorf("the condition says %q, want %q", got, want)
		}
		w.look("web")
		w.didNothing()

		w.passes(time.Until(end))
		w.configure()
		w.look("web")
		w.did([]string{"web"}, []string{"web Warning PoolGone"})
		w.has("web", v1beta1.ReasonPoolGone)
	})
}

func TestReplacedPoolWritesNoService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
		w.look("web")
		w.forget()
		w.deletePool("lan")
		w.look("web")
		w.passes(3 * time.Second)
		w.look("web")
		w.createPool("lan", "192.0.2.1-192.0.2.9")
		for range 3 {
			w.look("web")
			w.passes(config.ReplaceGrace)
		}
		w.didNothing()
		w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
	})
}

// TestRenamedPoolTakesOverAtOnce: it is in force as written, its Services are its
// own, and nobody is alarmed.
func TestRenamedPoolTakesOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
		w.look("web")
		w.forget()
		w.deletePool("lan")
		w.look("web")
		w.createPool("net", "192.0.2.1-192.0.2.9")
		w.look("web")
		w.did([]string{"web"}, nil)
		if got := w.message("web"); got != "192.0.2.1 from pool net." {
			t.Errorf("the condition says %q", got)
		}
		w.judge(config.KindIPAddressPool, "net")
		w.ready("net", v1beta1.ReasonAccepted)
		if got := w.pool("net").Status; got.AssignedIPv4 != 1 || got.AvailableIPv4 != 8 {
			t.Errorf("the new pool counts %+v", got)
		}
		w.forget()
		w.passes(2 * config.ReplaceGrace)
		w.configure()
		w.look("web")
		w.didNothing()
	})
}

// TestPoolsRestoredOneByOne: a cluster is set up again object by object, in any
// order and slowly, and a controller is there from the beginning. In the end every
// Service has what it had; until then its condition says what is missing.
func TestPoolsRestoredOneByOne(t *testing.T) {
	pools := map[string][]v1beta1.AddressRange{
		"gold": {"192.0.2.64/28"}, "lan": {"192.0.2.0/24"}, "six": {"2001:db8::/120"},
	}
	gold := func(s *corev1.Service) {
		s.Annotations = map[string]string{v1beta1.AnnotationAddressPool: "gold"}
	}
	names := []string{"plain", "asks", "both"}
	for _, order := range [][]string{
		{"gold", "lan", "six"},
		{"lan", "gold", "six"},
		{"six", "lan", "gold"},
		{"lan", "six", "gold"},
	} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, pool("gold", 0, pools["gold"]...), pool("lan", 1, pools["lan"]...),
					pool("six", 2, pools["six"]...),
					service("plain", 0), service("asks", 1, gold), service("both", 2, dualStack))
				w.look(names...)
				had := map[string][]string{}
				for _, name := range names {
					for _, i := range w.get(name).Status.LoadBalancer.Ingress {
						had[name] = append(had[name], i.IP)
					}
				}
				for name := range pools {
					if err := w.api.Delete(t.Context(), w.pool(name)); err != nil {
						t.Fatal(err)
					}
				}
				w.restart()
				for i, name := range append([]string{""}, order...) {
					if name != "" {
						w.createPool(name, pools[name]...)
					}
					w.passes(time.Hour)
					w.configure()
					w.look(names...)
					there := order[:i]
					for _, s := range names {
						wants := map[string][]string{
							"plain": {"gold"},
							"asks":  {"gold"},
							"both":  {"gold", "six"},
						}[s]
						want := v1beta1.ReasonAssigned
						for _, p := range wants {
							contained := slices.Contains(there, p) ||
								p == "gold" && slices.Contains(there, "lan")
							switch {
							case s == "asks" && !slices.Contains(there, "gold"):
								want = v1beta1.ReasonPoolNotFoundForService
							case s == "asks" && slices.Index(there, "gold") > slices.Index(there, "lan") &&
								slices.Contains(there, "lan"):
								want = v1beta1.ReasonNoEligiblePool // the older pool has all that gold lists
							case !contained:
								want = v1beta1.ReasonPoolMissing
							}
						}
						w.has(s, want, had[s]...)
					}
				}
			})
		})
	}
}

// TestForgottenPoolIsNotGreen: another load balancer is replaced, and the pool of
// one family is not created. What Berth did not give is left alone, and told.
func TestForgottenPoolIsNotGreen(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0, dualStack, having("192.0.2.7", "2001:db8::7")))
	for range 3 {
		w.look("web")
		w.has("web", v1beta1.ReasonPoolMissing, "192.0.2.7", "2001:db8::7")
	}
	got := w.message("web")
	if !strings.Contains(got, "2001:db8::7 of no pool at present. Nobody announces 2001:db8::7,") {
		t.Errorf("the condition says %q", got)
	}
	w.did([]string{"web"}, []string{"web Warning PoolMissing"})
	w.createPool("six", "2001:db8::/120")
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.7", "2001:db8::7")
}
