package membership

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/pkg/membership/kv"
	"github.com/berth-lb/berth/pkg/membership/kv/kvtest"
)

// TestTwoVersionsSideBySide has this version and a later minor one exchange all that
// they know, by way of each other: each knows all that the other says, also what it
// does not understand, and passes it on.
func TestTwoVersionsSideBySide(t *testing.T) {
	views := map[string]*view{}
	for _, name := range []string{"old1", "old2", "new1", "new2"} {
		views[name] = newView(name)
		views[name].publish(lifeKey, lifeValue(lifeHere, netip.MustParseAddrPort("127.0.0.1:17947")))
		views[name].publish("stage", []byte("ready"))
	}
	views["new1"].publish("weather", []byte("fine"))
	views["new2"].publish("stage", []byte("warming"))
	tell := func(from, to string) {
		message := views[from].LocalState(false)
		if strings.HasPrefix(from, "new") {
			message = kvtest.NextMinor(message)
		}
		views[to].MergeRemoteState(message, false)
	}
	// New ones hear of each other by old ones only.
	for range 2 {
		for _, pair := range [][2]string{
			{"new1", "old1"}, {"old1", "old2"}, {"old2", "new2"},
			{"new2", "old2"}, {"old2", "old1"}, {"old1", "new1"},
		} {
			tell(pair[0], pair[1])
		}
	}
	for name, v := range views {
		if !v.synced() {
			t.Errorf("%s has met nobody", name)
		}
		for other, want := range map[string]string{
			"old1": "ready",
			"old2": "ready",
			"new1": "ready",
			"new2": "warming",
		} {
			if got := string(v.store.Values(other)["stage"]); got != want {
				t.Errorf("%s knows that %s is %q, want %q", name, other, got, want)
			}
		}
		if got := string(v.store.Values("new1")["weather"]); got != "fine" {
			t.Errorf("%s knows of the weather at new1: %q", name, got)
		}
		if lost := v.losses(); lost != (losses{}) {
			t.Errorf("%s: %+v", name, lost)
		}
		life, _ := v.store.Get("old1", lifeKey)
		if a, ok := lifeAddr(append(slices.Clone(life.Value), "and more"...)); !ok || a.Port() != 17947 {
			t.Errorf("an address with more behind it: %s, %t", a, ok)
		}
	}
	// What cannot be read is not taken in, and is no meeting.
	v := newView("old3")
	v.MergeRemoteState(kvtest.NextMajor(views["new1"].LocalState(false)), true)
	v.NotifyMsg(kvtest.NextMajor(views["new1"].LocalState(false)))
	if v.synced() || len(v.store.Members()) != 1 || v.losses().refused != 2 {
		t.Errorf("met %t, %d members, %+v", v.synced(), len(v.store.Members()), v.losses())
	}
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct {
		story           string
		meta            []byte
		readable, reads bool
		text            string
	}{
		{"this version", ownFormat.meta(), true, true, "1.0"},
		{"none is told", nil, true, true, "0.0"},
		{"a later minor", []byte{1, 7, 1, 1}, true, true, "1.7"},
		{"a later one that can do both, and more of it", []byte{1, 9, 1, 2, 42}, true, true, "1.9"},
		{"one that writes the next and reads both", []byte{2, 0, 1, 2}, false, true, "2.0"},
		{"one that knows only the next", []byte{2, 0, 2, 2}, false, false, "2.0"},
	} {
		f := readFormat(tt.meta)
		if f.Readable() != tt.readable || f.reads(kv.Major) != tt.reads || f.String() != tt.text {
			t.Errorf("%s: readable %t, reads %t, %s", tt.story, f.Readable(), f.reads(kv.Major), f)
		}
	}
}

// foreigner speaks another major: a delegate of memberlist. What it tells of its
// format is meta.
type foreigner struct{ meta []byte }

func (f foreigner) NodeMeta(int) []byte           { return f.meta }
func (foreigner) NotifyMsg([]byte)                {}
func (foreigner) GetBroadcasts(int, int) [][]byte { return nil }
func (foreigner) LocalState(bool) []byte          { return []byte{2, 7, 1, 0, 0, 0, 0} }
func (foreigner) MergeRemoteState([]byte, bool)   {}

// startForeigner starts node3, which speaks another major.
func startForeigner(t *testing.T, meta []byte) {
	t.Helper()
	other, err := New(configOf(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	if other.transport, err = newTransport(other); err != nil {
		t.Fatal(err)
	}
	c := other.memberlistConfig()
	c.Delegate, c.Events = foreigner{meta}, nil
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := list.Shutdown(); err != nil {
			t.Error(err)
		}
	})
}

// TestOnlyWhatIsUnderstoodIsContact: who was stopped for a while has missed what the
// others said; one whose state cannot be read does not tell it.
func TestOnlyWhatIsUnderstoodIsContact(t *testing.T) {
	for _, tt := range []struct {
		story string
		meta  []byte
		want  error // while there is nobody else
	}{
		{"it is known that it is not understood", []byte{2, 7, 2, 3}, errNotUnderstood},
		{"it has not told its format", nil, context.DeadlineExceeded},
	} {
		t.Run(tt.story, func(t *testing.T) {
			checkLeaks(t)
			startForeigner(t, tt.meta)
			m := start(t, configOf(t, 2), 3)
			m.awaitMembers(t, 2, 3)
			short, stop := context.WithTimeout(context.Background(), time.Second)
			defer stop()
			if err := m.Confirm(short); !errors.Is(err, tt.want) {
				t.Errorf("with nobody else, Confirm says %v, want %v", err, tt.want)
			}
			start(t, configOf(t, 4), 2, 3)
			m.awaitMembers(t, 2, 3, 4)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := m.Confirm(ctx); err != nil {
				t.Errorf("with one that is understood: %v", err)
			}
		})
	}
}

// TestAMemberThatIsNotUnderstood joins one that speaks another major: it is alive,
// its format is known and logged, and that it was met counts for nothing.
func TestAMemberThatIsNotUnderstood(t *testing.T) {
	checkLeaks(t)
	startForeigner(t, []byte{2, 7, 2, 3})
	lines := &guarded{}
	config := configOf(t, 2)
	config.Logger = slog.New(slog.NewTextHandler(lines, nil))
	m := start(t, config, 3)
	m.awaitMembers(t, 2, 3)
	m.await(t, "settled", m.Settled)
	if f := m.member(3).Format; f != (Format{2, 7, 2, 3}) || f.Readable() || len(m.member(3).Values) > 0 {
		t.Errorf("member %+v", m.member(3))
	}
	if f := m.member(2).Format; f != ownFormat {
		t.Errorf("its own format is %+v", f)
	}
	m.stop()
	for _, want := range []string{
		`"member writes a format that this version does not read; ` +
			`what it publishes is not known" node=node3 format=2.7`,
		`"member does not read the format of this version; ` +
			`it misses what this one publishes" node=node3 format=2.7`,
		`"membership settled" message="no peer answers, or none that is understood"`,
		`"messages of members cannot be read"`,
	} {
		if strings.Count(lines.String(), want) != 1 {
			t.Errorf("it does not log once: %s", want)
		}
	}
}

// guarded is text that may be read while others write it: goroutines of memberlist log
// something more when it has shut down.
type guarded struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements [io.Writer].
func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

// String returns what was written.
func (g *guarded) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}
