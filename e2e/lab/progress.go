package lab

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A progress tells a person what has been done, one line each with the seconds since the start: "  2.4s  API
// server ready".
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	start time.Time
}

func newProgress(out io.Writer) *progress {
	if out == nil {
		out = io.Discard
	}
	return &progress{out: out, start: time.Now()}
}

// say writes one line. It may be called from several goroutines.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Work goes on where nobody reads this any more.
	_, _ = fmt.Fprintf(p.out, "%6.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
