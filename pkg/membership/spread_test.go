package membership

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// datagram is what a test's members get.
type datagram struct {
	to    string
	after time.Duration
	lines []line
}

// knowing returns a view that knows some members, and what will be sent to them.
func knowing(members int) (*view, *spreader, *[]datagram) {
	v := newView("me")
	begin := time.Now()
	for i := range members + 1 {
		name := "me"
		if i > 0 {
			name = fmt.Sprintf("node%d", i)
		}
		v.NotifyJoin(&memberlist.Node{Name: name, Addr: net.IPv4(127, 0, 0, byte(i)), Port: testPort})
	}
	var sent []datagram
	return v, &spreader{view: v, send: func(to *memberlist.Node, message []byte) error {
		read, err := lines(time.Now(), message)
		sent = append(sent, datagram{to.Name, time.Since(begin), read})
		return err
	}}, &sent
}

func TestChangesAreSentAtOnceAndThenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, s, sent := knowing(1)
		ctx, cancel := context.WithCancel(context.Background())
		go s.run(ctx)
		synctest.Wait()
		v.publish("a", []byte("1"))
		synctest.Wait()
		// These come while it waits for more.
		for i := range 100 {
			v.publish(fmt.Sprintf("claim/%03d", i), []byte("1"))
			v.publish("b", fmt.Append(nil, i))
		}
		time.Sleep(100 * time.Millisecond)
		// It is quiet again.
		v.publish("a", nil)
		v.publish("a", nil)
		time.Sleep(100 * time.Millisecond)
		v.publish("a", nil) // says nothing new
		time.Sleep(100 * time.Millisecond)
		cancel()
		synctest.Wait()

		var got []string
		for _, d := range *sent {
			last := d.lines[len(d.lines)-1]
			got = append(got, fmt.Sprintf("%s: %d to %s, last %s=%s",
				d.after, len(d.lines), d.to, last.Key, last.Value))
		}
		want := []string{
			"0s: 1 to node1, last a=1",
			"5ms: 101 to node1, last claim/099=1",
			"100ms: 1 to node1, last a=",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("sent\n%q, want\n%q", got, want)
		}
		if got := (*sent)[1].lines[0]; got.Key != "b" || got.Value != "99" {
			t.Errorf("of many values the last counts, but sent was %+v", got)
		}
	})
}

func TestWhoIsToldDirectly(t *testing.T) {
	for _, tt := range []struct {
		members, want, leaves int
	}{{0, 0, 0}, {1, 1, 1}, {32, 32, 32}, {100, 32, 100}} {
		v, s, sent := knowing(tt.members)
		v.publish("a", []byte("1"))
		s.deliver(v.takePending(false))
		told := make(map[string]bool)
		for _, d := range *sent {
			told[d.to] = true
		}
		if len(told) != tt.want || told["me"] {
			t.Errorf("of %d members %d are told, want %d", tt.members, len(told), tt.want)
		}
		// Gossip tells them too.
		if b := v.GetBroadcasts(3, 1400); len(b) != 1 {
			t.Errorf("%d broadcasts", len(b))
		}
		// The last words go to all, twice, and with them what only some have heard.
		*sent = nil
		v.publish("b", []byte("2"))
		s.leave()
		if len(*sent) != 2*tt.leaves {
			t.Errorf("of %d members %d hear the last words", tt.members, len(*sent))
		}
		for _, d := range *sent {
			if len(d.lines) != 2 {
				t.Errorf("last words %+v", d.lines)
			}
		}
	}
}

func TestBroadcastsFitAndEnd(t *testing.T) {
	v, _, _ := knowing(10)
	for i := range 200 {
		v.publish(fmt.Sprintf("claim/%d", i), []byte("x"))
	}
	v.takePending(false)
	sent := make(map[string]int)
	for _, room := range []int{0, 3, 20, 35, 100, 1398} {
		for _, b := range v.GetBroadcasts(3, room) {
			if len(b)+3 > room {
				t.Errorf("%d bytes for %d", len(b), room)
			}
			read, err := lines(time.Now(), b)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range read {
				sent[l.Key]++
			}
		}
	}
	for range 1000 {
		for _, b := range v.GetBroadcasts(3, 1398) {
			read, _ := lines(time.Now(), b)
			for _, l := range read {
				sent[l.Key]++
			}
		}
	}
	if len(sent) != 200 {
		t.Errorf("%d statements were sent", len(sent))
	}
	for key, n := range sent {
		if n != transmissions(11) {
			t.Errorf("%s was sent %d times, want %d", key, n, transmissions(11))
		}
	}
}

func TestNewsArePassedOnOnce(t *testing.T) {
	p := kv.NewPacker(0)
	p.Add(time.Now(), kv.Section{Member: "node7", Alive: true}, "stage", entry(7, "ready"))
	news := p.Message()
	v, _, _ := knowing(1)
	v.NotifyMsg(news)
	times := 0
	for range 50 {
		times += len(v.GetBroadcasts(3, 1398))
		v.NotifyMsg(news) // it comes from all sides
	}
	if times != transmissions(2) {
		t.Errorf("passed on %d times, want %d", times, transmissions(2))
	}
}
