package report

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
)

// bootIDFile has what names the boot of this node: the kernel makes it anew each
// time.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// ReadBootID returns what names the boot of this node, "" when the kernel does not say.
func ReadBootID(log *slog.Logger) string {
	text, err := os.ReadFile(bootIDFile)
	if err != nil {
		log.Warn("cannot tell one boot of this node from another: BGP peers are not asked to go on after a restart", "error", err)
	}
	return strings.TrimSpace(string(text))
}

// LastStatus returns what the Speaker object says before this speaker writes it for the
// first time: what the one before it did. It asks the API server until that
// answers.
func LastStatus(ctx context.Context, api client.Reader, node string, log *slog.Logger) (v1beta1.SpeakerStatus, error) {
	var have v1beta1.Speaker
	told := ""
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := api.Get(ctx, types.NamespacedName{Name: node}, &have)
		if err == nil || apierrors.IsNotFound(err) {
			return true, nil
		}
		if err.Error() != told {
			log.Warn("waiting for the Speaker object", "name", node, "error", err)
			told = err.Error()
		}
		return false, nil
	})
	if err != nil {
		return v1beta1.SpeakerStatus{}, fmt.Errorf("read the Speaker object: %w", err)
	}
	return have.Status, nil
}

// HadSessions reports whether this node has had BGP sessions in this boot that
// have not ended for good: then its peers may still have its routes, and the
// node has forwarded their traffic all the time.
func HadSessions(before v1beta1.SpeakerStatus, bootID string) bool {
	return bootID != "" && before.BGP.BootID == bootID
}
