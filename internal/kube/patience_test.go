package kube

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An absentee is a transport to an API server that is away for a time. A proxy in front of
// it may answer in its place.
type absentee struct {
	until time.Time
	proxy int // status; 0 for none

	mu       sync.Mutex
	attempts []time.Duration // since the first
	first    time.Time
	open     int // bodies that nobody has closed
}

type body struct {
	io.Reader
	o *absentee
}

func (b body) Close() error {
	b.o.mu.Lock()
	defer b.o.mu.Unlock()
	b.o.open--
	return nil
}

func (o *absentee) RoundTrip(*http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first.IsZero() {
		o.first = time.Now()
	}
	o.attempts = append(o.attempts, time.Since(o.first))
	status := http.StatusOK
	if time.Now().Before(o.until) {
		if status = o.proxy; status == 0 {
			return nil, errors.New("connection refused")
		}
	}
	o.open++
	return &http.Response{
		StatusCode: status,
		Status:     http.StatusText(status),
		Body:       body{strings.NewReader("text"), o},
	}, nil
}

func TestCachesGoOnTrying(t *testing.T) {
	const (
		watch  = "/api/v1/services?watch=true&resourceVersion=7"
		list   = "/api/v1/services?resourceVersion=0"
		direct = "/api/v1/services"
	)
	tests := []struct {
		story  string
		method string
		path   string
		limit  time.Duration // of the request; 0 for none
		proxy  int
		// want is the status of the answer; 0 for an error.
		want    int
		patient bool
	}{
		{story: "a watch", path: watch, want: http.StatusOK, patient: true},
		{
			story:   "a watch behind a proxy without a server",
			path:    watch,
			proxy:   http.StatusServiceUnavailable,
			want:    http.StatusOK,
			patient: true,
		},
		{
			story:   "a proxy that cannot connect",
			path:    watch,
			proxy:   http.StatusBadGateway,
			want:    http.StatusOK,
			patient: true,
		},
		{story: "a list for a cache", path: list, want: http.StatusOK, patient: true},
		{story: "a list that is wanted soon", path: list, limit: time.Hour},
		{story: "a list of what there is now", path: direct},
		{story: "a watch that ends before the outage", path: watch, limit: time.Minute, patient: true},
		{story: "a write", method: http.MethodPut, path: direct},
		{
			story: "a server with too much to do",
			path:  watch,
			proxy: http.StatusTooManyRequests,
			want:  http.StatusTooManyRequests,
		},
		{
			story: "a server that refuses",
			path:  watch,
			proxy: http.StatusForbidden,
			want:  http.StatusForbidden,
		},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const away = 10 * time.Minute
				api := &absentee{until: time.Now().Add(away), proxy: tt.proxy}
				p := &patient{next: api, outage: &outage{log: slog.New(slog.DiscardHandler)}}
				ctx := t.Context()
				if tt.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				req, err := http.NewRequestWithContext(ctx, tt.method, "https://192.0.2.1"+tt.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				resp, err := p.RoundTrip(req)

				got := 0
				if err == nil {
					got = resp.StatusCode
					_ = resp.Body.Close()
				}
				if got != tt.want {
					t.Errorf("status %d, %v, want %d", got, err, tt.want)
				}
				if tries := len(api.attempts); (tries > 1) != tt.patient {
					t.Errorf("%d attempts", tries)
				}
				if api.open != 0 {
					t.Errorf("%d bodies are open", api.open)
				}
				took := time.Since(begin)
				switch {
				case !tt.patient && took > 0:
					t.Errorf("answered after %s", took)
				case tt.limit > 0 && took > tt.limit:
					t.Errorf("ended after %s, the request after %s", took, tt.limit)
				case tt.patient && tt.limit == 0 && (took < away || took > away+lastPause):
					t.Errorf("answered after %s, the API server after %s", took, away)
				}
				for i := 1; i < len(api.attempts); i++ {
					pause := api.attempts[i] - api.attempts[i-1]
					if pause < firstPause/2 || pause > lastPause {
						t.Errorf("attempt %d after a pause of %s", i, pause)
					}
				}
			})
		})
	}
}

// TestAnOutageIsLoggedOnce: the caches of two clients wait for the API server.
func TestAnOutageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		api := &absentee{until: time.Now().Add(time.Hour)}
		one := &outage{log: slog.New(slog.NewTextHandler(&log, nil))}
		var caches sync.WaitGroup
		for range 2 {
			caches.Go(func() {
				const url = "https://192.0.2.1/api/v1/pods?watch=1"
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := (&patient{next: api, outage: one}).RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
			})
		}
		caches.Wait()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="API server unreachable`) ||
			!strings.Contains(lines[1], `level=INFO msg="API server reachable again" duration=1h0m`) {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

// TestWhatIsLoggedOfOutages: an API server that starts answers some requests and refuses
// others, and one that is away again so soon is reported all the same.
func TestWhatIsLoggedOfOutages(t *testing.T) {
	type result struct {
		after   time.Duration // since the result before
		problem string
	}
	const refused, busy = "connection refused", "503 Service Unavailable"
	for _, test := range []struct {
		story   string
		results []result
		want    []string
	}{
		{"nothing happens", []result{{0, ""}, {time.Hour, ""}}, nil},
		{"one outage",
			[]result{{0, refused}, {time.Second, refused}, {time.Minute, ""}, {time.Second, ""}},
			[]string{"unreachable", "reachable again 1m1s"}},
		{"the API server starts, and refuses some requests",
			[]result{{0, refused}, {time.Minute, ""}, {0, busy}, {0, ""}, {time.Second, busy}, {0, busy},
				{time.Second, ""}},
			[]string{"unreachable", "reachable again 1m0s"}},
		{"it is away again soon",
			[]result{{0, refused}, {time.Minute, ""}, {time.Second, refused}, {2 * time.Second, refused},
				{2 * time.Second, refused}, {time.Second, refused}, {time.Minute, ""}},
			[]string{"unreachable", "reachable again 1m0s", "unreachable", "reachable again 1m5s"}},
		{"it is away again later",
			[]result{{0, refused}, {time.Minute, ""}, {time.Minute, refused}, {time.Second, ""}},
			[]string{"unreachable", "reachable again 1m0s", "unreachable", "reachable again 1s"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logged := &messages{}
				o := &outage{log: slog.New(logged)}
				for _, r := range test.results {
					time.Sleep(r.after)
					o.record(r.problem)
				}
				if !slices.Equal(logged.lines, test.want) {
					t.Errorf("logged %q, want %q", logged.lines, test.want)
				}
			})
		})
	}
}

// messages is a log of outages, in few words.
type messages struct {
	slog.Handler
	lines []string
}

// Enabled implements [slog.Handler].
func (*messages) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (m *messages) Handle(_ context.Context, r slog.Record) error {
	line, _, _ := strings.Cut(strings.TrimPrefix(r.Message, "API server "), ";")
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "duration" {
			line += " " + a.Value.Duration().String()
		}
		return true
	})
	m.lines = append(m.lines, line)
	return nil
}
