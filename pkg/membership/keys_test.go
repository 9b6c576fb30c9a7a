package membership

import (
	"bytes"
	"slices"
	"testing"
)

func TestKeyringKeepsTheOrderThatWasSet(t *testing.T) {
	keyC := bytes.Repeat([]byte{'c'}, 24)
	k, err := newKeyring([][]byte{keyA, keyB, keyC})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][][]byte{{keyA, keyB, keyC}, {keyC, keyA}, {keyB, keyC}, {keyA}, {keyC, keyB, keyA}} {
		if err := k.set(want); err != nil {
			t.Fatal(err)
		}
		if got := k.ring.GetKeys(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("keys %q, want %q", got, want)
		}
	}
	if err := k.set([][]byte{keyB, []byte("short")}); err == nil || len(k.ring.GetKeys()) != 3 {
		t.Errorf("a bad key: error %v, %d keys left", err, len(k.ring.GetKeys()))
	}
}
