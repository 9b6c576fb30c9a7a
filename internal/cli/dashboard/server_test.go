package dashboard

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/view"
)

func small(t testing.TB) *view.Facts {
	t.Helper()
	return factsOf(t, clitest.New(rack{nodes: 2, services: 2}.objects()...))
}

// TestWhoIsAnswered: only the browser that was let in, by the names of this machine, for what
// changes nothing.
func TestWhoIsAnswered(t *testing.T) {
	s := newServer(small(t))
	let := login(t, s)
	for _, test := range []struct {
		story, method, host, path string
		cookie                    bool
		header                    [2]string
		code                      int
	}{
		{"the browser that was let in", "GET", "127.0.0.1:4711", "/", true, [2]string{}, 200},
		{"by its other name", "GET", "localhost:4711", "/", true, [2]string{}, 200},
		{"without a body", "HEAD", "127.0.0.1:4711", "/", true, [2]string{}, 200},
		{"a name that somebody has lead here", "GET", "evil.example:4711", "/", true, [2]string{}, 421},
		{"another port", "GET", "127.0.0.1:80", "/", true, [2]string{}, 421},
		{"no port", "GET", "127.0.0.1", "/", true, [2]string{}, 421},
		{"a name that ends like ours", "GET", "evil-localhost:4711", "/", true, [2]string{}, 421},
		{"a host that is none, with the token", "GET", "evil.example:4711", "/login?token=" + s.token, false,
			[2]string{}, 421},
		{"POST", "POST", "127.0.0.1:4711", "/", true, [2]string{}, 405},
		{"PUT", "PUT", "127.0.0.1:4711", "/services", true, [2]string{}, 405},
		{"DELETE", "DELETE", "127.0.0.1:4711", "/explain", true, [2]string{}, 405},
		{"OPTIONS", "OPTIONS", "127.0.0.1:4711", "/", true, [2]string{}, 405},
		{"POST of a stranger", "POST", "127.0.0.1:4711", "/login?token=" + s.token, false, [2]string{}, 405},
		{"nobody", "GET", "127.0.0.1:4711", "/", false, [2]string{}, 401},
		{"nobody, for the style", "GET", "127.0.0.1:4711", "/style.css", false, [2]string{}, 401},
		{"nobody, for what is not there", "GET", "127.0.0.1:4711", "/none", false, [2]string{}, 401},
		{"another cookie", "GET", "127.0.0.1:4711", "/", false,
			[2]string{"Cookie", "berth-dashboard-4711=AAAA"}, 401},
		{"an empty cookie", "GET", "127.0.0.1:4711", "/", false,
			[2]string{"Cookie", "berth-dashboard-4711="}, 401},
		{"a page of another port that embeds it", "GET", "127.0.0.1:4711", "/", true,
			[2]string{"Sec-Fetch-Site", "same-site"}, 403},
		{"a page of another site that embeds it", "GET", "127.0.0.1:4711", "/", true,
			[2]string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"its own page, for the style", "GET", "127.0.0.1:4711", "/style.css", true,
			[2]string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"the token once more, of another browser", "GET", "127.0.0.1:4711", "/login?token=" + s.token, false,
			[2]string{}, 403},
		{"the token once more, of the same browser", "GET", "127.0.0.1:4711", "/login?token=" + s.token, true,
			[2]string{}, 303},
		{"another token", "GET", "127.0.0.1:4711", "/login?token=AAAA", false, [2]string{}, 403},
		{"no token", "GET", "127.0.0.1:4711", "/login", false, [2]string{}, 403},
		{"a page that is not there", "GET", "127.0.0.1:4711", "/none", true, [2]string{}, 404},
		{"an object that is not there", "GET", "127.0.0.1:4711", "/explain?kind=node&name=none", true,
			[2]string{}, 404},
		{"a kind that is none", "GET", "127.0.0.1:4711", "/explain?kind=secret&name=none", true,
			[2]string{}, 404},
		{"an address that is none", "GET", "127.0.0.1:4711", "/explain?kind=address&name=x", true,
			[2]string{}, 404},
		{"a node that is not there", "GET", "127.0.0.1:4711", "/?without=none", true, [2]string{}, 404},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), test.method, test.path, http.NoBody)
			r.Host = test.host
			if test.cookie {
				r.AddCookie(let.cookies[0])
			}
			if test.header[0] != "" {
				r.Header.Set(test.header[0], test.header[1])
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != test.code {
				t.Errorf("answered %d, want %d: %.200s", w.Code, test.code, w.Body)
			}
			h := w.Header()
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; " +
					"base-uri 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":       "nosniff",
				"X-Frame-Options":              "DENY",
				"Referrer-Policy":              "no-referrer",
				"Cache-Control":                "no-store",
				"Cross-Origin-Opener-Policy":   "same-origin",
				"Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if test.code == 405 && h.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow is %q", h.Get("Allow"))
			}
			if strings.Contains(w.Body.String(), s.token) || strings.Contains(w.Body.String(), s.session) {
				t.Error("the answer has a secret")
			}
		})
	}
}

// TestTheTokenIsForOneBrowser: the cookie is for this server and no script, and the token
// neither stays in the address nor is used up by what only looks.
func TestTheTokenIsForOneBrowser(t *testing.T) {
	s := newServer(small(t))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/login?token="+s.token, http.NoBody)
	r.Host = "127.0.0.1:4711"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("HEAD is answered %d with cookie %q", w.Code, w.Header().Get("Set-Cookie"))
	}
	c := login(t, s).cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" ||
		c.Value == s.token || len(c.Value) < 26 || !c.Expires.IsZero() {
		t.Errorf("the cookie is %+v", c)
	}
	if other := newServer(nil); other.token == s.token || other.session == s.session {
		t.Error("two servers have the same secrets")
	}
}

// TestTheClusterIsReadForPagesAlone: not before one is asked for, not again while the snapshot
// is fresh, and one that fails leaves the last to be shown, with a word.
func TestTheClusterIsReadForPagesAlone(t *testing.T) {
	f, now, read := small(t), noon, 0
	var failure error
	s := NewServer(4711, Options{
		Gather: func(context.Context) (*view.Facts, error) {
			read++
			return f, failure
		},
		Now: func() time.Time { return now },
	})
	b := login(t, s)
	if read != 0 {
		t.Errorf("the cluster was read %d times before a page was asked for", read)
	}
	for _, path := range []string{"/", "/services", "/nodes", "/style.css"} {
		b.ask(path)
	}
	if read != 1 {
		t.Errorf("the cluster was read %d times for pages of one moment, want 1", read)
	}
	now = now.Add(keep)
	if b.ask("/"); read != 2 {
		t.Errorf("the cluster was read %d times after a while, want 2", read)
	}
	now, failure = now.Add(keep), errors.New("<nobody> answers")
	answer := b.ask("/")
	if _, said := parse(t, answer.Body.String()); answer.Code != 200 ||
		!strings.Contains(said, "<nobody> answers. This is what it was at 2026-11-27 12:00:05") {
		t.Errorf("the last snapshot is answered %d, without the word that it is", answer.Code)
	}
	fresh := NewServer(4711, Options{
		Gather: func(context.Context) (*view.Facts, error) { return nil, failure },
		Now:    func() time.Time { return now },
	})
	answer = login(t, fresh).ask("/")
	_, said := parse(t, answer.Body.String())
	if answer.Code != 502 || !strings.Contains(said, "<nobody> answers") {
		t.Errorf("without any snapshot the page is answered %d: %s", answer.Code, said)
	}
}

// TestServeEndsWithItsContext: over a real listener, which is closed in the end.
func TestServeEndsWithItsContext(t *testing.T) {
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := small(t)
	s := NewServer(uint16(l.Addr().(*net.TCPAddr).Port), Options{
		Gather: func(context.Context) (*view.Facts, error) { return f, nil },
		Now:    time.Now,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusSeeOther || len(answer.Cookies()) != 1 {
		t.Errorf("the printed address is answered %d", answer.StatusCode)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Serve ends with %v", err)
	}
}
