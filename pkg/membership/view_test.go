package membership

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// TestStates tells what happens to node2, and what this member then thinks of it.
func TestStates(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.2:17947")
	node := &memberlist.Node{Name: "node2", Addr: net.IPv4(127, 0, 0, 2), Port: 17947}
	// What others tell; a life that is not the last is older.
	says := func(v *view, of kv.Section, version uint64, key, text string) {
		of.Member = "node2"
		p := kv.NewPacker(0)
		p.Add(time.Now(), of, key, entry(version, text))
		v.NotifyMsg(p.Message())
	}
	here, left := string(lifeValue(lifeHere, at)), string(lifeValue(lifeLeft, at))
	alive, gone := kv.Section{Alive: true}, kv.Section{Gone: 10 * time.Minute}
	tests := []struct {
		story string
		does  func(v *view)
		want  State
		since time.Duration
	}{
		{"it joins", func(v *view) { v.NotifyJoin(node) }, Alive, 0},
		{"others tell of it", func(v *view) { says(v, alive, 1, lifeKey, here) }, Dead, 0},
		{"others tell that it is gone",
			func(v *view) { says(v, gone, 1, lifeKey, here) }, Dead, -10 * time.Minute},
		{"others tell that it left",
			func(v *view) { says(v, gone, 1, lifeKey, left) }, Left, -10 * time.Minute},
		{"it is told of and joins", func(v *view) {
			says(v, alive, 1, lifeKey, here)
			time.Sleep(time.Second)
			v.NotifyJoin(node)
		}, Alive, time.Second},
		{"it dies", func(v *view) {
			v.NotifyJoin(node)
			says(v, alive, 1, lifeKey, here)
			time.Sleep(time.Second)
			v.NotifyLeave(node)
			time.Sleep(time.Second)
		}, Dead, time.Second},
		{"it sends its leave notice", func(v *view) {
			v.NotifyJoin(node)
			says(v, alive, 1, lifeKey, here)
			time.Sleep(time.Second)
			says(v, alive, 2, lifeKey, left)
			time.Sleep(time.Second)
			v.NotifyLeave(node)
		}, Left, time.Second},
		{"its leave notice comes late", func(v *view) {
			v.NotifyJoin(node)
			says(v, alive, 1, lifeKey, here)
			v.NotifyLeave(node)
			time.Sleep(time.Second)
			says(v, alive, 2, lifeKey, left)
		}, Left, time.Second},
		{"it left and is back", func(v *view) {
			v.NotifyJoin(node)
			says(v, alive, 2, lifeKey, left)
			v.NotifyLeave(node)
			time.Sleep(time.Second)
			says(v, alive, 3, lifeKey, here)
			v.NotifyJoin(node)
		}, Alive, time.Second},
		{"it is back, which memberlist hears first", func(v *view) {
			says(v, alive, 2, lifeKey, left)
			v.NotifyJoin(node)
			time.Sleep(time.Second)
			says(v, alive, 3, lifeKey, here)
		}, Alive, time.Second},
		{"it left, and memberlist hears of the past", func(v *view) {
			says(v, alive, 2, lifeKey, left)
			time.Sleep(time.Second)
			v.NotifyJoin(node)
			says(v, alive, 1, lifeKey, here)
		}, Left, 0},
		{"it left, is back and dies", func(v *view) {
			says(v, alive, 2, lifeKey, left)
			v.NotifyJoin(node)
			says(v, alive, 3, lifeKey, here)
			v.NotifyLeave(node)
		}, Dead, 0},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			v, _, _ := knowing(0)
			begin := time.Now()
			tt.does(v)
			all := v.list()
			if len(all) != 2 || all[1].State != tt.want || !all[1].Since.Equal(begin.Add(tt.since)) ||
				all[1].Addr != at.Addr() || all[0].State != Alive {
				t.Errorf("%s: %+v, want %s since %s", tt.story, all, tt.want, begin.Add(tt.since))
			}
		})
	}
}

func TestWhoIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, _ := knowing(0)
		address := func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i)}), testPort)
		}
		tell := func(i int, of kv.Section) {
			of.Member = fmt.Sprintf("node%d", i)
			p := kv.NewPacker(0)
			p.Add(time.Now(), of, lifeKey, entry(1, string(lifeValue(lifeHere, address(i)))))
			p.Add(time.Now(), of, "stage", entry(1, "ready"))
			v.NotifyMsg(p.Message())
		}
		check := func(story, want string) {
			t.Helper()
			v.forget(time.Now())
			got := ""
			for _, m := range v.list() {
				got += m.Name + " "
			}
			if got != want {
				t.Errorf("%s: %swant %s", story, got, want)
			}
		}
		v.setPeers([]netip.AddrPort{address(3), address(5)})
		tell(2, kv.Section{Alive: true})
		tell(3, kv.Section{Alive: true})
		tell(4, kv.Section{Gone: memberMemory})
		tell(5, kv.Section{Gone: memberMemory})
		check("one that is gone for long is taken in only as a peer", "me node2 node3 node5 ")
		time.Sleep(memberMemory - time.Second)
		tell(6, kv.Section{Gone: memberMemory / 2})
		check("nearly an hour later", "me node2 node3 node5 node6 ")
		time.Sleep(time.Second)
		check("the hour is over", "me node3 node5 node6 ")
		// It is not remembered again because others forget it later.
		tell(2, kv.Section{Gone: memberMemory})
		check("others still remember", "me node3 node5 node6 ")
		v.setPeers(nil)
		check("they are no peers any more", "me node6 ")
		time.Sleep(memberMemory / 2)
		check("half an hour", "me ")
		if v.store.Bytes() != 0 {
			t.Errorf("%d bytes are left", v.store.Bytes())
		}
	})
}

// TestAMessageThatIsTooLargeTakesTurns has more to tell than fits.
func TestAMessageThatIsTooLargeTakesTurns(t *testing.T) {
	const each = 100
	v, _, _ := knowing(0)
	v.maxState = 2*each*(MaxValue+10) + 1000
	long := make([]byte, MaxValue)
	for i := range 3 {
		for k := range each {
			v.store.Merge(noon, fmt.Sprintf("node%d", i), fmt.Sprint(k), entry(1, string(long)))
		}
	}
	complete := make(map[string]int)
	for range 3 {
		state := v.LocalState(false)
		if len(state) > v.maxState {
			t.Fatalf("%d bytes", len(state))
		}
		count := make(map[string]int)
		err := kv.Unpack(state, noon, func(of kv.Section, _ string, _ kv.Entry) { count[of.Member]++ })
		if err != nil {
			t.Fatal(err)
		}
		for name, n := range count {
			if n == each {
				complete[name]++
			}
		}
	}
	if len(complete) != 3 {
		t.Errorf("told completely: %v", complete)
	}
	if lost := v.losses(); !lost.cut || lost.dropped != 0 {
		t.Errorf("lost %+v", lost)
	}
}
