package watch

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestFate(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(ms ...int) (out []time.Time) {
		for _, one := range ms {
			out = append(out, begin.Add(time.Duration(one)*time.Millisecond))
		}
		return out
	}
	reset := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	for _, tt := range []struct {
		story  string
		echoes []int
		err    error
		ended  int
		want   Fate
	}{
		{"echoes all the time", []int{-100, 100, 500, 1900}, nil, 0,
			Fate{Ending: Open, Gap: 1400 * time.Millisecond}},
		{"echoes end", []int{-100, 100}, nil, 0, Fate{Ending: Silent, After: 100 * time.Millisecond}},
		{"no echo at all", []int{-100}, nil, 0, Fate{Ending: Silent}},
		{"echoes after the end count for nothing", []int{100, 2100}, nil, 0,
			Fate{Ending: Silent, After: 100 * time.Millisecond}},
		{"a reset", []int{100}, reset, 300, Fate{Ending: Reset, After: 300 * time.Millisecond, Err: reset}},
		{"a write after the reset was read", nil, fmt.Errorf("write: %w", syscall.EPIPE), 5,
			Fate{Ending: Reset, After: 5 * time.Millisecond}},
		{"the pod closes it", nil, io.EOF, 20, Fate{Ending: Closed, After: 20 * time.Millisecond}},
		{"the kernel gives up", nil, syscall.ETIMEDOUT, 20,
			Fate{Ending: Failed, After: 20 * time.Millisecond}},
		{"it ends after the end", []int{1950}, io.EOF, 2500,
			Fate{Ending: Open, Gap: 1950 * time.Millisecond}},
	} {
		t.Run(tt.story, func(t *testing.T) {
			c := &Connection{echoes: at(tt.echoes...), err: tt.err, ended: at(tt.ended)[0]}
			got := c.Fate(begin, begin.Add(2*time.Second), 500*time.Millisecond)
			if got.Ending != tt.want.Ending || got.After != tt.want.After || got.Gap != tt.want.Gap {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestFatesAsText(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	fates := Fates{
		{Ending: Reset, After: ms(30)},
		{Ending: Open, Gap: ms(110)},
		{Ending: Reset, After: ms(10)},
		{Ending: Reset, After: ms(20)},
		{Ending: Failed, After: ms(7), Err: syscall.EHOSTUNREACH},
	}
	const want = "5 open, 1 stay (110 ms without an echo at most), 3 reset after 10/20/30 ms, " +
		"1 failed after 7/7/7 ms (no route to host)"
	if got := fates.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNodeOfAConnection(t *testing.T) {
	c := Connection{Line: "pod=web-1 node=node2 client=10.77.0.100:5000 host=10.77.0.200"}
	if got := c.Node(); got != "node2" {
		t.Errorf("the pod is on %q", got)
	}
}
