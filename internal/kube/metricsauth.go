package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// goodFor is how long a token that may read metrics passes before the API
	// server is asked about it again; badFor is the same of one that may not, so
	// that a role that was forgotten helps soon.
	goodFor = 2 * time.Minute
	badFor  = 10 * time.Second
	// provenFor is how long it counts that a token, or somebody at a source, was
	// let in: reviews of them have reserves that strangers cannot spend. Tokens of
	// pods are replaced within the hour.
	provenFor = 2 * time.Hour
	// outageFor is how long a token that was let in passes while the API server
	// does not answer: metrics are wanted most when it is unreachable.
	outageFor = time.Hour
	// maxTokens and maxSources bound what is remembered of each kind. What was
	// used last stays.
	maxTokens  = 256
	maxSources = 1024
	// reviewPatience is how long the API server may take to answer.
	reviewPatience = 5 * time.Second
)

// pace is how many reviews there may be in a second, and how many at once.
type pace struct {
	perSecond rate.Limit
	burst     int
}

// The API server is asked at most so often about tokens that were let in before,
// about others from where somebody was let in, about one address of strangers, about
// a network of IPv6 of which one of them may have all addresses, and about all
// strangers.
var (
	paceKnown     = pace{5, 20}
	paceNeighbour = pace{5, 20}
	paceAddress   = pace{0.5, 5}
	paceNetwork   = pace{2, 12}
	paceStranger  = pace{5, 20}
)

func (p pace) limiter() *rate.Limiter { return rate.NewLimiter(p.perSecond, p.burst) }

// readers finds out who may read metrics. It asks the API server about each token,
// remembers the answer for a while, and bounds how often it asks: strangers can
// neither make it flood the API server, nor keep out those who were let in.
//
// It does what controller-runtime's own filter does, without linking the whole
// of k8s.io/apiserver with it.
type readers struct {
	review func(ctx context.Context, token, path string) (status int, err error)
	log    *slog.Logger
	asking singleflight.Group

	mu      sync.Mutex
	tokens  recent[tokenHash, answered]         // that were let in once
	refused recent[tokenHash, answered]         // that were not
	proven  recent[netip.Addr, time.Time]       // from which somebody was let in, and when
	sources recent[netip.Prefix, *rate.Limiter] // addresses and networks of strangers

	known, neighbours, strangers *rate.Limiter
}

// tokenHash stands for a token and a path: tokens are not kept.
type tokenHash [sha256.Size]byte

// answered is what the API server answered about a token, and when.
type answered struct {
	status int
	at     time.Time
}

func newReaders(
	review func(ctx context.Context, token, path string) (int, error), log *slog.Logger,
) *readers {
	return &readers{
		review:     review,
		log:        log,
		tokens:     recent[tokenHash, answered]{most: maxTokens},
		refused:    recent[tokenHash, answered]{most: maxTokens},
		proven:     recent[netip.Addr, time.Time]{most: maxSources},
		sources:    recent[netip.Prefix, *rate.Limiter]{most: maxSources},
		known:      paceKnown.limiter(),
		neighbours: paceNeighbour.limiter(),
		strangers:  paceStranger.limiter(),
	}
}

// only returns a handler that lets those through to next who may read what they ask
// for.
func (r *readers) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		token, ok := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		if !ok || token == "" {
			http.Error(w, "a bearer token is required", http.StatusUnauthorized)
			return
		}
		remote, _ := netip.ParseAddrPort(request.RemoteAddr)
		status := r.authorize(token, request.URL.Path, sourceOfAddr(remote.Addr()), time.Now())
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, request)
	})
}

// authorize returns the HTTP status for somebody with a token who asks for a path.
func (r *readers) authorize(token, path string, from source, now time.Time) int {
	hash := sha256.Sum256([]byte(path + "\x00" + token))
	if status, known := r.remembered(hash, now); known {
		return status
	}
	// Many who come with one token at once make one review.
	answer, _, _ := r.asking.Do(string(hash[:]), func() (any, error) {
		if status, known := r.remembered(hash, now); known {
			return status, nil
		}
		if !r.mayAsk(hash, from, now) {
			return http.StatusTooManyRequests, nil
		}
		// What one reader waits for is for all of them.
		ctx, cancel := context.WithTimeout(context.Background(), reviewPatience)
		defer cancel()
		status, err := r.review(ctx, token, path)
		if err != nil {
			r.log.Error("cannot authenticate a reader of metrics", "error", err)
		}
		return r.remember(hash, from, answered{status, now}), nil
	})
	return answer.(int)
}

// remembered returns what the API server answered not long ago.
func (r *readers) remembered(hash tokenHash, now time.Time) (status int, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j, ok := r.tokens.get(hash, now); ok && now.Sub(j.at) < goodFor {
		return j.status, true
	}
	if j, ok := r.refused.get(hash, now); ok && now.Sub(j.at) < badFor {
		return j.status, true
	}
	return 0, false
}

// mayAsk reports whether the API server may be asked about somebody now.
func (r *readers) mayAsk(hash tokenHash, from source, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j, ok := r.tokens.get(hash, now); ok && now.Sub(j.at) < provenFor {
		return r.known.AllowN(now, 1)
	}
	if was, ok := r.proven.get(from.addr, now); ok && now.Sub(was) < provenFor {
		return r.neighbours.AllowN(now, 1)
	}
	// What one address may not, it does not take from its network.
	single, _ := from.addr.Prefix(from.addr.BitLen())
	return r.limit(single, paceAddress, now).AllowN(now, 1) &&
		(from.network == single || r.limit(from.network, paceNetwork, now).AllowN(now, 1)) &&
		r.strangers.AllowN(now, 1)
}

// limit returns the limiter of an address or a network of strangers.
func (r *readers) limit(of netip.Prefix, p pace, now time.Time) *rate.Limiter {
	limiter, ok := r.sources.get(of, now)
	if !ok {
		limiter = p.limiter()
		r.sources.put(of, limiter, now)
	}
	return limiter
}

// remember records what the API server answered about a token, and returns the status to
// answer with. When it answered nothing, its answer before counts for a while.
func (r *readers) remember(hash tokenHash, from source, answer answered) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch answer.status {
	case http.StatusOK:
		r.tokens.put(hash, answer, answer.at)
		r.proven.put(from.addr, answer.at, answer.at)
		r.refused.drop(hash)
	case http.StatusUnauthorized, http.StatusForbidden:
		r.tokens.drop(hash)
		r.refused.put(hash, answer, answer.at)
	default:
		if before, ok := r.tokens.get(hash, answer.at); ok && answer.at.Sub(before.at) < outageFor {
			return before.status
		}
	}
	return answer.status
}

// recent is a bounded map. Where one more would be too many, what was not used
// for longest goes.
type recent[K comparable, V any] struct {
	most    int
	entries map[K]*used[V]
}

type used[V any] struct {
	value V
	last  time.Time
}

func (m *recent[K, V]) get(key K, now time.Time) (value V, ok bool) {
	e, ok := m.entries[key]
	if !ok {
		return value, false
	}
	e.last = now
	return e.value, true
}

func (m *recent[K, V]) put(key K, value V, now time.Time) {
	if m.entries == nil {
		m.entries = map[K]*used[V]{}
	}
	if _, there := m.entries[key]; !there && len(m.entries) >= m.most {
		var oldest K
		first := true
		for k, e := range m.entries {
			if first || e.last.Before(m.entries[oldest].last) {
				oldest, first = k, false
			}
		}
		delete(m.entries, oldest)
	}
	m.entries[key] = &used[V]{value, now}
}

func (m *recent[K, V]) drop(key K) { delete(m.entries, key) }

// review asks the API server who has a token and whether they may get a path.
// It returns the HTTP status to answer with.
func review(ctx context.Context, api kubernetes.Interface, token, path string) (int, error) {
	who, err := api.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return http.StatusInternalServerError, fmt.Errorf("token review: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	may, err := api.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:                  user.Username,
			UID:                   user.UID,
			Groups:                user.Groups,
			Extra:                 extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return http.StatusInternalServerError, fmt.Errorf("subject access review: %w", err)
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
