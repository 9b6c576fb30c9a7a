package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// writeFile writes a file that appears whole or not at all.
func writeFile(file string, content []byte, mode os.FileMode) error {
	temporary := file + ".new"
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

// linkOrCopy makes target the same file as source, or a copy where the two are on different file systems.
func linkOrCopy(source, target string) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(source, target) == nil {
		return nil
	}
	return copyFile(source, target)
}

// copyFile copies content and permission bits; the copy appears whole or not at all.
func copyFile(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(target+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), target)
}

// lockFile waits until no other program holds the lock, and takes it. The lock goes with the process, however
// that ends. Whoever holds the lock may delete the file. waiting is called once if there is something to wait
// for.
func lockFile(ctx context.Context, file string, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	for told := false; ; {
		f, err := tryLock(file)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if f != nil {
			return func() { _ = f.Close() }, nil // nothing was written to it
		}
		if !told {
			told = true
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock returns the locked file, or nil if the lock must be tried again.
func tryLock(file string) (*os.File, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		mine, err1 := f.Stat()
		present, err2 := os.Stat(file)
		if err1 == nil && err2 == nil && os.SameFile(mine, present) {
			return f, nil
		}
		// It was deleted by the one who held the lock: it locks nothing any more.
	}
	_ = f.Close() // nothing was written to it
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		return nil, err
	}
	return nil, nil
}

// withLog adds the end of a log file to an error, so that the reader need not look for it.
func withLog(err error, file string) error {
	const lines = 15
	content, readErr := os.ReadFile(file)
	if readErr != nil {
		return fmt.Errorf("%w\n(its log, %s, cannot be read: %w)", err, file, readErr)
	}
	all := bytes.Split(bytes.TrimRight(content, "\n"), []byte("\n"))
	last := all[max(0, len(all)-lines):]
	return fmt.Errorf("%w\nThe end of %s:\n%s", err, file, bytes.Join(last, []byte("\n")))
}

// A finalError ends a poll: trying again cannot help.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// poll calls try until it succeeds, returns a finalError, ctx ends, or limit has passed. Each attempt may
// take up to two seconds. The error starts with failure and ends with the last attempt's.
func poll(
	ctx context.Context, limit, interval time.Duration, failure string, try func(context.Context) error,
) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(limited, 2*time.Second)
		err := try(attempt)
		done()
		if err == nil {
			return nil
		}
		if final := (finalError{}); errors.As(err, &final) {
			return fmt.Errorf("%s: %w", failure, final.error)
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w (last: %w)", failure, ctx.Err(), err)
			}
			return fmt.Errorf("%s within %s: %w", failure, limit, err)
		case <-time.After(interval):
		}
	}
}
