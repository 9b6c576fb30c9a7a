package membership

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKeyringKeepsTheOrderThatWasSet(t *testing.T) {
	keyC := bytes.Repeat([]byte{'c'}, 24)
	k, err := newKeyring([][]byte{keyA, keyB, keyC})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, want := range [][][]byte{
		{keyA, keyB, keyC},
		{keyC, keyA},
		{keyB, keyC},
		{keyA},
		{keyC, keyB, keyA},
	} {
		if err := k.set(want, now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
		if _, err := k.tick(now); err != nil {
			t.Fatal(err)
		}
		if got := k.ring.GetKeys(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("keys %q, want %q", got, want)
		}
	}
	if err := k.set([][]byte{keyB, []byte("short")}, now); err == nil || len(k.ring.GetKeys()) != 3 {
		t.Errorf("a bad key: error %v, %d keys left", err, len(k.ring.GetKeys()))
	}
}

// TestWhichKeyEncrypts tells how keys change. The keys of a step are named by one
// letter each; the first of want encrypts, the others decrypt.
func TestWhichKeyEncrypts(t *testing.T) {
	type step struct {
		after time.Duration // since the last step
		set   string        // nothing is set when it is empty
		heard string
		want  string
	}
	for _, tt := range []struct {
		story string
		steps []step
	}{
		{"what is there at the start encrypts at once", []step{{want: "a"}}},
		{"a key that all were given before encrypts at once when it becomes the first", []step{
			{set: "ab", want: "ab"},
			{after: time.Minute, set: "ba", want: "ba"},
			{after: time.Minute, set: "b", want: "ba"},
			{after: 6 * time.Minute, want: "b"},
		}},
		{"one that comes as the first waits until all should have it", []step{
			{set: "b", want: "ab"},
			{after: 9 * time.Second, want: "ab"},
			{after: 2 * time.Second, want: "ba"},
			{after: 5 * time.Minute, want: "b"},
		}},
		{"one that became the first soon after it came waits for what is left", []step{
			{set: "ab", want: "ab"},
			{after: 4 * time.Second, set: "ba", want: "ab"},
			{after: 5 * time.Second, want: "ab"},
			{after: 2 * time.Second, want: "ba"},
		}},
		{"somebody is heard to use it: that one understands nothing else", []step{
			{set: "b", want: "ab"},
			{after: time.Second, heard: "b", want: "ba"},
		}},
		{"that somebody uses a former key changes nothing", []step{
			{set: "b", want: "ab"},
			{after: time.Minute, want: "ba"},
			{heard: "a", want: "ba"},
		}},
		{"that somebody uses one that is not the first changes nothing", []step{
			{set: "ab", want: "ab"},
			{heard: "b", want: "ab"},
		}},
		{"a former key comes back and encrypts at once", []step{
			{set: "b", want: "ab"},
			{after: time.Minute, want: "ba"},
			{after: time.Minute, set: "a", want: "ab"},
			{after: 5 * time.Minute, want: "a"},
		}},
		{"one that comes back when others may have forgotten it waits until all have it again", []step{
			{set: "b", want: "ab"},
			{after: time.Minute, want: "ba"},
			{after: 4*time.Minute - 8*time.Second, set: "a", want: "ba"},
			{after: 9 * time.Second, want: "ba"},
			{after: 2 * time.Second, want: "ab"},
		}},
		{"replaced twice in a moment", []step{
			{set: "b", want: "ab"},
			{after: time.Second, set: "c", want: "acb"},
			{after: 11 * time.Second, want: "cab"},
			{after: 5 * time.Minute, want: "c"},
		}},
		{"whoever replaces it all the time does not make the ring grow, nor the key go that is in use",
			[]step{
				{set: "b", want: "ab"},
				{after: time.Second, set: "c", want: "acb"},
				{after: time.Second, set: "d", want: "adcb"},
				{after: time.Second, set: "e", want: "aedcb"},
				{after: time.Second, set: "f", want: "afedc"},
				{after: time.Second, set: "g", want: "agfed"},
				{after: 11 * time.Second, want: "gafed"},
			}},
		{"a key that is given twice is one", []step{{set: "aa", want: "a"}}},
	} {
		t.Run(tt.story, func(t *testing.T) {
			k, err := newKeyring(namedKeys("a"))
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			for i, s := range tt.steps {
				now = now.Add(s.after)
				if s.set != "" {
					if err := k.set(namedKeys(s.set), now); err != nil {
						t.Fatal(err)
					}
				}
				if s.heard != "" {
					k.heard(proofOf(t, s.heard).id, now)
				}
				if _, err := k.tick(now); err != nil {
					t.Fatal(err)
				}
				if got := ringOf(k); got != s.want {
					t.Errorf("step %d: %s, want %s", i+1, got, s.want)
				}
				if id := proofOf(t, s.want[:1]).id; k.first().id != id {
					t.Errorf("step %d: the handshake uses another key than packets", i+1)
				}
			}
		})
	}
}

// TestMembersNeverLoseEachOtherByTheirKeys has members learn of random changes of the
// keys within the time that they are allowed, and asks at each moment whether all
// understand each other.
func TestMembersNeverLoseEachOtherByTheirKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const members = 3
		start := time.Now()
		var rings []*keyring
		for range members {
			k, err := newKeyring(namedKeys("a"))
			if err != nil {
				t.Fatal(err)
			}
			rings = append(rings, k)
		}
		// What the Secret holds, one after the other, and when each learns of it.
		type news struct {
			at   time.Time
			keys string
		}
		var coming [members][]news
		at := start
		for range rapid.IntRange(1, 4).Draw(t, "changes") {
			at = at.Add(time.Duration(rapid.IntRange(11, 600).Draw(t, "pause")) * time.Second)
			keys := rapid.StringMatching(`[a-e]{1,3}`).Draw(t, "keys")
			for i := range members {
				late := time.Duration(rapid.IntRange(0, 9000).Draw(t, "late")) * time.Millisecond
				coming[i] = append(coming[i], news{at.Add(late), keys})
			}
		}
		for now := start; now.Before(at.Add(time.Minute)); now = now.Add(500 * time.Millisecond) {
			for i, k := range rings {
				for len(coming[i]) > 0 && !coming[i][0].at.After(now) {
					if err := k.set(namedKeys(coming[i][0].keys), now); err != nil {
						t.Fatal(err)
					}
					coming[i] = coming[i][1:]
				}
				if _, err := k.tick(now); err != nil {
					t.Fatal(err)
				}
			}
			for i, from := range rings {
				for j, to := range rings {
					if _, ok := to.find(from.first().id); !ok {
						t.Fatalf("after %s member %d encrypts with %s, member %d has %s",
							now.Sub(start), i, ringOf(from)[:1], j, ringOf(to))
					}
				}
			}
		}
	})
}

// namedKeys returns a key for each letter.
func namedKeys(names string) [][]byte {
	var out [][]byte
	for _, name := range names {
		out = append(out, bytes.Repeat([]byte{byte(name)}, 32))
	}
	return out
}

// ringOf names the keys that memberlist has.
func ringOf(k *keyring) string {
	var out strings.Builder
	for _, key := range k.ring.GetKeys() {
		out.WriteByte(key[0])
	}
	return out.String()
}

func proofOf(t *testing.T, name string) proofKey {
	t.Helper()
	p, err := newProofKey(namedKeys(name)[0])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTheKeyIsReplacedAtOnce replaces the only key by another in one step, as
// happens when the Secret is emptied and filled anew. Members learn of it one after
// the other; one that knows only the new key starts meanwhile. Nobody is lost.
func TestTheKeyIsReplacedAtOnce(t *testing.T) {
	checkLeaks(t)
	numbers := []int{2, 3, 4, 5}
	var members []testMember
	for _, n := range numbers {
		members = append(members, start(t, configOf(t, n), numbers...))
	}
	for _, m := range members {
		m.awaitMembers(t, numbers...)
	}
	var watching sync.WaitGroup
	done := make(chan struct{})
	lost := make(chan string, 100)
	for _, m := range members {
		watching.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				for _, other := range m.Members() {
					if other.State != Alive {
						select {
						case lost <- fmt.Sprintf("%s thinks that %s is %s",
							m.config.Name, other.Name, other.State):
						default:
						}
					}
				}
			}
		})
	}
	// Far longer apart than it takes to declare a member dead, which is half a second.
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for i, m := range members {
		<-pause.C
		if err := m.SetKeys([][]byte{keyB}); err != nil {
			t.Fatal(err)
		}
		m.say(t, "step", fmt.Sprint(i))
		for _, other := range members {
			other.awaitSaid(t, numbers[i], "step", fmt.Sprint(i))
		}
	}
	config := configOf(t, 6)
	config.Keys = [][]byte{keyB}
	at := time.Now()
	late := start(t, config, numbers...)
	late.awaitMembers(t, 2, 3, 4, 5, 6)
	late.await(t, "settles", late.Settled)
	for i, n := range numbers {
		late.awaitSaid(t, n, "step", fmt.Sprint(i))
	}
	t.Logf("the new one has met all after %s", time.Since(at).Round(time.Millisecond))
	for _, m := range members {
		m.awaitMembers(t, 2, 3, 4, 5, 6)
	}
	close(done)
	watching.Wait()
	select {
	case what := <-lost:
		t.Errorf("while the key was replaced, %s", what)
	default:
	}
}

// TestANewKeySpreadsByUse: when one uses it, all others do within a moment, for what
// they say to a member that has only the new one must be understood.
func TestANewKeySpreadsByUse(t *testing.T) {
	checkLeaks(t)
	numbers := []int{2, 3, 4}
	var members []testMember
	for _, n := range numbers {
		members = append(members, start(t, configOf(t, n), numbers...))
	}
	for _, m := range members {
		m.awaitMembers(t, numbers...)
	}
	for _, m := range members {
		if err := m.SetKeys([][]byte{keyB}); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	members[0].keys.heard(members[0].keys.awaited().proof.id, at)
	for _, m := range members {
		for m.keys.awaited() != nil && time.Since(at) < patience {
			time.Sleep(5 * time.Millisecond)
		}
	}
	took := time.Since(at)
	t.Logf("all use it after %s", took.Round(time.Millisecond))
	if took >= ripening {
		t.Error("it is not heard from packets that somebody uses it")
	}
}
