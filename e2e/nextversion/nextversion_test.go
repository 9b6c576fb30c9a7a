package nextversion

import "testing"

// TestTheChangesApply: the sources still have what the next version does otherwise.
func TestTheChangesApply(t *testing.T) {
	changed, err := Changed("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, c := range changes {
		files[c.file] = true
	}
	if len(changed) != len(files) {
		t.Errorf("%d files are changed, want %d", len(changed), len(files))
	}
}
