package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// checkFlags are those of check.
type checkFlags struct {
	pre, problems bool
	wait          time.Duration
}

func (o *options) checkCommand() *cobra.Command {
	var asked checkFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether a cluster is fit for Berth, or whether all of Berth is well",
		Long: "Check whether all of Berth is well, or with --pre, whether a cluster is fit for it. " +
			"Each line is one thing that was looked at: √ it is well, ‼ a warning, × a problem, ? it " +
			"could not " +
			"be seen, · no API object shows it. Lines that are not well name the page that says what to " +
			"do.\n\n" +
			"Nothing that could not be read counts as well.\n\n" +
			"Exit codes: 0 all is well, or there are warnings only; 1 there are problems, or not all " +
			"could be " +
			"seen; 2 nothing could be checked.",
		Example: "  # Before the install: another load balancer, ports, rights?\n  kubectl berth check " +
			"--pre\n\n" +
			"  # After an upgrade: wait until all is well, five minutes at most\n" +
			"  kubectl berth check --wait 5m --problems",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := o.checkUntilWell(cmd.Context(), asked)
			if err != nil {
				return err
			}
			return o.printChecks(checks, asked.problems)
		},
	}
	cmd.Flags().BoolVar(&asked.pre, "pre", false, "Check before the install.")
	cmd.Flags().BoolVar(&asked.problems, "problems", false, "Only lines that are not well.")
	cmd.Flags().DurationVar(&asked.wait, "wait", 0,
		"Check again until all is well, for so long at most, such as 5m; 0 to check once.")
	o.output.Add(cmd)
	return cmd
}

// checkUntilWell checks once, or with --wait until all is well or the time is over. It
// returns what was found last.
func (o *options) checkUntilWell(ctx context.Context, asked checkFlags) (v1alpha1.Checks, error) {
	stage := view.StageInstalled
	if asked.pre {
		stage = view.StageBefore
	}
	var checks v1alpha1.Checks
	var err error
	said := ""
	again(ctx, asked.wait, func() bool {
		checks, err = o.check(ctx, stage)
		if err == nil && view.AllWell(checks) {
			return true
		}
		text := output.CheckSummary(checks)
		if err != nil {
			text = err.Error()
		}
		if asked.wait > 0 && text != said {
			said = text
			_, _ = fmt.Fprintf(o.streams.ErrOut, "waiting: %s\n", text)
		}
		return false
	})
	return checks, err
}

// check gathers and checks.
func (o *options) check(ctx context.Context, stage string) (v1alpha1.Checks, error) {
	kinds := view.CheckKinds
	if stage == view.StageBefore {
		kinds = view.PreCheckKinds
	}
	f, c, err := o.gather(ctx, kinds)
	if err != nil {
		return v1alpha1.Checks{}, err
	}
	around := snapshot.Look(ctx, c, view.LookAround(stage, o.berth))
	return f.Check(around, stage, o.contextName()), nil
}

func (o *options) printChecks(checks v1alpha1.Checks, onlyProblems bool) error {
	printed := checks
	if onlyProblems {
		printed = view.NotWell(checks)
	}
	var err error
	if o.output.Structured() {
		var names []string
		for _, g := range printed.Groups {
			for _, c := range g.Checks {
				names = append(names, "check/"+c.Name)
			}
		}
		err = o.output.Object(o.streams.Out, printed, names)
	} else {
		err = output.Checks(o.streams.Out, printed, o.output.Style(o.streams.Out))
	}
	if err != nil {
		return err
	}
	return outcome(!view.AllWell(checks))
}

const (
	// againPause is the shortest time between two tries.
	againPause = 2 * time.Second
	// againShare is how many times as long as a try the pause after it is: what reads the
	// whole cluster shall not keep its API server busy.
	againShare = 5
)

// again tries until a try says that it is done, ctx ends, or another try would begin more
// than limit after the first.
func again(ctx context.Context, limit time.Duration, try func() (done bool)) {
	began := time.Now()
	for {
		before := time.Now()
		if try() {
			return
		}
		pause := max(againPause, againShare*time.Since(before))
		if time.Since(began)+pause > limit {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
