package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLockIsHeldByOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	ctx := context.Background()
	unlock, err := lockFile(ctx, file, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	waited := 0
	_, err = lockFile(short, file, func() { waited++ })
	if !errors.Is(err, context.DeadlineExceeded) || waited != 1 {
		t.Errorf("a held lock: error %v, told %d times", err, waited)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	unlock()
	again, err := lockFile(ctx, file, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestPoll(t *testing.T) {
	ctx, cause := context.Background(), errors.New("cause")
	attempts := 0
	err := poll(ctx, time.Minute, time.Millisecond, "no luck", func(context.Context) error {
		if attempts++; attempts < 3 {
			return cause
		}
		return nil
	})
	if err != nil || attempts != 3 {
		t.Errorf("%v after %d attempts", err, attempts)
	}
	err = poll(ctx, time.Minute, time.Millisecond, "no luck", func(context.Context) error {
		return finalError{cause}
	})
	if !errors.Is(err, cause) || err.Error() != "no luck: cause" {
		t.Errorf("a final error becomes %v", err)
	}
	err = poll(ctx, 20*time.Millisecond,
		time.Millisecond, "no luck", func(context.Context) error { return cause })
	if !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "no luck within 20ms") {
		t.Errorf("at the limit: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	err = poll(cancelled, time.Minute, time.Millisecond, "no luck", func(context.Context) error {
		return cause
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWithLogShowsTheEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(file, []byte(strings.Repeat("line\n", 50)+"last\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	err := withLog(cause, file)
	if !errors.Is(err, cause) || !strings.HasSuffix(err.Error(), "\nlast") ||
		strings.Count(err.Error(), "line") > 20 {
		t.Error(err)
	}
}

func TestRemoveStateKeepsLogs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"logs", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeState(dir, true); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || filepath.Base(left[0]) != "logs" {
		t.Errorf("left: %v", left)
	}
	if err := removeState(dir, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}
