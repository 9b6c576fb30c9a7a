package membership

import (
	"bufio"

	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	ossignal "os/signal"
	"slices"
	"strconv"

	"sync"
	"syscall"
	"testing"
	"time"
)

// The measurements take minutes and are of this machine, so they are run by hand:
//
//	BERTH_MEASURE=1 go test -run Measure -v -timeout 60m ./pkg/membership/
//
// Each member is a process of its own, so that it can be killed and stopped.
const (
	measureEnv = "BERTH_MEASURE"
	childEnv   = "BERTH_MEASURE_MEMBER"
)

// runChild is a member: number, how many there are, profile. It writes what it sees
// to standard output and says what it is told on standard input.
func runChild(args string) {
	var number, count int
	var profile Profile
	if _, err := fmt.Sscan(args, &number, &count, &profile); err != nil {
		panic(err)
	}
	m, err := New(Config{
		Name:     childName(number),
		BindAddr: addrOf(number),
		Port:     testPort,
		Keys:     [][]byte{keyA},
		Timing:   profile.Timing(),
	})
	if err != nil {
		panic(err)
	}
	var peers []netip.AddrPort
	for i := range count {
		peers = append(peers, netip.AddrPortFrom(addrOf(i+2), testPort))
	}
	m.SetPeers(peers)
	ctx, stop := ossignal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			n, _ := strconv.Atoi(in.Text())
			text := []byte(fmt.Sprint(time.Now().UnixNano()))
			for i := range n {
				_ = m.Publish(fmt.Sprintf("claim/10.0.%d.%d", i/256, i%256), text[len(text)-8:])
			}
		}
	}()
	go func() {
		seen := make(map[string]string)
		for range m.Changed() {
			now := time.Now().UnixNano()
			for _, other := range m.Members() {
				// A claim that is the same as the last one's tells how much was heard.
				news := make(map[string]int)
				for _, v := range other.Values {
					news[string(v)]++
				}
				last := string(other.Values["claim/10.0.0.0"])
				line := fmt.Sprintf("%s %s %d", other.Name, other.State, news[last])
				if seen[other.Name] != line+last {
					seen[other.Name] = line + last
					fmt.Println(now, line)
				}
			}
		}
	}()
	if err := m.Run(ctx); err != nil {
		panic(err)
	}
}

func childName(number int) string { return fmt.Sprintf("node%d", number) }

// sight is one line of a child: what it saw of whom, and when.
type sight struct {
	at    time.Time
	of    string
	state State
	said  int
}

// child is the process of one member.
type child struct {
	number int
	cmd    *exec.Cmd
	in     *os.File
	mu     sync.Mutex
	sights []sight
	ended  chan struct{}
}

// fleet is all of them.
type fleet struct {
	t        *testing.T
	profile  Profile
	children []*child
}

func newFleet(t *testing.T, profile Profile, n int) *fleet {
	f := &fleet{t: t, profile: profile, children: make([]*child, n)}
	for i := range n {
		f.start(i)
	}
	t.Cleanup(func() {
		for _, c := range f.children {
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
	})
	f.awaitAll()
	return f
}

func (f *fleet) start(i int) {
	c := &child{number: i + 2, ended: make(chan struct{})}
	c.cmd = exec.Command("/proc/self/exe")
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s",
		childEnv, c.number, len(f.children), f.profile))
	c.cmd.Stderr = os.Stderr
	read, in, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	c.cmd.Stdin, c.in = read, in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	_ = read.Close()
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var at int64
			var s sight
			if _, err := fmt.Sscan(lines.Text(), &at, &s.of, &s.state, &s.said); err == nil {
				s.at = time.Unix(0, at)
				c.mu.Lock()
				c.sights = append(c.sights, s)
				c.mu.Unlock()
			}
		}
		_ = c.cmd.Wait()
		_ = in.Close()
	}()
	f.children[i] = c
}

// state is what a child last saw of another.
func (c *child) state(of string) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slices.Backward(c.sights) {
		if s.of == of {
			return s.state
		}
	}
	return ""
}

// first returns how long after a time a child first saw something.
func (c *child) first(since time.Time, what func(sight) bool) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sights {
		if s.at.After(since) && what(s) {
			return s.at.Sub(since), true
		}
	}
	return 0, false
}

func (f *fleet) await(what string, limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			f.t.Logf("%s, %d members: in vain: %s", f.profile, len(f.children), what)
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// awaitAll waits until all see all alive.
func (f *fleet) awaitAll() {
	f.await("all are alive", time.Minute, func() bool {
		for _, c := range f.children {
			for _, other := range f.children {
				if c.state(childName(other.number)) != Alive {
					return false
				}
			}
		}
		return true
	})
}

// seenBy waits until all others have seen a state of a child, and returns when.
func (f *fleet) seenBy(i int, since time.Time, state State) []time.Duration {
	name := childName(f.children[i].number)
	is := func(s sight) bool { return s.of == name && s.state == state }
	f.await(name+" is "+string(state), time.Minute, func() bool {
		for j, c := range f.children {
			if _, ok := c.first(since, is); j != i && !ok {
				return false
			}
		}
		return true
	})
	var out []time.Duration
	for j, c := range f.children {
		if d, ok := c.first(since, is); j != i && ok {
			out = append(out, d)
		}
	}
	return out
}

// summary is median and maximum of some times.
func summary(times []time.Duration) string {
	if len(times) == 0 {
		return "-"
	}
	slices.Sort(times)
	round := func(d time.Duration) time.Duration {
		if d < 10*time.Millisecond {
			return d.Round(100 * time.Microsecond)
		}
		return d.Round(10 * time.Millisecond)
	}
	return fmt.Sprintf("%s / %s", round(times[len(times)/2]), round(times[len(times)-1]))
}

func measured(t *testing.T) {
	if os.Getenv(measureEnv) == "" {
		t.Skip("set " + measureEnv + "=1 to measure")
	}
}

func rounds(p Profile) int {
	if p == Quiet {
		return 5
	}
	return 12
}

func TestMeasureDetection(t *testing.T) {
	measured(t)
	for _, profile := range Profiles() {
		for _, n := range []int{3, 5, 10} {
			t.Run("", func(t *testing.T) {
				f := newFleet(t, profile, n)
				var dead, first, left, back []time.Duration
				for round := range rounds(profile) {
					i := round % n
					at := time.Now()
					_ = f.children[i].cmd.Process.Kill()
					times := f.seenBy(i, at, Dead)
					dead = append(dead, times...)
					if len(times) > 0 {
						first = append(first, slices.Min(times))
					}
					<-f.children[i].ended
					at = time.Now()
					f.start(i)
					back = append(back, f.seenBy(i, at, Alive)...)
					f.awaitAll()
					// Not always at the same moment of a probe interval.
					time.Sleep(time.Duration(round*37%100) * time.Millisecond)
					at = time.Now()
					_ = f.children[i].cmd.Process.Signal(syscall.SIGTERM)
					left = append(left, f.seenBy(i, at, Left)...)
					<-f.children[i].ended
					f.start(i)
					f.awaitAll()
				}
				t.Logf("| %s | %d | dead, first to know %s | dead, all %s | left %s | back %s |",
					profile, n, summary(first), summary(dead), summary(left), summary(back))
			})
		}
	}
}

func TestMeasureSpread(t *testing.T) {
	measured(t)
	for _, profile := range Profiles() {
		for _, n := range []int{3, 10} {
			t.Run("", func(t *testing.T) {
				f := newFleet(t, profile, n)
				times := make(map[int][]time.Duration)
				for _, claims := range []int{1, 1, 1, 1, 1, 1, 1, 2000, 2000, 2000, 2000, 2000} {
					at := time.Now()
					name := childName(f.children[0].number)
					fmt.Fprintln(f.children[0].in, claims)
					heard := func(c *child) (time.Duration, bool) {
						return c.first(at, func(s sight) bool { return s.of == name && s.said >= claims })
					}
					f.await(fmt.Sprint(claims, " claims"), 30*time.Second, func() bool {
						return !slices.ContainsFunc(f.children, func(c *child) bool {
							_, ok := heard(c)
							return !ok
						})
					})
					for _, c := range f.children[1:] {
						d, _ := heard(c)
						times[claims] = append(times[claims], d)
					}
					time.Sleep(2 * time.Second)
				}
				t.Logf("| %s | %d | one %s | 2000 %s |", profile, n, summary(times[1]), summary(times[2000]))
			})
		}
	}
}

// wrong counts who took whom for dead.
func (f *fleet) wrong(since time.Time, of func(name string) bool) int {
	n := 0
	for _, c := range f.children {
		if _, ok := c.first(since, func(s sight) bool { return s.state == Dead && of(s.of) }); ok {
			n++
		}
	}
	return n
}

func TestMeasurePaused(t *testing.T) {
	measured(t)
	const n = 5
	for _, profile := range Profiles() {
		for _, pause := range []time.Duration{
			300 * time.Millisecond, 600 * time.Millisecond, 1200 * time.Millisecond,
		} {
			t.Run("", func(t *testing.T) {
				f := newFleet(t, profile, n)
				taken, takes, total := 0, 0, 10
				for round := range total {
					i := round % n
					name := childName(f.children[i].number)
					at := time.Now()
					_ = f.children[i].cmd.Process.Signal(syscall.SIGSTOP)
					time.Sleep(pause)
					_ = f.children[i].cmd.Process.Signal(syscall.SIGCONT)
					time.Sleep(2 * time.Second)
					f.awaitAll()
					if f.wrong(at, func(of string) bool { return of == name }) > 0 {
						taken++
					}
					if f.wrong(at, func(of string) bool { return of != name }) > 0 {
						takes++
					}
				}
				t.Logf("| %s | paused %s | taken for dead %d/%d | took another for dead %d/%d |",
					profile, pause, taken, total, takes, total)
			})
		}
	}
}

func TestMeasureBusy(t *testing.T) {
	measured(t)
	for _, profile := range Profiles() {
		for _, hogs := range []int{0, 4, 32} {
			t.Run("", func(t *testing.T) {
				f := newFleet(t, profile, 10)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				at := time.Now()
				var wait sync.WaitGroup
				for range hogs {
					wait.Go(func() { _ = exec.CommandContext(ctx, "sh", "-c", "while :; do :; done").Run() })
				}
				<-ctx.Done()
				wait.Wait()
				time.Sleep(time.Second)
				events := 0
				for _, c := range f.children {
					c.mu.Lock()
					for _, s := range c.sights {
						if s.at.After(at) && s.state == Dead {
							events++
							t.Logf("node%d: %+v after %s", c.number, s, s.at.Sub(at))
						}
					}
					c.mu.Unlock()
				}
				t.Logf("| %s | %d processes busy for 20 s | taken for dead %d times |", profile, hogs, events)
			})
		}
	}
}
