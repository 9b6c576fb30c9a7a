package suite

import (
	"cmp"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// useLab has the rest of a test use a lab of its own, with Berth in it, in place of the one that all tests
// share. The shared lab stays up meanwhile. The name of the own one ends with suffix. It has the families and
// the mode of kube-proxy of the shared one unless options say others. A test whose lab the kernel cannot have
// is skipped, and so is one of another mode where the suite is to be quick.
func useLab(t *testing.T, suffix string, options lab.Options) {
	t.Helper()
	useBareLab(t, suffix, options)
	install(t)
}

// useBareLab is useLab without Berth.
func useBareLab(t *testing.T, suffix string, options lab.Options) {
	t.Helper()
	options.Name, options.Progress = cluster.Name()+"-"+suffix, os.Stdout
	options.ProxyMode = cmp.Or(options.ProxyMode, cluster.ProxyMode())
	options.Families = cmp.Or(options.Families, cluster.Families())
	if options.ProxyMode != cluster.ProxyMode() {
		fullOnly(t, "a cluster with another mode of kube-proxy takes two minutes")
		if cluster.Families() != lab.DualStack {
			t.Skip("other modes of kube-proxy are tried with the families of the default only")
		}
	}
	own, err := lab.Up(t.Context(), options)
	if errors.Is(err, lab.ErrNoIPVS) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	shared := cluster
	cluster = own
	t.Cleanup(func() {
		cluster = shared
		if err := own.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func install(t *testing.T) {
	t.Helper()
	if _, err := product.Install(t.Context(), cluster, root); err != nil {
		t.Fatal(err)
	}
}
