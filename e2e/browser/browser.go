// Package browser drives Debian's Chromium as a person with a keyboard does, and judges what it shows: where
// the focus is, whether colours can be told apart, what was asked of whom.
package browser

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// judge is what pages are judged by. It runs beside them: they need not allow any script.
//
//go:embed judge.js
var judge string

// limit is how long one thing may take on a machine that is busy with other work.
const limit = time.Minute

// A Browser is one Chromium with one page.
type Browser struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	requests []string
	problems []string
}

// Open starts Chromium with a window of this size, and has it end with the test. Where there is no Chromium
// the test is skipped.
func Open(t testing.TB, width, height int) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium: `lab deps --install` installs it")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program),
		chromedp.NoSandbox, // it runs as root, with pages of our own
		chromedp.WindowSize(width, height),
		chromedp.WSURLReadTimeout(limit),
	)
	allocator, end := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log("end chromium:", err)
		}
		cancel()
		end()
	})
	b := &Browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	return b
}

// listen takes note of what the page asks for, and of what the browser says is wrong with it.
func (b *Browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *log.EventEntryAdded:
		b.problems = append(b.problems, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	case *runtime.EventExceptionThrown:
		b.problems = append(b.problems, e.ExceptionDetails.Text)
	}
}

// Requests returns what was asked for, and Problems what the browser found wrong.
func (b *Browser) Requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// Problems returns what the browser found wrong with pages.
func (b *Browser) Problems() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.problems)
}

// call has the browser do one thing of its protocol.
func call[P, R any](b *Browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatalf("chromium: %s: %v", command.Method, err)
	}
}

// result returns what comes of an action.
func result[T any](b *Browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	out, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
	return out
}

// Go opens a page and waits until it is there.
func (b *Browser) Go(url string) {
	b.t.Helper()
	result(b, chromedp.Navigate(url))
}

// Eval evaluates an expression in the page.
func Eval[T any](b *Browser, expression string) T {
	b.t.Helper()
	return result(b, chromedp.Evaluate[T](expression))
}

// Text returns what the page shows as text.
func (b *Browser) Text() string { return Eval[string](b, "document.body.innerText") }

// Scheme has pages prefer "light" or "dark" colours.
func (b *Browser) Scheme(scheme string) {
	b.t.Helper()
	feature := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{feature},
	})
}

// Shot draws the whole page into a file of the directory that BERTH_SHOTS names, if it names one.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	dir := os.Getenv("BERTH_SHOTS")
	if dir == "" {
		return
	}
	png := result(b, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// Keys that pages are used with.
const (
	Tab   = kb.Tab
	Enter = kb.Enter
	Down  = kb.ArrowDown
)

// Press presses keys, one after another.
func (b *Browser) Press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		result(b, chromedp.KeyEvent(key))
	}
}

// Follow presses a key that leads to another page, and waits until that is there.
func (b *Browser) Follow(key string) {
	b.t.Helper()
	result(b, func(ctx context.Context, _ *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.RunResponse(ctx, chromedp.KeyEvent(key))
		return chromedp.Void{}, err
	})
}

// A Control is what a person can act on in a page, or what Tab leads to.
type Control struct {
	Tag, Text, Href string
	// Outline is how wide the outline is that shows the focus, in pixels, and Contrast its contrast ratio
	// with what is behind it.
	Outline, Contrast float64
	// Seen is true if it is in the window.
	Seen bool
}

// Controls returns the controls of the page that are to be reached with Tab, in the order of the page.
func (b *Browser) Controls() []Control { return Eval[[]Control](b, judge+"; judge.controls()") }

// Beyond returns where links of the page lead that Tab does not reach, and that no other link leads to.
func (b *Browser) Beyond() []string { return Eval[[]string](b, judge+"; judge.beyond()") }

// Walk presses Tab until the focus leaves the page, and returns each control that has it.
func (b *Browser) Walk() []Control {
	b.t.Helper()
	Eval[bool](b, "document.activeElement.blur(), window.scrollTo(0, 0), true")
	most := len(b.Controls()) + 10
	var out []Control
	for range most {
		b.Press(Tab)
		at := Eval[*Control](b, judge+"; judge.focused()")
		if at == nil {
			return out
		}
		out = append(out, *at)
	}
	return out
}

// TabTo presses Tab until what has the focus matches a selector of CSS, and its text or value has text in it.
func (b *Browser) TabTo(selector, text string) {
	b.t.Helper()
	test := fmt.Sprintf("(() => { const e = document.activeElement; return e.matches(%q) && "+
		"(e.textContent + (e.value ?? '')).includes(%q) })()", selector, text)
	for range len(b.Controls()) + 10 {
		b.Press(Tab)
		if Eval[bool](b, test) {
			return
		}
	}
	b.t.Fatalf("Tab does not lead to %s with %q", selector, text)
}

// Weak returns the texts and lines of the page whose contrast with what is behind them is less than WCAG 2.2
// asks for (1.4.3 and 1.4.11), and how many were judged.
func (b *Browser) Weak() (weak []string, judged int) {
	b.t.Helper()
	out := Eval[struct {
		Weak   []string
		Judged int
	}](b, judge+"; judge.contrasts()")
	return out.Weak, out.Judged
}
