package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestTheDashboardIsWrittenAsAFile: with what the cluster has, for the user alone.
func TestTheDashboardIsWrittenAsAFile(t *testing.T) {
	config := shop(t).Start(t)
	file := filepath.Join(t.TempDir(), "berth.html")
	if got := run(t, config, "dashboard", "--snapshot", file); got.code != ExitOK || got.out+got.err != "" {
		t.Fatalf("got %+v", got)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Berth: Problems", "context lab", "10.77.0.200", "PoolsExhausted"} {
		if !bytes.Contains(raw, []byte(want)) {
			t.Errorf("the file does not have %q", want)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %o", info.Mode().Perm())
	}
	if got := run(t, config, "dashboard", "--snapshot", "-"); got.code != ExitOK || got.out != string(raw) {
		t.Errorf("what is printed is not what the file has: %d bytes, %s", len(got.out), got.err)
	}
	for _, test := range []struct{ args, says string }{
		{"dashboard --snapshot " + filepath.Join(file, "none"), "--snapshot: open"},
		{"dashboard --snapshot x --port 80", "none of the others can be"},
		{"dashboard --port 70000", "invalid argument"},
		{"dashboard extra", "unknown command"},
	} {
		got := run(t, config, strings.Fields(test.args)...)
		if got.code != ExitError || !strings.Contains(got.err, test.says) {
			t.Errorf("%s: exit code %d, says %q, want %q in it", test.args, got.code, got.err, test.says)
		}
	}
}

// TestTheDashboardIsServed: the printed address lets a browser in, which then sees the cluster;
// the command ends when interrupted.
func TestTheDashboardIsServed(t *testing.T) {
	server := shop(t)
	t.Setenv("KUBECONFIG", server.Start(t))
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := &lockedBuffer{}
	streams := genericiooptions.IOStreams{Out: out, ErrOut: out}
	done := make(chan int, 1)
	go func() {
		done <- runMain(ctx, []string{"kubectl-berth", "dashboard"}, streams,
			func() time.Time { return noon })
	}()
	printed := regexp.MustCompile(`http://127\.0\.0\.1:\d+/login\?token=\w+`)
	for printed.FindString(out.String()) == "" && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(server.Requests()); n != 0 {
		t.Errorf("the cluster was asked %d times before a page was", n)
	}
	address := printed.FindString(out.String())
	ask := func(url string, cookies []*http.Cookie) (code int, given []*http.Cookie, body string) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cookies {
			request.AddCookie(c)
		}
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%q: %v (%s)", url, err, out.String())
		}
		defer func() { _ = answer.Body.Close() }() // it was only read
		raw, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, answer.Cookies(), string(raw)
	}
	_, cookies, _ := ask(address, nil)
	page := address[:strings.Index(address, "/login")]
	if _, _, body := ask(page, cookies); !strings.Contains(body, "10.77.0.200") {
		t.Errorf("the page has no address: %.500s", body)
	}
	if code, _, body := ask(page, nil); code != http.StatusUnauthorized {
		t.Errorf("a stranger is answered %d: %.100s", code, body)
	}
	stop()
	if code := <-done; code != ExitOK {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}
