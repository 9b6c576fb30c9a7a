package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Main is the main function of a benchmark of that name: it runs until run returns, or until somebody
// interrupts it.
func Main(name string, run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// Lines is a file of results, each as one line of JSON.
type Lines struct{ file *os.File }

// OpenLines makes the file. Name is the beginning of its name where the environment gave none.
func (s Settings) OpenLines(name string) (*Lines, error) {
	var file *os.File
	var err error
	if s.Out != "" {
		file, err = os.Create(s.Out)
	} else {
		file, err = os.CreateTemp("", name+"-*.jsonl")
	}
	if err != nil {
		return nil, err
	}
	return &Lines{file}, nil
}

// Name is the path of the file.
func (l *Lines) Name() string { return l.file.Name() }

// Close ends writing.
func (l *Lines) Close() error { return l.file.Close() }

// Write adds a result.
func (l *Lines) Write(result any) error {
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, err = l.file.Write(append(text, '\n'))
	return err
}

// Repeat has a scenario run so many times, counted from 1, writes the result of each run, and says how long
// all took. It ends with the first run that could not be measured; those before it count.
func Repeat[R any](scenario string, runs int, lines *Lines, once func(run int) (R, error)) ([]R, error) {
	begin := time.Now()
	var results []R
	for run := 1; run <= runs; run++ {
		r, err := once(run)
		if err != nil {
			return results, fmt.Errorf("run %d: %w", run, err)
		}
		results = append(results, r)
		if err := lines.Write(r); err != nil {
			return results, err
		}
	}
	fmt.Fprintf(os.Stderr, "%s: %d runs in %.0f s\n", scenario, runs, time.Since(begin).Seconds())
	return results, nil
}
