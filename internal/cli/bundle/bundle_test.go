package bundle

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatDoesNotFitIsTold: whole documents and whole lines are kept, and the rest is told.
func TestWhatDoesNotFitIsTold(t *testing.T) {
	documents := [][]byte{[]byte("a: 1\n"), []byte("b: 2\n"), []byte("c: 3\n")}
	for _, test := range []struct {
		story string
		limit int64
		put   func(*Bundle)
		want  string // names and contents
		cuts  []Cut
	}{
		{"all fits", 100, func(b *Bundle) { b.AddDocuments("x", documents) },
			"x=a: 1\n---\nb: 2\n---\nc: 3\n", nil},
		{"two documents fit", 20, func(b *Bundle) { b.AddDocuments("x", documents) }, "x=a: 1\n---\nb: 2\n",
			[]Cut{{"x", 2, 3, true}}},
		{"none fits", 3, func(b *Bundle) { b.AddDocuments("x", documents) }, "", []Cut{{"x", 0, 3, true}}},
		{"there is none", 3, func(b *Bundle) { b.AddDocuments("x", nil) }, "", nil},
		{"the end of a text", 9, func(b *Bundle) { b.AddText("x", []byte("one\ntwo\nthree\n"), 0) },
			"x=three\n",
			[]Cut{{"x", 6, 14, false}}},
		{"a text whose beginning was not read", 100, func(b *Bundle) {
			b.AddText("x", []byte("three\n"),
				14)
		},
			"x=three\n", []Cut{{"x", 6, 14, false}}},
		{"nothing is left", 6, func(b *Bundle) {
			b.AddText("x", []byte("three\n"), 0)
			b.AddText("y", []byte("four\n"), 0)
		}, "x=three\n", []Cut{{"y", 0, 5, false}}},
		{"an empty text", 6, func(b *Bundle) { b.AddText("x", nil, 0) }, "", nil},
	} {
		b := New(test.limit)
		test.put(b)
		var got []string
		size := 0
		for _, f := range b.Files() {
			got = append(got, f.Name+"="+string(f.Data))
			size += len(f.Data)
		}
		if text := strings.Join(got, "|"); text != test.want || !slices.Equal(b.Cuts(), test.cuts) {
			t.Errorf("%s: got %q, cut %v; want %q, %v", test.story, text, b.Cuts(), test.want, test.cuts)
		}
		if int64(size) > test.limit || b.Left() != test.limit-int64(size) {
			t.Errorf("%s: %d bytes, and %d left of %d", test.story, size, b.Left(), test.limit)
		}
	}
}
