package kube

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
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
