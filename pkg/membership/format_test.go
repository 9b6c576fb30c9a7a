package membership

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

// record is a message with one record.
func record(kind byte, body []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{formatMajor, formatMinor, kind}, uint32(len(body)))
	return append(out, body...)
}

// nextMinor is what a later version with the same major makes of a message: other
// kinds of records, and more at the end of each head and entry.
func nextMinor(message []byte) []byte {
	if len(message) < messageHead {
		return message
	}
	more := func(part []byte) []byte { return appendText(nil, append(slices.Clone(part), "and more"...)) }
	out := append([]byte{formatMajor, formatMinor + 1}, record(77, []byte("signatures"))[messageHead:]...)
	for rest := message[messageHead:]; len(rest) >= recordHead; {
		size := int(binary.BigEndian.Uint32(rest[1:]))
		body := &reader{rest: rest[recordHead : recordHead+size]}
		rest = rest[recordHead+size:]
		next := more(body.text("head"))
		for len(body.rest) > 0 {
			next = append(next, more(body.text("entry"))...)
		}
		out = append(out, record(kindSection, next)[messageHead:]...)
		out = append(out, record(78, nil)[messageHead:]...)
	}
	return out
}

// nextMajor is a message that this version cannot read.
func nextMajor(message []byte) []byte {
	if len(message) == 0 {
		return nil
	}
	return append([]byte{formatMajor + 1}, message[1:]...)
}

// TestALaterMinorIsReadAsFarAsItIsKnown: whatever is added to a message, what this
// version knows of it says the same.
func TestALaterMinorIsReadAsFarAsItIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPacker(0)
		for range rapid.IntRange(1, 20).Draw(t, "statements") {
			e := value(rapid.Uint64Range(0, maxVersion).Draw(t, "version"), rapid.String().Draw(t, "value"))
			if len(e.value) > MaxValue || rapid.Bool().Draw(t, "deleted") {
				e = deletion(e.version, noon.Add(-time.Hour))
			}
			of := about{member: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "member"), alive: true}
			p.add(noon, of, rapid.StringN(-1, -1, MaxKey).Draw(t, "key"), e)
		}
		want, err := lines(noon, p.message())
		if err != nil {
			t.Fatal(err)
		}
		got, err := lines(noon, nextMinor(p.message()))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// TestWhatIsLargerThanThisVersionTakes: a later version may say longer things. They
// are passed over, what follows is read right, and its member counts as incompletely
// known for as long as that goes on.
func TestWhatIsLargerThanThisVersionTakes(t *testing.T) {
	p := newPacker(0)
	of := about{member: "node2", alive: true}
	p.add(noon, of, "a", value(1, "1"))
	p.add(noon, of, "b"+strings.Repeat("b", MaxKey), value(2, "2"))
	p.add(noon, of, "b"+strings.Repeat("b", MaxKey-1), value(3, "3"))
	p.add(noon, of, "c", value(4, strings.Repeat("4", MaxValue+1)))
	p.add(noon, of, "d", value(5, "5"))
	p.add(noon, about{member: strings.Repeat("n", maxName+1), alive: true}, "d", value(5, "5"))
	s := newStatements("me", defaultLimits)
	if err := unpack(p.message(), noon, func(of about, key string, e statement) { s.hear(noon, of.member, key, e) }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", strings.Repeat("b", MaxKey): "3", "d": "5"}
	if diff := cmp.Diff(want, s.texts("node2")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b := s.books["node2"]; !b.incomplete(noon) || !b.incomplete(noon.Add(missing-1)) || b.incomplete(noon.Add(missing)) {
		t.Errorf("incomplete: %t", b.incomplete(noon))
	}
	if len(s.books) != 2 || s.dropped != 2 {
		t.Errorf("%d members, %d dropped", len(s.books), s.dropped)
	}
}

// TestTwoVersionsSideBySide has this version and a later minor one exchange all that
// they know, by way of each other: each knows all that the other says, also what it
// does not understand, and passes it on.
func TestTwoVersionsSideBySide(t *testing.T) {
	views := map[string]*view{}
	for _, name := range []string{"old1", "old2", "new1", "new2"} {
		views[name] = newView(name)
		views[name].say(lifeKey, lifeValue(lifeHere, netip.MustParseAddrPort("127.0.0.1:17947")))
		views[name].say("stage", []byte("ready"))
	}
	views["new1"].say("weather", []byte("fine"))
	views["new2"].say("stage", []byte("warming"))
	tell := func(from, to string) {
		message := views[from].LocalState(false)
		if strings.HasPrefix(from, "new") {
			message = nextMinor(message)
		}
		views[to].MergeRemoteState(message, false)
	}
	// New ones hear of each other by old ones only.
	for range 2 {
		for _, pair := range [][2]string{{"new1", "old1"}, {"old1", "old2"}, {"old2", "new2"}, {"new2", "old2"}, {"old2", "old1"}, {"old1", "new1"}} {
			tell(pair[0], pair[1])
		}
	}
	for name, v := range views {
		if !v.hasMet() {
			t.Errorf("%s has met nobody", name)
		}
		for other, want := range map[string]string{"old1": "ready", "old2": "ready", "new1": "ready", "new2": "warming"} {
			if got := v.store.texts(other)["stage"]; got != want {
				t.Errorf("%s knows that %s is %q, want %q", name, other, got, want)
			}
		}
		if got := v.store.texts("new1")["weather"]; got != "fine" {
			t.Errorf("%s knows of the weather at new1: %q", name, got)
		}
		if lost := v.losses(); lost != (losses{}) {
			t.Errorf("%s: %+v", name, lost)
		}
		if a, ok := lifeAddr(append(v.store.books["old1"].entries[lifeKey].value, "and more"...)); !ok || a.Port() != 17947 {
			t.Errorf("an address with more behind it: %s, %t", a, ok)
		}
	}
	// What cannot be read is not taken in, and is no meeting.
	v := newView("old3")
	v.MergeRemoteState(nextMajor(views["new1"].LocalState(false)), true)
	v.NotifyMsg(nextMajor(views["new1"].LocalState(false)))
	if v.hasMet() || len(v.store.books) != 1 || v.losses().refused != 2 {
		t.Errorf("met %t, %d members, %+v", v.hasMet(), len(v.store.books), v.losses())
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
		if f.Readable() != tt.readable || f.reads(formatMajor) != tt.reads || f.String() != tt.text {
			t.Errorf("%s: readable %t, reads %t, %s", tt.story, f.Readable(), f.reads(formatMajor), f)
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
	var lines bytes.Buffer
	config := configOf(t, 2)
	config.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	m := start(t, config, 3)
	m.awaitMembers(t, 2, 3)
	m.await(t, "settled", m.Settled)
	if f := m.fellow(3).Format; f != (Format{2, 7, 2, 3}) || f.Readable() || len(m.fellow(3).Said) > 0 {
		t.Errorf("member %+v", m.fellow(3))
	}
	if f := m.fellow(2).Format; f != ownFormat {
		t.Errorf("its own format is %+v", f)
	}
	m.stop()
	for _, want := range []string{
		`"member speaks a format that this version does not read; what it says is not known" node=node3 format=2.7`,
		`"member does not read the format of this version; it does not know what this one says" node=node3 format=2.7`,
		`"membership settled" reason="no peer answers, or none that is understood"`,
		`"messages of members cannot be read"`,
	} {
		if strings.Count(lines.String(), want) != 1 {
			t.Errorf("it does not log once: %s", want)
		}
	}
}
