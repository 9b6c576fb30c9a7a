package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/logging"
	"github.com/berth-lb/berth/internal/settings"
)

// processSettings are the settings of the controller process.
type processSettings struct {
	Log   logging.Settings `mapstructure:",squash"`
	Kube  kube.Settings    `mapstructure:",squash"`
	Elect bool             `mapstructure:"leader-elect"`
	Lease time.Duration    `mapstructure:"leader-lease-duration"`
	// AddressMetrics has a series for each address of a Service.
	AddressMetrics bool `mapstructure:"address-metrics"`
}

func addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	settings.AddFileFlag(flags)
	logging.AddFlags(flags)
	kube.AddFlags(flags)
	flags.Bool("leader-elect", true, "Let one replica at a time assign addresses. Only a controller that "+
		"runs alone may turn it off.")
	flags.Duration("leader-lease-duration", 6*time.Second, "How long a leader that has fallen silent keeps "+
		"the others waiting. Shorter means faster takeover; the leader writes to the API server six times "+
		"in this time. From 3s to 5m.")
	flags.Bool("address-metrics", true, "Have a metric for each address of a Service, "+
		"berth_controller_address_info, with its pool and its Service. Tens of thousands of Services make "+
		"as many series.")
}

// validate reports by name which settings cannot be used.
func (s processSettings) validate() error {
	var errs []error
	if s.Lease < 3*time.Second || s.Lease > 5*time.Minute {
		errs = append(errs, settings.Invalid("leader-lease-duration", s.Lease, "from 3s to 5m"))
	}
	return errors.Join(append(errs, s.Kube.Validate()...)...)
}
