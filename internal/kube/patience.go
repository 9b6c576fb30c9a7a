package kube

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// How long a patient request waits before its next attempt: firstPause after the
// first failure, doubling up to lastPause. Each pause is drawn from its upper half, so
// that a thousand nodes do not return at one moment.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 5 * time.Second
)

// patient is a transport that goes on trying the requests that fill a cache while the
// API server is unreachable. Were the failure passed on, client-go would try again
// after delays that double to a minute (defaultBackoffMax and its jitter, in
// client-go's reflector.go), and Berth would be blind for that long after the API
// server is back. Any other request fails at once and is left to whoever made it. A
// bearer token that expires meanwhile costs one more attempt: the answer is 401 then, and
// client-go asks again with a new one.
type patient struct {
	next   http.RoundTripper
	outage *outage
}

// RoundTrip implements [http.RoundTripper].
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	if !fillsCache(req) {
		return p.next.RoundTrip(req)
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		resp, err := p.next.RoundTrip(req)
		if req.Context().Err() != nil {
			return resp, err
		}
		problem := unreachable(resp, err)
		p.outage.record(problem)
		if problem == "" {
			return resp, nil
		}
		if resp != nil {
			discard(resp.Body)
		}
		if !sleep(req.Context(), pause/2+rand.N(pause/2)) { //nolint:gosec // spreads load, keeps no secret
			return nil, context.Cause(req.Context())
		}
	}
}

// fillsCache reports whether a request is one of those by which client-go's reflectors
// fill a cache: a watch, or a list that may be answered from the API server's own cache
// and has no deadline. Neither has a body.
func fillsCache(req *http.Request) bool {
	if req.Method != http.MethodGet {
		return false
	}
	query := req.URL.Query()
	_, limited := req.Context().Deadline()
	return query.Has("watch") || query.Has("resourceVersion") && !limited
}

// unreachable returns why no API server has answered; empty if one has. A proxy in front
// of API servers answers for them with 502 or 503 while it reaches none.
func unreachable(resp *http.Response, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable:
		return resp.Status
	default:
		return ""
	}
}

// WrappedRoundTripper implements apimachinery's net.RoundTripperWrapper: client-go looks
// for what can cancel a request.
func (p *patient) WrappedRoundTripper() http.RoundTripper { return p.next }

// flapTime is how long a failure right after the API server's return is not logged: while
// it starts, it answers some requests and refuses others.
const flapTime = 5 * time.Second

// outage logs when the API server becomes unreachable and when it answers again, once for
// all transports of a process.
type outage struct {
	log *slog.Logger

	mu sync.Mutex
	// since is when the first of the requests that are being tried again failed; zero
	// while the API server answers. logged is set when that has been logged.
	since  time.Time
	logged bool
	ended  time.Time // when the outage before was over; zero for none
}

// record takes the result of a request: why nobody answered, or nothing.
func (o *outage) record(problem string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if problem == "" {
		if o.logged {
			o.log.Info("API server reachable again", "duration", now.Sub(o.since).Round(time.Millisecond))
			o.ended = now
		}
		o.since, o.logged = time.Time{}, false
		return
	}
	if o.since.IsZero() {
		o.since = now
	}
	if flaps := now.Sub(o.ended) < flapTime; !o.logged && !flaps {
		o.log.Warn("API server unreachable; what is cached stays in use", "error", problem)
		o.logged = true
	}
}

// discard reads the rest of a short answer, so that its connection can be used again.
func discard(body io.ReadCloser) {
	const most = 64 << 10
	_, _ = io.CopyN(io.Discard, body, most)
	_ = body.Close()
}

// sleep waits, and reports whether the time has passed before the context's end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
