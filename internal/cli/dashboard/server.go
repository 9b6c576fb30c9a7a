package dashboard

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// keep is how long a snapshot is shown before the API server is asked again.
const keep = 5 * time.Second

// gatherPatience is how long a page waits for a snapshot.
const gatherPatience = time.Minute

// policy is the content security policy of every page: its own style, and nothing else.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'"

// Options are what a Server needs.
type Options struct {
	// Gather reads the cluster. A Server calls it when a page is asked for, and never more
	// than once at a time.
	Gather func(context.Context) (*view.Facts, error)
	// Context names the cluster, as the user's kubeconfig does.
	Context string
	Now     func() time.Time
}

// Server shows pages to the one user who has its token. It changes nothing, and passes no
// request on to the API server.
type Server struct {
	options Options
	hosts   []string // that it is asked for by
	cookie  string   // the name
	token   string   // lets a browser in, once
	session string   // what the cookie has
	mux     *http.ServeMux
	group   singleflight.Group

	mu     sync.Mutex
	used   bool // the token
	last   *view.Facts
	lastAt time.Time

	deciding sync.Mutex // Facts remember what was asked, and are asked by one page at a time
}

// NewServer returns a Server for a port of the loopback address.
func NewServer(port uint16, o Options) *Server {
	s := &Server{
		options: o,
		hosts:   []string{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("localhost:%d", port)},
		cookie:  fmt.Sprintf("berth-dashboard-%d", port), // cookies do not heed ports
		token:   rand.Text(),
		session: rand.Text(),
		mux:     http.NewServeMux(),
	}
	s.mux.HandleFunc("/{$}", s.overviewPage)
	s.mux.HandleFunc("/services", s.servicesPage)
	s.mux.HandleFunc("/nodes", s.nodesPage)
	s.mux.HandleFunc("/explain", s.explainPage)
	s.mux.HandleFunc("/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write([]byte(style))
	})
	return s
}

// URL is where a browser is let in, once.
func (s *Server) URL() string { return "http://" + s.hosts[0] + "/login?token=" + s.token }

// Serve answers requests until ctx ends. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * gatherPatience,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // Serve tells
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the dashboard: %w", err)
	}
	return nil
}

// ServeHTTP refuses whoever is not to be answered, in this order: who asks for another host
// (a name of somebody else that leads here), what would change something, pages of others
// that embed this one, who has no cookie.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch {
	case !slices.Contains(s.hosts, r.Host):
		http.Error(w, "This is not the host that was asked for.", http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "The dashboard changes nothing: GET and HEAD only.", http.StatusMethodNotAllowed)
	case embedded(r):
		http.Error(w, "The dashboard is not for other pages.", http.StatusForbidden)
	case r.URL.Path == "/login":
		s.login(w, r)
	case !s.known(r):
		http.Error(w, "Open the address that the command printed.", http.StatusUnauthorized)
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// embedded reports whether a page of another origin asks, and not a person who follows a link.
func embedded(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Dest") != "document"
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// known reports whether a request has the cookie.
func (s *Server) known(r *http.Request) bool {
	c, err := r.Cookie(s.cookie)
	return err == nil && same(c.Value, s.session)
}

// login gives the cookie for the token, to one browser.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if s.known(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent) // what only looks does not use the token up
		return
	}
	right := same(r.URL.Query().Get("token"), s.token)
	s.mu.Lock()
	used := s.used
	s.used = used || right
	s.mu.Unlock()
	if !right || used {
		http.Error(w, "The address lets in one browser, once. Start the command anew for another.",
			http.StatusForbidden)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name:     s.cookie,
		Value:    s.session,
		Path:     "/",
		HttpOnly: true,
		SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// facts returns a snapshot that is fresh enough. If there is none to be had, it returns the
// last one, and says so.
func (s *Server) facts(ctx context.Context) (f *view.Facts, notice string, err error) {
	s.mu.Lock()
	last, at := s.last, s.lastAt
	s.mu.Unlock()
	if last != nil && s.options.Now().Sub(at) < keep {
		return last, "", nil
	}
	got, err, _ := s.group.Do("", func() (any, error) {
		// Others wait for it too: it does not end with the request that began it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherPatience)
		defer cancel()
		return s.options.Gather(ctx)
	})
	if err != nil && last != nil {
		return last, fmt.Sprintf("The cluster cannot be read: %v. This is what it was at %s.", err,
			at.UTC().Format(time.DateTime)), nil
	}
	if err != nil {
		return nil, "", err
	}
	f = got.(*view.Facts)
	s.mu.Lock()
	s.last, s.lastAt = f, s.options.Now()
	s.mu.Unlock()
	return f, "", nil
}

// show gathers, has fill decide what a page has, and writes it. fill returns the status code.
func (s *Server) show(w http.ResponseWriter, r *http.Request, fill func(*view.Facts, *page) int) {
	p := page{Title: "Berth", Served: true, Links: paths}
	code := http.StatusBadGateway
	f, notice, err := s.facts(r.Context())
	if err != nil {
		p.Message = "The cluster cannot be read: " + err.Error()
	} else {
		s.deciding.Lock()
		p.Taken, p.Unread, p.Notice = f.Taken, f.Unread(), notice
		code = fill(f, &p)
		s.deciding.Unlock()
	}

	var out bytes.Buffer
	if err := render(&out, p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(out.Bytes())
}

func (s *Server) overviewPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, func(f *view.Facts, p *page) int {
		without := r.URL.Query().Get("without")
		if without != "" && !slices.Contains(f.NodeNames(), without) {
			p.Message = fmt.Sprintf("There is no speaker of a node %q.", without)
			return http.StatusNotFound
		}
		p.Overview = newOverview(f, s.options.Context, without, paths)
		p.Title = "Berth: " + p.Overview.Status.Verdict
		return http.StatusOK
	})
}

// queryOf reads what a list is asked for.
func queryOf(r *http.Request) query {
	values := r.URL.Query()
	number, err := strconv.Atoi(values.Get("page"))
	if err != nil {
		number = 1
	}
	return query{
		text:     strings.TrimSpace(values.Get("q")),
		problems: values.Get("problems") != "",
		number:   number,
	}
}

func (s *Server) servicesPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, func(f *view.Facts, p *page) int {
		p.Title, p.List = "Berth: Services", serviceList(f, queryOf(r), paths)
		return http.StatusOK
	})
}

func (s *Server) nodesPage(w http.ResponseWriter, r *http.Request) {
	s.show(w, r, func(f *view.Facts, p *page) int {
		p.Title, p.List = "Berth: Nodes", nodeList(f, queryOf(r), paths)
		return http.StatusOK
	})
}

func (s *Server) explainPage(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	ref := v1alpha1.Ref{
		Kind:      values.Get("kind"),
		Namespace: values.Get("namespace"),
		Name:      values.Get("name"),
	}
	if addr, err := netip.ParseAddr(ref.Name); ref.Kind == "address" && err == nil {
		ref.Name = addr.Unmap().String()
	}
	s.show(w, r, func(f *view.Facts, p *page) int {
		e, found := newExplanation(f, ref, "e0", paths)
		if !found {
			p.Message = fmt.Sprintf("There is no %s %q among what could be read.", ref.Kind,
				strings.TrimPrefix(ref.Namespace+"/"+ref.Name, "/"))
			return http.StatusNotFound
		}
		p.Title, p.Explain = "Berth: "+e.Subject, []explanation{e}
		return http.StatusOK
	})
}
