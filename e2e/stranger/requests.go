package stranger

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Client fetches by https from whoever answers, on a new connection each time: a stranger checks no
// certificate.
func Client(dial Dialer, limit time.Duration) *http.Client {
	return &http.Client{
		Timeout: limit,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       dial,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		},
	}
}

// Scrape fetches a page with a bearer token and returns the HTTP status and the body, at most a MiB of it.
func Scrape(
	ctx context.Context, client *http.Client, url, token string,
) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read from
	body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, body, err
}

// maxPending is how many requests a stranger has under way at once.
const maxPending = 64

// Requests asks for a page so many times a second, each time with another bogus token, and counts the answers
// by HTTP status; 0 counts those that did not come.
func Requests(
	ctx context.Context, client *http.Client, url string, perSecond int, howLong time.Duration,
) map[int]int {
	ctx, cancel := context.WithTimeout(ctx, howLong)
	defer cancel()
	var (
		mu      sync.Mutex
		all     sync.WaitGroup
		n       int
		answers = map[int]int{}
		pending = make(chan struct{}, maxPending)
	)
	every(ctx, perSecond, func() {
		select {
		case pending <- struct{}{}:
		case <-ctx.Done():
			return
		}
		n++
		token := fmt.Sprintf("nobody-%d", n)
		all.Go(func() {
			defer func() { <-pending }()
			status, _, err := Scrape(ctx, client, url, token)
			if err != nil {
				status = 0
			}
			if ctx.Err() != nil {
				return // it was cut off by the end
			}
			mu.Lock()
			answers[status]++
			mu.Unlock()
		})
	})
	all.Wait()
	return answers
}
