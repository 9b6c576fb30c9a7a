package bench

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestRepeat: what was measured before a run that failed is kept and returned.
func TestRepeat(t *testing.T) {
	lines, err := Settings{Out: filepath.Join(t.TempDir(), "out")}.OpenLines("")
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no")
	once := func(run int) (map[string]int, error) {
		if run == 3 {
			return nil, failure
		}
		return map[string]int{"run": run}, nil
	}
	results, err := Repeat("test", 5, lines, once)
	if len(results) != 2 || !errors.Is(err, failure) || err.Error() != "run 3: no" {
		t.Errorf("got %v, %v", results, err)
	}
	if err := lines.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(lines.Name()); err != nil || string(text) != "{\"run\":1}\n{\"run\":2}\n" {
		t.Errorf("written %q, %v", text, err)
	}
}

func TestReadSettings(t *testing.T) {
	for _, test := range []struct {
		story, name, value string
		good               bool
	}{
		{"nothing said", "RUNS", "", true},
		{"no run", "RUNS", "0", false},
		{"no pattern", "SCENARIOS", "(", false},
		{"half a minute", "MINUTES", "0.5", false},
		{"no minute", "MINUTES", "0", false},
	} {
		t.Run(test.story, func(t *testing.T) {
			t.Setenv(test.name, test.value)
			s, err := ReadSettings("x", 7)
			if (err == nil) != test.good || test.good && (s.Runs != 7 || s.Minutes != 10 || s.Lab != "x") {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
}
