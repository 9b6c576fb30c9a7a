package announcer

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links/watch"
)

// stoppableEnv makes the test binary an announcer that can be stopped as a whole.
const stoppableEnv = "BERTH_LAYER2_STOPPABLE"

// beStoppable announces vip4 and vip6 on eth0, says what happens, and resumes when
// it is told to by a line. It ends with its standard input.
func beStoppable() int {
	// Long enough that a busy test machine does not stall it by itself.
	a, err := New(Config{Stall: time.Second, BurstCount: 3, BurstInterval: 200 * time.Millisecond})
	if err != nil {
		return fail(err)
	}
	links, err := watch.Read()
	if err != nil {
		return fail(err)
	}
	a.SetLinks(links)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	a.Set(vip4, on("eth0"))
	a.Set(vip6, on("eth0"))
	for {
		select {
		case <-a.Changed():
			announced := 0
			for _, got := range a.State() {
				if !got.Announced.IsZero() {
					announced++
				}
			}
			fmt.Printf("announced %d suspended %t\n", announced, a.Suspended())
		case _, more := <-lines:
			if !more {
				cancel()
				if err := <-done; err != nil {
					return fail(err)
				}
				return 0
			}
			got := total(a.Stats())
			fmt.Printf("unanswered %d answered %d\n", got.Verdicts[Stalled], got.Replies)
			a.Resume()
		}
	}
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
