package dashboard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// element is an element of a page.
type element struct {
	name       string
	attributes map[string]string
}

// parse reads a page as XML, which forgives nothing, and returns its elements and its text.
func parse(t *testing.T, text string) (elements []element, said string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var all strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, all.String()
		}
		if err != nil {
			line, column := d.InputPos()
			near := text[max(0, int(d.InputOffset())-150):min(len(text), int(d.InputOffset())+50)]
			t.Fatalf("line %d, column %d: %v, near %q", line, column, err, near)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{token.Name.Local, map[string]string{}}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			elements = append(elements, e)
		case xml.CharData:
			all.Write(token)
		}
	}
}

// harmless checks that a page has no script and asks nobody for anything, and that each id is
// there once and each link within the page leads somewhere.
func harmless(t *testing.T, text string) string {
	t.Helper()
	elements, said := parse(t, text)
	ids := map[string]bool{}
	for _, e := range elements {
		if id := e.attributes["id"]; id != "" {
			if ids[id] {
				t.Errorf("id %s is there twice", id)
			}
			ids[id] = true
		}
	}
	active := []string{"script", "iframe", "object", "embed", "base", "img", "foreignObject"}
	for _, e := range elements {
		if slices.Contains(active, e.name) {
			t.Errorf("the page has an element %s", e.name)
		}
		for name, value := range e.attributes {
			if strings.HasPrefix(name, "on") || name == "style" || name == "src" {
				t.Errorf("%s has %s=%q", e.name, name, value)
			}
			fragment, within := strings.CutPrefix(value, "#")
			switch {
			case name == "href" && within && !ids[fragment], name == "aria-labelledby" && !ids[value],
				name == "for" && !ids[value]:
				t.Errorf("%s of %s leads to %q, which is not there", name, e.name, value)
			case name == "href" && !within && !regexp.MustCompile("^/[^/]*$").MatchString(value):
				t.Errorf("%s leads away: %q", e.name, value)
			}
		}
	}
	return said
}

// browser asks a Server as a browser does that was let in.
type browser struct {
	t       testing.TB
	server  *Server
	cookies []*http.Cookie
}

func newServer(f *view.Facts) *Server {
	return NewServer(4711, Options{
		Gather:  func(context.Context) (*view.Facts, error) { return f, nil },
		Context: "lab",
		Now:     func() time.Time { return noon },
	})
}

func login(t testing.TB, s *Server) *browser {
	t.Helper()
	b := &browser{t: t, server: s}
	answer := b.ask(strings.TrimPrefix(s.URL(), "http://127.0.0.1:4711"))
	if answer.Code != http.StatusSeeOther {
		t.Fatalf("the token is answered %d: %s", answer.Code, answer.Body)
	}
	b.cookies = answer.Result().Cookies()
	return b
}

func (b *browser) ask(path string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, path, http.NoBody)
	r.Host = "127.0.0.1:4711"
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, r)
	return w
}

func snapshotOf(t testing.TB, f *view.Facts) string {
	t.Helper()
	var out bytes.Buffer
	if err := Snapshot(&out, f, "lab"); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// pagesOf returns every kind of page of a cluster.
func pagesOf(t testing.TB, f *view.Facts) map[string]string {
	t.Helper()
	b := login(t, newServer(f))
	out := map[string]string{"file": snapshotOf(t, f)}
	asked := []string{"/", "/services", "/services?problems=yes&q=web", "/nodes", "/nodes?page=9"}
	for _, node := range f.NodeNames()[:min(2, len(f.NodeNames()))] {
		asked = append(asked, "/?"+url.Values{"without": {node}}.Encode())
	}
	for _, r := range explainedIn(f) {
		asked = append(asked, paths.Explain(r))
	}
	asked = append(asked, paths.Explain(v1alpha1.Ref{Kind: "address", Name: "192.0.2.64"}),
		paths.Explain(v1alpha1.Ref{Kind: "address", Name: "192.0.2.190"}))
	for _, path := range asked {
		answer := b.ask(path)
		if answer.Code != http.StatusOK {
			t.Errorf("%s is answered %d", path, answer.Code)
		}
		out[path] = answer.Body.String()
	}
	return out
}

// TestPagesAreWellFormedAndAlone: no page has a script or asks anybody else for anything.
func TestPagesAreWellFormedAndAlone(t *testing.T) {
	f := factsOf(t, clitest.New(rack{nodes: 6, services: 20}.objects()...))
	for name, text := range pagesOf(t, f) {
		t.Run(name, func(t *testing.T) { harmless(t, text) })
	}
}

// TestNamesAreTexts: whatever objects are called, pages show it and do not obey it.
func TestNamesAreTexts(t *testing.T) {
	const evil = `"'><script>alert(1)</script></title></svg><a href=javascript:x onload=x>&amp;{{.}}`
	hostile := rack{nodes: 3, services: 4, name: func(name string) string { return name + evil }}
	f := factsOf(t, clitest.New(hostile.objects()...))
	pages := pagesOf(t, f)
	for name, text := range pages {
		harmless(t, text)
		if strings.Contains(text, "<script") || strings.Contains(strings.ToLower(text), "href=\"javascript") {
			t.Errorf("%s obeys a name", name)
		}
	}
	for _, page := range []string{"file", "/", "/services", "/nodes"} {
		if said := harmless(t, pages[page]); !strings.Contains(said, evil) {
			t.Errorf("%s does not show the name as it is", page)
		}
	}
	b := login(t, newServer(f))
	for _, path := range []string{"/explain?kind=", "/?without=", "/services?q="} {
		harmless(t, b.ask(path+url.QueryEscape(evil)).Body.String())
	}
}

// TestOverviewSaysWhatIs: each part of the page has what the cluster has.
func TestOverviewSaysWhatIs(t *testing.T) {
	f := factsOf(t, clitest.New(rack{nodes: 6, services: 20}.objects()...))
	b := login(t, newServer(f))
	_, said := parse(t, b.ask("/").Body.String())
	for _, want := range []string{
		"Berth: Problems", "context lab", "5 of 6 established",
		"192.0.2.64: held by shop/web00", "192.0.2.128–192.0.2.131", "pool lan excludes it",
		"free or resting", "0 of 65536 assigned, 65536 free",
		"Node node1 announces 192.0.2.64 on eth0 (TakeOver).", "PoolsExhausted",
		"kubectl berth explain service/web2000 -n shop", "node1 (owner)",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	_, said = parse(t, b.ask("/?without=node1").Body.String())
	for _, want := range []string{"if node1 died", "would take over", "other nodes announce it by BGP: 5"} {
		if !strings.Contains(said, want) {
			t.Errorf("with node1 dead the page does not say %q", want)
		}
	}
	_, said = parse(t, b.ask("/explain?kind=service&namespace=shop&name=web00").Body.String())
	for _, want := range []string{"shop/web00", "Handled by Berth", "Layer 2, 192.0.2.64", "TakeOver"} {
		if !strings.Contains(said, want) {
			t.Errorf("the explanation does not say %q", want)
		}
	}
}

// TestWhatIsNotReadIsNotZero: what could not be read is named, and nothing is counted of it.
func TestWhatIsNotReadIsNotZero(t *testing.T) {
	objects := rack{nodes: 3, services: 4}.objects()
	for _, test := range []struct {
		story, forbidden string
		says, never      []string
	}{
		{
			"no Services", "services",
			[]string{"services: Forbidden", "Some addresses: not all Services could be read"},
			[]string{": free", "0, of which 0"},
		},
		{
			"no Speakers", "speakers",
			[]string{"speakers.berth.io: Forbidden", "the Speaker objects could not be read"},
			[]string{"0 of 0 established", "0 of 3 ready"},
		},
		{
			"no Events", "events",
			[]string{"events: Forbidden", "Not all Events could be read"},
			nil,
		},
		{
			"no pools", "ipaddresspools",
			[]string{"ipaddresspools.berth.io: Forbidden", "The pools could not be read."},
			[]string{"0 of 0 assigned"},
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			server := clitest.New(objects...)
			server.Forbidden[test.forbidden] = true
			f := factsOf(t, server)
			for name, text := range map[string]string{
				"the page": login(t, newServer(f)).ask("/").Body.String(),
				"the file": snapshotOf(t, f),
			} {
				said := harmless(t, text)
				for _, want := range test.says {
					if !strings.Contains(said, want) {
						t.Errorf("%s does not say %q", name, want)
					}
				}
				for _, never := range test.never {
					if strings.Contains(said, never) {
						t.Errorf("%s says %q", name, never)
					}
				}
			}
		})
	}
}

// TestTheFileNeedsNoOther: its policy allows its own style, by its hash, and nothing else.
func TestTheFileNeedsNoOther(t *testing.T) {
	text := snapshotOf(t, factsOf(t, clitest.New(rack{nodes: 3, services: 4}.objects()...)))
	policy := regexp.MustCompile(`(?s)content="(default-src 'none';[^"]*)" />.*<style>(.*)</style>`)
	m := policy.FindStringSubmatch(text)
	if m == nil {
		t.Fatal("there is no policy with a style after it")
	}
	sum := sha256.Sum256([]byte(m[2]))
	hash := base64.StdEncoding.EncodeToString(sum[:])
	if !strings.Contains(m[1], "style-src 'sha256-"+hash+"'") {
		t.Errorf("policy %q does not allow the style, whose hash is %s", m[1], hash)
	}
	for _, elsewhere := range []string{"http://", "https://", "url(", "@import"} {
		if strings.Contains(text, elsewhere) {
			t.Errorf("the file has %q", elsewhere)
		}
	}
}

// TestManyServices prints how large the pages of 5,000 Services are and how long they take.
func TestManyServices(t *testing.T) {
	objects := rack{nodes: 6, services: 20}.objects()
	r := rack{nodes: 6}
	for i := range 5000 {
		address := fmt.Sprintf("203.%d.%d.7", i/250, i%250)
		objects = append(objects, r.service(10000+i, address, "big")...)
	}
	f := factsOf(t, clitest.New(objects...))
	b := login(t, newServer(f))
	for _, path := range []string{"/", "/?without=node1", "/services", "/services?page=26",
		"/explain?kind=service&namespace=shop&name=web12000"} {
		began := time.Now()
		answer := b.ask(path)
		t.Logf("%s: %d kB in %v", path, answer.Body.Len()/1000, time.Since(began).Round(time.Millisecond))
		if answer.Code != http.StatusOK || answer.Body.Len() > 2_000_000 {
			t.Errorf("%s is answered %d with %d bytes", path, answer.Code, answer.Body.Len())
		}
	}
	_, said := parse(t, b.ask("/services?page=2").Body.String())
	for _, want := range []string{"5025 in all; part 2 of 26.", "and 4625 more"} {
		if !strings.Contains(said, want) {
			t.Errorf("the list does not say %q", want)
		}
	}
	began := time.Now()
	text := snapshotOf(t, f)
	t.Logf("the file: %d kB in %v", len(text)/1000, time.Since(began).Round(time.Millisecond))
	if said := harmless(t, text); !strings.Contains(said, "4725 more Services are not explained") {
		t.Error("the file does not say what it leaves out")
	}
	if len(text) > 5_000_000 {
		t.Errorf("the file has %d bytes", len(text))
	}
}
