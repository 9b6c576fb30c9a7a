package dashboard

import (
	"fmt"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/cli/clitest"
)

// TestShots has Chromium draw pages into the directory that BERTH_SHOTS names, for a person to
// look at: in light and dark, on a telephone and on a screen.
func TestShots(t *testing.T) {
	dir := os.Getenv("BERTH_SHOTS")
	if dir == "" {
		t.Skip("BERTH_SHOTS names no directory: make dashboard-shots")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("no chromium: %v", err)
	}
	f := factsOf(t, clitest.New(rack{nodes: 6, services: 20}.objects()...))
	pages := map[string]string{"file": snapshotOf(t, f)}
	b := login(t, newServer(f))
	served := `<link rel="stylesheet" href="/style.css" />`
	for name, path := range map[string]string{
		"overview": "/",
		"what-if":  "/?without=node1",
		"services": "/services",
		"explain":  "/explain?kind=service&namespace=shop&name=web00",
		"pool":     "/explain?kind=pool&name=lan",
	} {
		// As it is served, with the style in it.
		pages[name] = strings.Replace(b.ask(path).Body.String(), served, string(fileHead()), 1)
	}
	many := factsOf(t, clitest.New(rack{nodes: 12, services: 5000}.objects()...))
	crowd := login(t, newServer(many))
	pages["many-file"] = snapshotOf(t, many)
	for name, path := range map[string]string{"many-overview": "/", "many-services": "/services"} {
		pages[name] = strings.Replace(crowd.ask(path).Body.String(), served, string(fileHead()), 1)
	}
	for name, text := range pages {
		page := filepath.Join(t.TempDir(), name+".html")
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int{390, 1280} {
			to := filepath.Join(dir, fmt.Sprintf("%s-%d", name, width))
			light := shoot(t, chromium, page, to+"-light.png", width)
			dark := shoot(t, chromium, page, to+"-dark.png", width, "--blink-settings=preferredColorScheme=0")
			if light == dark {
				t.Errorf("%s is as light in dark: %v", name, light)
			}
		}
	}
}

// shotHeight is how much of a page is drawn, in pixels.
const shotHeight = 4200

// shoot draws a page, and returns the colour of its corner.
func shoot(t *testing.T, chromium, page, file string, width int, more ...string) color.Color {
	t.Helper()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
		"--user-data-dir=" + t.TempDir(),
		fmt.Sprintf("--window-size=%d,%d", width, shotHeight),
		"--screenshot=" + file,
	}, more...)
	out, err := exec.CommandContext(t.Context(), chromium, append(args, "file://"+page)...).CombinedOutput()
	if err != nil {
		t.Fatalf("chromium: %v: %s", err, out)
	}
	r, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // it was only read
	shot, err := png.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := shot.Bounds().Dx(); got != width {
		t.Errorf("%s is %d wide, want %d", file, got, width)
	}
	return shot.At(width-3, shotHeight-10)
}
