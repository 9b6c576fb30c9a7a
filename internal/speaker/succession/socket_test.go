package succession

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// unused returns a name that no other test has.
func unused(t *testing.T) string {
	t.Helper()
	return Name(fmt.Sprintf("%s-%d-%d", t.Name(), os.Getpid(), time.Now().UnixNano()))
}

// meets has a speaker start.
func meets(t *testing.T, name string) (*Office, *Former) {
	t.Helper()
	office := NewOffice(name, slog.New(slog.DiscardHandler))
	former, err := office.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return office, former
}

// runs has an office hear successors until the returned function is called.
func runs(t *testing.T, o *Office) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// sees waits until an office has seen something.
func sees(t *testing.T, o *Office, want Seen) {
	t.Helper()
	for o.Seen() != want {
		select {
		case <-o.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("the office has seen %+v, want %+v", o.Seen(), want)
		}
	}
}

// opens waits until an office has the name.
func opens(t *testing.T, o *Office) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		o.mu.Lock()
		has := o.listener != nil
		o.mu.Unlock()
		if has {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the name is free, and the office has not taken it")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestAnUpdate: a successor finds the speaker that works, asks, gets the name with its
// place, and is found under it by the next.
func TestAnUpdate(t *testing.T) {
	name := unused(t)
	first, former := meets(t, name)
	if former != nil {
		t.Fatal("a speaker that is alone has found another")
	}
	runs(t, first)
	second, former := meets(t, name)
	if former == nil {
		t.Fatal("the successor has not found the speaker that works")
	}
	sees(t, first, Seen{Connected: true})

	answered := make(chan error)
	go func() { answered <- former.Ask(t.Context()) }()
	sees(t, first, Seen{Connected: true, Asked: true})
	first.Yield()
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if err := former.Announce(); err != nil {
		t.Fatal(err)
	}
	sees(t, first, Seen{Connected: true, Asked: true, Announces: true})

	runs(t, second)
	opens(t, second)
	third, next := meets(t, name)
	if next == nil {
		t.Fatal("the next successor finds nobody")
	}
	runs(t, third)
	sees(t, second, Seen{Connected: true})
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, first, Seen{Asked: true, Announces: true})
}

// TestOneOfTwoSuccessors: the first that asks gets the place. The other one waits until
// then, and meets it.
func TestOneOfTwoSuccessors(t *testing.T) {
	name := unused(t)
	office, _ := meets(t, name)
	runs(t, office)
	_, slow := meets(t, name)
	_, quick := meets(t, name)
	answers, waits := make(chan error, 1), make(chan error, 1)
	go func() { answers <- quick.Ask(t.Context()) }()
	sees(t, office, Seen{Connected: true, Asked: true})
	go func() { waits <- slow.Ask(t.Context()) }()
	select {
	case err := <-waits:
		t.Errorf("nobody has the place yet, and it is told %v", err)
	case <-time.After(50 * time.Millisecond): // what should not happen would happen at once
	}
	office.Yield()
	if err := <-answers; err != nil {
		t.Errorf("the first that asked: %v", err)
	}
	if err := <-waits; err == nil {
		t.Error("two have the place")
	}
	if err := quick.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, office, Seen{Asked: true})
}

// TestTheFormerDies: a successor that waits for the place hears of it, and one that stops
// waiting as well.
func TestTheFormerDies(t *testing.T) {
	name := unused(t)
	office, _ := meets(t, name)
	stop := runs(t, office)
	_, former := meets(t, name)
	sees(t, office, Seen{Connected: true})
	answered := make(chan error)
	go func() { answered <- former.Ask(t.Context()) }()
	sees(t, office, Seen{Connected: true, Asked: true})
	stop()
	if err := <-answered; err == nil {
		t.Error("the speaker is gone, and has given its place")
	}

	office, _ = meets(t, name)
	runs(t, office)
	_, former = meets(t, name)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { answered <- former.Ask(ctx) }()
	sees(t, office, Seen{Connected: true, Asked: true})
	cancel()
	if err := <-answered; err == nil {
		t.Error("it no longer waits, and has the place")
	}
}

// TestNonsense: whoever says what no speaker says, or too much, changes nothing and is cut
// off.
func TestNonsense(t *testing.T) {
	for _, said := range []string{"", "a", "A", "1A", "11", "1y", "GET / HTTP/1.1\r\n\r\n", "1ax"} {
		t.Run(said, func(t *testing.T) {
			name := unused(t)
			office, _ := meets(t, name)
			runs(t, office)
			conn, err := net.Dial("unix", name)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(said)); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it is not cut off: %v", err)
			}
			want := Seen{}
			want.Asked = said == "1ax" // it was one until then
			sees(t, office, want)
		})
	}
}

// TestManyConnect: more than a few are refused, and those that are there stay.
func TestManyConnect(t *testing.T) {
	name := unused(t)
	office, _ := meets(t, name)
	runs(t, office)
	for range maxSuccessors {
		meets(t, name)
	}
	sees(t, office, Seen{Connected: true})
	conn, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range maxSuccessors + 1 { // some may not have been let in yet
		_, err = conn.Read(make([]byte, 1))
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more was let in: %v", err)
	}
}

// TestNobodyToAsk: the name is taken by somebody who cannot be asked, and free later.
func TestNobodyToAsk(t *testing.T) {
	name := unused(t)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := connect(t.Context(), name); err != nil {
		t.Fatalf("a process of this user listens: %v", err)
	} else if err := conn.Ask(ended()); err == nil {
		t.Error("one that does not answer has given its place")
	}
	office := NewOffice(name, slog.New(slog.DiscardHandler))
	runs(t, office)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	opens(t, office)
	if _, former := meets(t, name); former == nil {
		t.Fatal("nobody is found")
	}
	sees(t, office, Seen{Connected: true})
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestStarted(t *testing.T) {
	name := unused(t)
	if err := askStarted(t.Context(), name); err == nil {
		t.Error("it has begun before it says so")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sayStarted(ctx, name) }()
	deadline := time.Now().Add(10 * time.Second)
	for askStarted(t.Context(), name) != nil {
		if time.Now().After(deadline) {
			t.Fatal("it has begun, and nobody hears of it")
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := askStarted(t.Context(), name); err == nil {
		t.Error("it has ended, and says that it has begun")
	}
}

// TestSince: what happened between two looks is told in order, also what is over already.
func TestSince(t *testing.T) {
	here := Seen{Connected: true}
	asked := Seen{Connected: true, Asked: true}
	for _, test := range []struct {
		story       string
		before, now Seen
		want        []Event
	}{
		{"nothing", Seen{}, Seen{}, nil},
		{"one comes", Seen{}, here, []Event{Met}},
		{"it stays", here, here, nil},
		{"it goes", here, Seen{}, []Event{Lost}},
		{"it asks", here, asked, []Event{Asked}},
		{"all at once", Seen{}, Seen{true, true, true}, []Event{Met, Asked, Announces}},
		{"all at once and it is gone", Seen{}, Seen{Asked: true}, []Event{Met, Asked, Lost}},
		{"it goes after it asked", asked, Seen{Asked: true}, []Event{Lost}},
		{"it is gone", Seen{Asked: true}, Seen{Asked: true}, nil},
	} {
		if got := test.now.Since(test.before); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.story, got, test.want)
		}
	}
}
