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

// bootIDFile has an identifier of the boot of this node, which the kernel creates at each
// boot.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// ReadBootID returns the identifier of the boot of this node, "" if it cannot be read.
func ReadBootID(log *slog.Logger) string {
	text, err := os.ReadFile(bootIDFile)
	if err != nil {
		log.Warn("cannot read the boot ID: BGP peers are not asked to keep routes over a restart",
			"error", err)
	}
	return strings.TrimSpace(string(text))
}

// LastStatus returns the status of the Speaker object as this node's former speaker left
// it. It asks the API server until that answers.
func LastStatus(
	ctx context.Context, api client.Reader, node string, log *slog.Logger,
) (v1beta1.SpeakerStatus, error) {
	var have v1beta1.Speaker
	logged := ""
	const pause = 500 * time.Millisecond
	err := wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (bool, error) {
		err := api.Get(ctx, types.NamespacedName{Name: node}, &have)
		if err == nil || apierrors.IsNotFound(err) {
			return true, nil
		}
		if err.Error() != logged {
			log.Warn("waiting for the Speaker object", "name", node, "error", err)
			logged = err.Error()
		}
		return false, nil
	})
	if err != nil {
		return v1beta1.SpeakerStatus{}, fmt.Errorf("read the Speaker object: %w", err)
	}
	return have.Status, nil
}

// HadSessions reports whether this node has had BGP sessions in this boot that have not
// ended for good. Its peers may still have its routes then, and the node has forwarded
// their traffic all the time.
func HadSessions(before v1beta1.SpeakerStatus, bootID string) bool {
	return bootID != "" && before.BGP.BootID == bootID
}
