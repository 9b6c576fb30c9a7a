package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// told is a recorder that remembers when it was told of what.
type told struct {
	sync.Mutex
	notes []string
	times []time.Time
}

func (t *told) Eventf(_, _ runtime.Object, _, _, _, note string, args ...any) {
	t.Lock()
	defer t.Unlock()
	t.notes = append(t.notes, fmt.Sprintf(note, args...))
	t.times = append(t.times, time.Now())
}

func (t *told) count() int {
	t.Lock()
	defer t.Unlock()
	return len(t.notes)
}

func TestEventsHaveAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var got told
		e := newEvents(&got, Scheme(), slog.New(slog.DiscardHandler))
		const n = 1100
		for i := range n {
			e.Eventf(&corev1.Service{}, nil, corev1.EventTypeNormal, "Announcing", "Announce", "%c", 'a'+i%26)
		}
		start := time.Now()
		go func() {
			if err := e.Start(ctx); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if n := got.count(); n != eventBurst {
			t.Fatalf("%d Events at once, want %d", n, eventBurst)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := got.count(); got != n {
			t.Fatalf("%d Events after a minute, want %d", got, n)
		}
		took, want := got.times[n-1].Sub(start), (n-eventBurst)*time.Second/eventRate
		if took < want || took > want+time.Second {
			t.Errorf("the last came after %s, want %s", took, want)
		}
		for i, note := range got.notes {
			if note != string(rune('a'+i%26)) {
				t.Fatalf("Event %d is %q: not in their order", i, note)
			}
		}
		stop()
		synctest.Wait()
	})
}

// What comes when too many wait is lost, and nobody is held up; later ones are
// told of again.
func TestTooManyEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var got told
		e := newEvents(&got, Scheme(), slog.New(slog.DiscardHandler))
		for range eventQueue + 5 {
			e.Eventf(&corev1.Service{}, nil, corev1.EventTypeNormal, "Announcing", "Announce", "early")
		}
		go func() {
			if err := e.Start(ctx); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(10 * time.Minute)
		e.Eventf(&corev1.Service{}, nil, corev1.EventTypeNormal, "Announcing", "Announce", "late")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(got.notes) != eventQueue+1 || got.notes[eventQueue] != "late" {
			t.Errorf("%d Events, the last %q", len(got.notes), got.notes[len(got.notes)-1])
		}
		stop()
		synctest.Wait()
	})
}
