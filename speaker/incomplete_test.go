package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestANewServiceIsGivenTime: its endpoints come a moment after it, and that is no
// trouble. What was announced and is no more is told at once.
func TestANewServiceIsGivenTime(t *testing.T) {
	worlds := map[string]func(t *testing.T) *world{
		"layer 2": func(t *testing.T) *world { return newWorld(t, append(service("web"), node("node1"))...) },
		"BGP": func(t *testing.T) *world {
			return routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		},
	}
	for by, newWorld := range worlds {
		emitted := func(t *testing.T, w *world, want ...string) {
			t.Helper()
			if !slices.Equal(w.events, want) {
				t.Errorf("emitted %q, want %q", w.events, want)
			}
			w.events = nil
		}
		// fresh is a Service that was never looked at, without endpoints.
		fresh := func(t *testing.T) *world {
			w := newWorld(t)
			clear(w.state.addresses)
			clear(w.state.bgp)
			w.ready("web", false)
			w.events = nil
			return w
		}
		t.Run(by+", they come", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := fresh(t)
				if again := w.look(); again <= 0 || again > newService {
					t.Errorf("it is looked at again after %s", again)
				}
				emitted(t, w)
				time.Sleep(time.Second)
				w.ready("web", true)
				w.look()
				if slices.ContainsFunc(w.events, func(e string) bool { return e != "web Normal Announcing" }) {
					t.Errorf("emitted %q", w.events)
				}
				w.events = nil
				time.Sleep(time.Hour)
				w.ready("web", false)
				w.look()
				if !slices.Contains(w.events, "web Warning NoEndpoint") {
					t.Errorf("when they go, emitted %q", w.events)
				}
			})
		})
		t.Run(by+", they do not come", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := fresh(t)
				again := w.look()
				time.Sleep(again - 1)
				again = w.look()
				emitted(t, w)
				if again != 1 {
					t.Errorf("it is looked at again after %s, not in time", again)
				}
				time.Sleep(again)
				w.look()
				emitted(t, w, "web Warning NoEndpoint")
				time.Sleep(time.Hour)
				if again := w.look(); again != 0 {
					t.Errorf("it is looked at again after %s although all was told", again)
				}
				emitted(t, w)
			})
		})
	}
}
