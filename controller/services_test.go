package main

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
)

func TestServiceGetsAnAddressWithOneWrite(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
	w.did([]string{"web"}, []string{"web Normal Assigned"})
	if !slices.Equal(w.pools, []string{"lan"}) {
		t.Errorf("the pools to count again are %q", w.pools)
	}
	w.look("web", "web")
	w.didNothing()
	w.assigned(1)
}

func TestNothingIsWrittenOnTopOfAStaleCache(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
	w.cache.freeze(w.get("web"))
	w.look("web")
	w.did([]string{"web"}, []string{"web Normal Assigned"})
	// The cache still shows the Service without an address.
	w.look("web", "web")
	w.didNothing()
	w.cache.thaw()
	w.look("web")
	w.didNothing()
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
}

func TestServiceThatMustWait(t *testing.T) {
	for _, test := range []struct {
		story   string
		pools   []*v1beta1.IPAddressPool
		service *corev1.Service
		reason  v1beta1.Reason
	}{
		{"no pool at all", nil, service("web", 0), v1beta1.ReasonNoPools},
		{"no pool of its family",
			[]*v1beta1.IPAddressPool{lan("2001:db8::/120")}, service("web", 0), v1beta1.ReasonNoEligiblePool},
		{"no cluster IP yet", []*v1beta1.IPAddressPool{lan("192.0.2.0/24")},
			service("web", 0, func(s *corev1.Service) {
				s.Spec.ClusterIP = ""
				s.Spec.ClusterIPs = nil
			}), v1beta1.ReasonNoClusterIP},
		{"an annotation that cannot be read", []*v1beta1.IPAddressPool{lan("192.0.2.0/24")},
			service("web", 0, func(s *corev1.Service) {
				s.Annotations = map[string]string{v1beta1.AnnotationLoadBalancerIPs: "192.0.2"}
			}),
			v1beta1.ReasonInvalidRequest},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, test.service)
			for _, p := range test.pools {
				w.create(p)
			}
			w.configure()
			w.look("web", "web")
			w.has("web", test.reason)
			w.did([]string{"web"}, []string{"web Warning " + string(test.reason)})
			if waiting := w.state.Waiting(); !slices.Contains(waiting, key("web")) {
				t.Errorf("waiting are %v", waiting)
			}
		})
	}
}

func TestRestartWritesNothing(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("a", 0), service("b", 1),
		service("full", 2, func(s *corev1.Service) {
			s.Annotations = map[string]string{v1beta1.AnnotationAddressPool: "none"}
		}))
	w.look("a", "b", "full")
	w.has("a", v1beta1.ReasonAssigned, "192.0.2.1")
	w.has("b", v1beta1.ReasonAssigned, "192.0.2.2")
	w.has("full", v1beta1.ReasonPoolNotFoundForService)

	w.restart()
	w.assigned(2)
	w.look("full", "b", "a")
	w.didNothing()
	w.has("a", v1beta1.ReasonAssigned, "192.0.2.1")
	w.has("b", v1beta1.ReasonAssigned, "192.0.2.2")
}

func TestNothingIsAssignedBeforeAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(
			t,
			lan("192.0.2.1-192.0.2.9"),
			service("new", 9),
			service("old", 0, having("192.0.2.1")),
		)
		w.start()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.look("new")
		}()
		synctest.Wait()
		w.didNothing()
		if err := w.services.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-done
		w.has("new", v1beta1.ReasonAssigned, "192.0.2.2")
	})
}

func TestAddressStaysWhenThePoolGoes(t *testing.T) {
	// Adoption records what no pool contains too: while a pool cannot be
	// read, its addresses must not be taken away.
	broken := lan("192.0.2.1-192.0.2.9", "192.0.2.300")
	w := newWorld(t, broken, service("web", 0, having("192.0.2.5")))
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.5")
}

func TestDeletionFreesAndWakesTheOldestWaiter(t *testing.T) {
	// In the order of names and of the API server, younger comes first.
	w := newWorld(t, lan("192.0.2.1/32"), service("holder", 0), service("a-younger", 9),
		service("b-older", 5))
	w.look("holder", "a-younger", "b-older")
	w.has("holder", v1beta1.ReasonAssigned, "192.0.2.1")
	w.has("a-younger", v1beta1.ReasonPoolsExhausted)
	w.has("b-older", v1beta1.ReasonPoolsExhausted)
	w.forget()

	w.delete("holder")
	w.look("holder")
	w.assigned(0)
	// One address came free, so one is woken.
	if want := []string{"b-older"}; !slices.Equal(w.woken, want) {
		t.Fatalf("woken are %q, want %q", w.woken, want)
	}
	w.look(w.woken...)
	w.has("b-older", v1beta1.ReasonAssigned, "192.0.2.1")
	w.has("a-younger", v1beta1.ReasonPoolsExhausted)
	w.did([]string{"b-older"}, []string{"b-older Normal Assigned"})
	w.look("a-younger")
	w.didNothing()

	w.look("holder") // nothing is left to give back
	w.assigned(1)
}

func TestConflictIsNoError(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0), service("other", 1))
	w.cache.freeze(w.get("web"))
	w.change("web", func(s *corev1.Service) { s.Labels = map[string]string{"changed": "meanwhile"} })
	w.look("web")
	w.didNothing()
	w.has("web", "")

	// What was decided for it is kept for it.
	w.look("other")
	w.has("other", v1beta1.ReasonAssigned, "192.0.2.2")
	w.cache.thaw()
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
	w.assigned(2)
	if w.get("web").Labels["changed"] != "meanwhile" {
		t.Error("the change by somebody else is lost")
	}
}

func TestServiceDeletedBetweenCacheAndWrite(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0))
	w.cache.freeze(w.get("web"))
	w.delete("web")
	w.look("web")
	w.didNothing()
	w.cache.thaw()
	w.look("web")
	w.assigned(0)
}

func TestFailedWriteIsTriedAgainWithTheSameAddress(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"), service("web", 0), service("other", 1))
	w.refuse = errors.New("the API server is away")
	if _, err := w.services.Reconcile(t.Context(), request("web")); !errors.Is(err, w.refuse) {
		t.Fatalf("got %v, want the API server's error, so that the Service is tried again", err)
	}
	w.didNothing()
	w.refuse = nil
	w.look("other", "web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
	w.has("other", v1beta1.ReasonAssigned, "192.0.2.2")
}

func TestServiceThatIsNoLongerOurs(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*corev1.Service)
	}{
		{"it becomes a ClusterIP Service",
			func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }},
		{"it becomes a NodePort Service",
			func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }},
		// Kubernetes lets the class change together with the type only, so
		// both may have changed when the controller looks.
		{"another controller serves it", ofClass("example.com/other")},
	} {
		for _, start := range []string{"assigned", "waiting"} {
			t.Run(test.story+", "+start, func(t *testing.T) {
				w := newWorld(t, service("web", 0), service("next", 1))
				if start == "assigned" {
					w.create(lan("192.0.2.1/32"))
					w.configure()
				}
				w.look("web", "next")
				w.forget()
				w.change("web", test.change)
				w.look("web")
				w.has("web", "")
				w.did([]string{"web"}, nil)
				w.assigned(0)
				w.look("web")
				w.didNothing()
				if start == "assigned" {
					w.look("next")
					w.has("next", v1beta1.ReasonAssigned, "192.0.2.1")
				}
			})
		}
	}
}

func TestConditionsOfOthersAreLeftAlone(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1/32"), service("web", 0))
	s := w.get("web")
	meta.SetStatusCondition(&s.Status.Conditions, condition("example.com/Theirs"))
	if err := w.api.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.look("web")
	w.change("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.look("web")
	if c := w.get("web").Status.Conditions; len(c) != 1 || c[0].Type != "example.com/Theirs" {
		t.Errorf("the conditions are %v", c)
	}
}

func TestOtherClassesAreNotServed(t *testing.T) {
	w := newWorld(
		t,
		lan("192.0.2.1-192.0.2.9"),
		service("theirs", 0, ofClass("example.com/other"), having("198.51.100.7")),
	)
	w.look("theirs")
	w.didNothing()
	w.has("theirs", "", "198.51.100.7")
}

func TestOneAddressInTwoStatuses(t *testing.T) {
	// b is the older one; the API server lists a first.
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"),
		service("a", 9, having("192.0.2.5")), service("b", 1, having("192.0.2.5")))
	w.look("a", "b")
	w.has("b", v1beta1.ReasonAssigned, "192.0.2.5")
	w.has("a", v1beta1.ReasonAssigned, "192.0.2.1")
	w.look("a", "b")
	w.did([]string{"a", "b"}, []string{"a Normal Assigned", "b Normal Assigned"})
}

func TestOneAddressInTwoStatusesOfTheSameAge(t *testing.T) {
	// Objects applied together are of the same second. The name decides, not
	// the order in which they come.
	w := newWorld(t, lan("192.0.2.1-192.0.2.9"),
		service("b", 0, having("192.0.2.5")), service("a", 0, having("192.0.2.5")))
	w.look("b", "a")
	w.has("a", v1beta1.ReasonAssigned, "192.0.2.5")
	w.has("b", v1beta1.ReasonAssigned, "192.0.2.1")
}

func TestTheOtherFamilyIsAdoptedAllTheSame(t *testing.T) {
	// Of younger, only the IPv4 address is in dispute. Its IPv6 address must
	// not go to newcomer, which asks first.
	w := newWorld(t, lan("192.0.2.1-192.0.2.9", "2001:db8::1-2001:db8::9"),
		service("older", 0, having("192.0.2.5")),
		service("younger", 1, dualStack, having("192.0.2.5", "2001:db8::1")),
		service("newcomer", 2, func(s *corev1.Service) {
			s.Spec.ClusterIP = "fd96::2"
			s.Spec.ClusterIPs = []string{"fd96::2"}
		}),
	)
	w.look("newcomer", "younger", "older")
	w.has("older", v1beta1.ReasonAssigned, "192.0.2.5")
	w.has("younger", v1beta1.ReasonAssigned, "192.0.2.1", "2001:db8::1")
	w.has("newcomer", v1beta1.ReasonAssigned, "2001:db8::2")
}

func TestNewPoolWakesTheOldestFirst(t *testing.T) {
	w := newWorld(t, service("a-younger", 9), service("b-older", 5))
	w.look("a-younger", "b-older")
	w.forget()
	w.create(lan("192.0.2.1/32"))
	w.configure()
	if want := []string{"b-older", "a-younger"}; len(w.woken) < 2 || !slices.Equal(w.woken[:2], want) {
		t.Errorf("woken are %q, want first %q", w.woken, want)
	}
}

func TestWhatAnotherLoadBalancerGaveIsInUse(t *testing.T) {
	other := "example.com/other"
	foreign := service("theirs", 0, having("192.0.2.0"), func(s *corev1.Service) {
		s.Spec.LoadBalancerClass = &other
	})
	w := newWorld(t, lan("192.0.2.0/31"), foreign, service("ours", 1))
	w.look("theirs", "ours")
	w.has("ours", v1beta1.ReasonAssigned, "192.0.2.1")
	w.did([]string{"ours"}, []string{"ours Normal Assigned"})
	w.assigned(2)

	// One that is created later is seen too, and freed when it goes.
	w.delete("theirs")
	w.look("theirs")
	w.assigned(1)
	w.create(service("theirs", 2, having("192.0.2.0"), func(s *corev1.Service) {
		s.Spec.LoadBalancerClass = &other
	}))
	w.look("theirs")
	w.assigned(2)
	w.create(service("late", 3))
	w.look("late")
	w.has("late", v1beta1.ReasonPoolsExhausted)
}

func TestManyServicesWithOneForeignAddress(t *testing.T) {
	// As a load balancer does that gives the addresses of nodes.
	w := newWorld(
		t,
		lan("192.0.2.0/31"),
		service("a", 0, having("203.0.113.1")),
		service("b", 1, having("203.0.113.1")),
	)
	w.look("a", "b")
	w.has("a", v1beta1.ReasonForeignAddress, "203.0.113.1")
	w.has("b", v1beta1.ReasonForeignAddress, "203.0.113.1")
}

func TestWhatTheOneThatIsWokenDoesNotTakeIsForTheNext(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1/32"), service("holder", 0), service("older", 1), service("younger", 2))
	w.look("holder", "older", "younger")
	w.delete("holder")
	w.look("holder")
	// Meanwhile the one that is woken asks for something else.
	w.change("older", func(s *corev1.Service) {
		s.Annotations = map[string]string{v1beta1.AnnotationAddressPool: "elsewhere"}
	})
	w.forget()
	w.look("older")
	if want := []string{"younger"}; !slices.Equal(w.woken, want) {
		t.Fatalf("woken are %q, want %q", w.woken, want)
	}
	w.look("younger")
	w.has("younger", v1beta1.ReasonAssigned, "192.0.2.1")
}
