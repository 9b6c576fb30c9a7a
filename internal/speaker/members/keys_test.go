package members

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/internal/kube"
)

var memberSecretName = types.NamespacedName{Namespace: "berth-system", Name: "members"}

// dataOf are the entries of a Secret: "name=letter" is a key that consists of one letter,
// "name=" is empty, and a longer text is no key.
func dataOf(entries ...string) map[string][]byte {
	data := map[string][]byte{}
	for _, e := range entries {
		name, text, _ := strings.Cut(e, "=")
		if len(text) == 1 {
			text = strings.Repeat(text, 32)
		}
		data[name] = []byte(text)
	}
	return data
}

// lettersOf are the letters of such keys.
func lettersOf(keys [][]byte) string {
	var out strings.Builder
	for _, key := range keys {
		out.WriteByte(key[0])
	}
	return out.String()
}

func TestKeysOfTheMemberSecret(t *testing.T) {
	for _, test := range []struct {
		story   string
		entries []string
		keys    string
		unfit   string
	}{
		{"an empty Secret", nil, "", ""},
		{"an empty entry", []string{"key="}, "", ""},
		{"the first alone", []string{"key=a"}, "a", ""},
		{"others by name, behind the first", []string{"previous=c", "key=a", "next=b"}, "abc", ""},
		{"others without the first", []string{"next=b"}, "", ""},
		{"an empty one among others", []string{"key=a", "next="}, "a", ""},
		{"a note among others", []string{"key=a", "note=do not touch this", "next=b"}, "ab", "note"},
		{"two notes", []string{"key=a", "b=no key", "a=no key"}, "a", "a,b"},
		{"the first is no key", []string{"key=far too short", "next=b"}, "", "key"},
	} {
		keys, unfit := keysOf(&corev1.Secret{Data: dataOf(test.entries...)})
		if lettersOf(keys) != test.keys || strings.Join(unfit, ",") != test.unfit {
			t.Errorf("%s: keys %q, unfit %q", test.story, lettersOf(keys), unfit)
		}
	}
}

// TestMemberKeyIsWaitedFor: the speaker may start before the install has
// created the Secret, and before the controller has filled it.
func TestMemberKeyIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		api := fake.NewClientBuilder().Build()
		type answer struct {
			keys [][]byte
			err  error
		}
		got := make(chan answer, 1)
		go func() {
			logger := slog.New(slog.NewTextHandler(&log, nil))
			keys, err := memberKeys(t.Context(), api, memberSecretName, logger)
			got <- answer{keys, err}
		}()
		synctest.Wait()
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: memberSecretName.Namespace,
			Name:      memberSecretName.Name,
		}}
		if err := api.Create(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		for _, data := range []map[string][]byte{
			{},
			dataOf("key=tooshort"),
			dataOf("next=b"),
		} {
			secret.Data = data
			if err := api.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			waitAMoment(t)
			if len(got) > 0 {
				t.Fatalf("a Secret with %q is taken: %v", data, <-got)
			}
		}
		secret.Data = dataOf("old=b", "key=a", "empty=", "note=what this Secret is for")
		if err := api.Update(t.Context(), secret); err != nil {
			t.Fatal(err)
		}
		if a := <-got; a.err != nil || lettersOf(a.keys) != "ab" {
			t.Errorf("got %q, %v", a.keys, a.err)
		}
		text := log.String()
		for _, word := range []string{
			"does not exist", "has not filled it", "its entry key is no key", "entry=note",
		} {
			if !strings.Contains(text, word) {
				t.Errorf("the log does not say %q:\n%s", word, text)
			}
		}
		for _, value := range []string{"tooshort", "what this Secret is for", "aaaa", "bbbb"} {
			if strings.Contains(text, value) {
				t.Errorf("the log has %q, which is the value of an entry", value)
			}
		}
	})
}

// keySink is a membership that takes keys.
type keySink struct {
	calls int
	keys  string
	err   error
}

// SetKeys makes k a membership.
func (k *keySink) SetKeys(keys [][]byte) error {
	k.calls++
	if k.err == nil {
		k.keys = lettersOf(keys)
	}
	return k.err
}

// TestMemberKeysChangeWhileSpeakersRun: whatever becomes of the Secret, a speaker that
// runs has keys.
func TestMemberKeysChangeWhileSpeakersRun(t *testing.T) {
	var log bytes.Buffer
	sink := &keySink{keys: "a"}
	w := &keyWatch{
		membership: sink, name: memberSecretName, log: slog.New(slog.NewTextHandler(&log, nil)),
		keys: [][]byte{dataOf("key=a")["key"]},
	}
	for _, step := range []struct {
		story   string
		entries []string
		want    string
		calls   int
		says    string
	}{
		{"nothing has changed", []string{"key=a"}, "a", 0, ""},
		{"a second key comes", []string{"key=a", "next=b"}, "ab", 1, "member keys changed"},
		{"it becomes the first", []string{"key=b", "previous=a"}, "ba", 2, "member keys changed"},
		{"somebody adds a note", []string{"key=b", "previous=a", "note=some text"}, "ba", 2, "entry=note"},
		{"it is still there", []string{"key=b", "previous=a", "note=other text"}, "ba", 2, ""},
		{"the Secret is emptied", nil, "ba", 2, ""},
		{"and filled with a new key at once", []string{"key=c"}, "c", 3, "member keys changed"},
		{"the first becomes nonsense", []string{"key=nonsense", "previous=c"}, "c", 3, "entry=key"},
		{"only others are left", []string{"previous=b"}, "c", 3, ""},
		{"all is well again", []string{"key=c"}, "c", 3, ""},
	} {
		log.Reset()
		w.evaluate(&corev1.Secret{Data: dataOf(step.entries...)})
		if sink.keys != step.want || sink.calls != step.calls {
			t.Errorf("%s: keys %s after %d calls, want %s after %d",
				step.story, sink.keys, sink.calls, step.want, step.calls)
		}
		text := log.String()
		if !strings.Contains(text, step.says) || (step.says == "") != (text == "") ||
			strings.Contains(text, "some text") {
			t.Errorf("%s: the log says %q, want %q", step.story, text, step.says)
		}
	}
	sink.err = errors.New("refused")
	w.evaluate(&corev1.Secret{Data: dataOf("key=d")})
	sink.err = nil
	w.evaluate(&corev1.Secret{Data: dataOf("key=d")})
	if sink.keys != "d" {
		t.Errorf("keys that were refused once are not tried again: %s", sink.keys)
	}
	if kube.MemberKey != "key" {
		t.Error("the entry has another name: change it in docs/install.md too")
	}
}

// waitAMoment lets a poll pass.
func waitAMoment(t *testing.T) {
	t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
}
