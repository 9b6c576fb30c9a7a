package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func TestWhoMayReadMetrics(t *testing.T) {
	for _, test := range []struct {
		story         string
		authenticated bool
		allowed       bool
		fails         error
		want          int
	}{
		{"known and allowed", true, true, nil, http.StatusOK},
		{"known but not allowed", true, false, nil, http.StatusForbidden},
		{"not known", false, true, nil, http.StatusUnauthorized},
		{"the API server is away", true, true, errors.New("away"), http.StatusInternalServerError},
	} {
		t.Run(test.story, func(t *testing.T) {
			api := fake.NewClientset()
			resource := "tokenreviews"
			api.PrependReactor("create", resource, func(a ktesting.Action) (bool, runtime.Object, error) {
				r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
				if r.Spec.Token != "secret" {
					t.Errorf("token %q is reviewed", r.Spec.Token)
				}
				r.Status.Authenticated = test.authenticated
				r.Status.User.Username = "prometheus"
				return true, r, test.fails
			})
			resource = "subjectaccessreviews"
			api.PrependReactor("create", resource, func(a ktesting.Action) (bool, runtime.Object, error) {
				r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
				if r.Spec.User != "prometheus" || r.Spec.NonResourceAttributes.Path != "/metrics" {
					t.Errorf("access review of %+v", r.Spec)
				}
				r.Status.Allowed = test.allowed
				return true, r, nil
			})
			got, err := review(context.Background(), api, "secret", "/metrics")
			if got != test.want || (err != nil) != (test.fails != nil) {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
}

// asked is a fake API server that knows some tokens, and counts what it is asked.
type asked struct {
	good  map[string]bool
	fails error
	takes time.Duration
	mu    sync.Mutex
	of    map[string]int
}

func (a *asked) review(_ context.Context, token, _ string) (int, error) {
	time.Sleep(a.takes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.of[token]++
	switch {
	case a.fails != nil:
		return http.StatusInternalServerError, a.fails
	case a.good[token]:
		return http.StatusOK, nil
	}
	return http.StatusUnauthorized, nil
}

func (a *asked) all() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, times := range a.of {
		n += times
	}
	return n
}

func from(addr string) source { return sourceOfAddr(netip.MustParseAddr(addr)) }

// TestNeighboursOfAStrangerAreHeard: a stranger comes a hundred times a second with
// tokens of its invention. A scraper in the same /64 is let in the first time that it
// asks, and so is one whose token is new. A stranger with all addresses of another
// /64 does not keep out those elsewhere either.
func TestNeighboursOfAStrangerAreHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &asked{good: map[string]bool{"first": true, "second": true, "elsewhere": true}}
		r := newReaders(api.review, slog.New(slog.DiscardHandler))
		flood := func(stranger func(i int) string) {
			for i := range 2000 {
				bad := fmt.Sprint("bad ", time.Now(), i)
				if got := r.authorize(bad, "/metrics", from(stranger(i)), time.Now()); got == http.StatusOK {
					t.Fatalf("a bad token: %d", got)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		flood(func(int) string { return "fd77::66" })
		for _, token := range []string{"first", "second"} {
			if got := r.authorize(token, "/metrics", from("fd77::100"), time.Now()); got != http.StatusOK {
				t.Errorf("a neighbour with the token %q: %d", token, got)
			}
		}
		flood(func(i int) string { return fmt.Sprintf("fd99::%x", i) })
		got := r.authorize("elsewhere", "/metrics", from("fd78::100"), time.Now())
		if got != http.StatusOK {
			t.Errorf("somebody elsewhere: %d", got)
		}
	})
}

// TestStrangersDoNotLockScrapersOut: for two hours and a half strangers from many sources,
// also from the scraper's own, come with tokens of their invention. A scraper that
// was let in once is always let in, also when its token is replaced, and the API
// server is not flooded.
func TestStrangersDoNotLockScrapersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &asked{good: map[string]bool{}}
		r := newReaders(api.review, slog.New(slog.DiscardHandler))
		token := func(at time.Duration) string { return fmt.Sprint("good", at/time.Hour) }
		ask := func(token, source string) int {
			return r.authorize(token, "/metrics", from(source), time.Now())
		}
		api.good[token(0)] = true
		if got := ask(token(0), "10.0.0.1"); got != http.StatusOK {
			t.Fatalf("at first: %d", got)
		}
		for at := time.Duration(0); at < 150*time.Minute; at += 2 * time.Second {
			clear(api.good)
			api.good[token(at)] = true
			for i := range 7 {
				stranger := fmt.Sprintf("10.1.%d.%d", int(at/time.Second)%200, i)
				if i == 0 && at%(20*time.Second) == 0 {
					stranger = "10.0.0.1" // a pod behind the same address
				}
				if got := ask(fmt.Sprintf("bad %d %d", at, i), stranger); got == http.StatusOK {
					t.Fatal("a stranger is let in")
				}
			}
			if at%(30*time.Second) == 0 {
				if got := ask(token(at), "10.0.0.1"); got != http.StatusOK {
					t.Fatalf("after %s the scraper is answered %d", at, got)
				}
			}
			time.Sleep(2 * time.Second)
		}
		if n, most := api.all(), int((6*time.Hour).Seconds())*int(paceStranger.perSecond)+1500; n > most {
			t.Errorf("the API server was asked %d times, of at most %d", n, most)
		}
	})
}

func TestWhatIsRememberedOfTokens(t *testing.T) {
	type step struct {
		after  time.Duration
		token  string
		source string
		want   int
		asks   int // of the API server, by this step
	}
	good, ok, no, busy := "good", http.StatusOK, http.StatusUnauthorized, http.StatusTooManyRequests
	for _, test := range []struct {
		story string
		steps []step
		then  func(a *asked) // before the last step
	}{
		{"who is let in passes for two minutes", []step{
			{0, good, "10.0.0.1", ok, 1},
			{time.Minute, good, "10.0.0.9", ok, 0}, {61 * time.Second, good, "10.0.0.1", ok, 1},
		}, nil},
		{"a token that is taken back passes for two minutes", []step{
			{0, good, "10.0.0.1", ok, 1}, {2 * time.Minute, good, "10.0.0.1", no, 1},
		}, func(a *asked) { clear(a.good) }},
		{"who is refused is refused for ten seconds without a question", []step{
			{0, "bad", "10.0.0.1", no, 1},
			{9 * time.Second, "bad", "10.0.0.1", no, 0}, {time.Second, "bad", "10.0.0.1", ok, 1},
		}, func(a *asked) { a.good["bad"] = true }},
		{"one source is asked about five times, then every two seconds", []step{
			{0, "1", "10.0.0.1", no, 1}, {0, "2", "10.0.0.1", no, 1}, {0, "3", "10.0.0.1", no, 1},
			{0, "4", "10.0.0.1", no, 1}, {0, "5", "10.0.0.1", no, 1},
			{0, "6", "10.0.0.1", busy, 0}, {2 * time.Second, "7", "10.0.0.1", no, 1},
			{0, "8", "10.0.0.1", busy, 0}, {0, "8", "10.0.0.2", no, 1},
		}, nil},
		{"while the API server is away, who was let in stays so for an hour", []step{
			{0, good, "10.0.0.1", ok, 1}, {59 * time.Minute, good, "10.0.0.1", ok, 1},
		}, func(a *asked) { a.fails = errors.New("away") }},
		{"and no longer", []step{
			{0, good, "10.0.0.1", ok, 1}, {time.Hour, good, "10.0.0.1", http.StatusInternalServerError, 1},
		}, func(a *asked) { a.fails = errors.New("away") }},
		{"that it is away is not remembered", []step{
			{0, "bad", "10.0.0.1", no, 1},
			{10 * time.Second, "bad", "10.0.0.1", http.StatusInternalServerError, 1},
		}, func(a *asked) { a.fails = errors.New("away") }},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &asked{good: map[string]bool{good: true}}
				r := newReaders(api.review, slog.New(slog.DiscardHandler))
				for i, s := range test.steps {
					time.Sleep(s.after)
					if i == len(test.steps)-1 && test.then != nil {
						test.then(api)
					}
					before := api.all()
					got := r.authorize(s.token, "/metrics", from(s.source), time.Now())
					if got != s.want || api.all()-before != s.asks {
						t.Errorf("step %d: answered %d with %d questions, want %d with %d",
							i, got, api.all()-before, s.want, s.asks)
					}
				}
			})
		})
	}
}

func TestOneReviewForManyWhoComeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &asked{good: map[string]bool{"good": true}, takes: time.Second}
		r := newReaders(api.review, slog.New(slog.DiscardHandler))
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				got := r.authorize("good", "/metrics", from("10.0.0.1"), time.Now())
				if got != http.StatusOK {
					t.Errorf("answered %d", got)
				}
			})
		}
		asking.Wait()
		if n := api.all(); n != 1 {
			t.Errorf("the API server was asked %d times", n)
		}
	})
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	m := recent[int, int]{most: 3}
	now := time.Unix(1e9, 0)
	for i := range 5 {
		m.put(i, i, now.Add(time.Duration(i)*time.Second))
		m.get(0, now.Add(time.Duration(i)*time.Second)) // the first is used all the time
	}
	for key, want := range map[int]bool{0: true, 1: false, 2: false, 3: true, 4: true} {
		if _, ok := m.get(key, now); ok != want {
			t.Errorf("%d is remembered: %v", key, ok)
		}
	}
	m.drop(0)
	if _, ok := m.get(0, now); ok || len(m.entries) != 2 {
		t.Errorf("after a drop there are %d", len(m.entries))
	}
}

// TestMetricsPort: over TLS, with a token, and to nobody else; a stranger who opens
// connections and says nothing keeps nobody out.
func TestMetricsPort(t *testing.T) {
	api := fake.NewClientset()
	api.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
		r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		r.Status.Authenticated = r.Spec.Token == "secret"
		return true, r, nil
	})
	resource := "subjectaccessreviews"
	api.PrependReactor("create", resource, func(a ktesting.Action) (bool, runtime.Object, error) {
		r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		r.Status.Allowed = true
		return true, r, nil
	})
	server, err := metricsServer(t.Context(), "127.0.0.1:0", api, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Start(ctx) }()
	address := server.Listener.Addr().String()
	for range 300 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, //nolint:gosec // its certificate is for nobody to check
		},
	}}
	for token, want := range map[string]int{
		"":              http.StatusUnauthorized,
		"Bearer wrong":  http.StatusUnauthorized,
		"Bearer secret": http.StatusOK,
	} {
		url := "https://" + address + "/metrics"
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", token)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != want ||
			(want == http.StatusOK) != strings.Contains(string(text), "go_goroutines") {
			t.Errorf("%q is answered %d with %d bytes, want %d", token, response.StatusCode, len(text), want)
		}
	}
	client.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
