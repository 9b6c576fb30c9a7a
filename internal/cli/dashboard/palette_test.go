package dashboard

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
)

// colours reads the colours of a part of the style.
func colours(t *testing.T, part string) map[string][3]float64 {
	t.Helper()
	out := map[string][3]float64{}
	for _, m := range regexp.MustCompile(`--([a-z]+): #([0-9a-f]{6});`).FindAllStringSubmatch(part, -1) {
		var rgb [3]int
		if _, err := fmt.Sscanf(m[2], "%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
			t.Fatal(err)
		}
		var c [3]float64
		for i, v := range rgb {
			c[i] = float64(v) / 255
		}
		out[m[1]] = c
	}
	return out
}

// luminance is relative luminance as WCAG 2.2 defines it.
func luminance(c [3]float64) float64 {
	for i, v := range c {
		if v <= 0.04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
}

// contrast is the contrast ratio as WCAG 2.2 defines it.
func contrast(a, b [3]float64) float64 {
	light, dark := luminance(a), luminance(b)
	return (max(light, dark) + 0.05) / (min(light, dark) + 0.05)
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	white, black, grey := [3]float64{1, 1, 1}, [3]float64{}, [3]float64{0x77 / 255., 0x77 / 255., 0x77 / 255.}
	if got := contrast(white, black); math.Abs(got-21) > 0.01 {
		t.Errorf("white on black has %f, want 21", got)
	}
	if got := contrast(white, grey); math.Abs(got-4.48) > 0.01 {
		t.Errorf("#777 on white has %f, want 4.48", got)
	}
}

// TestColoursHaveContrast: texts have 4.5 to 1 on what they stand on (WCAG 1.4.3), lines and
// frames 3 to 1 (1.4.11), in light and in dark.
func TestColoursHaveContrast(t *testing.T) {
	light, dark, found := strings.Cut(style, "@media (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("there are no dark colours")
	}
	dark, _, _ = strings.Cut(dark, "* {")
	for scheme, part := range map[string]string{"light": light, "dark": dark} {
		c := colours(t, part)
		if len(c) != 11 {
			t.Fatalf("%s has %d colours: does this test still see them?", scheme, len(c))
		}
		check := func(front, back string, want float64) {
			if got := contrast(c[front], c[back]); got < want {
				t.Errorf("%s: %s on %s has %.2f, want %.1f", scheme, front, back, got, want)
			}
		}
		for _, back := range []string{"page", "panel"} {
			for _, text := range []string{"text", "muted", "ok", "problem", "unknown", "accent"} {
				check(text, back, 4.5)
			}
			check("frame", back, 3)
		}
		check("mark", "free", 3)
		check("frame", "free", 3)
		check("accent", "free", 3)
	}
	if rest := strings.SplitAfterN(style, "* {", 2)[1]; regexp.MustCompile(`#[0-9a-f]{3}`).MatchString(rest) {
		t.Error("a colour is used that has no name, and that this test does not see")
	}
}
