package bench

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
)

// Settings are what the environment says to every benchmark.
type Settings struct {
	// Runs is how many times each scenario runs: RUNS.
	Runs int
	// Minutes is how long a scenario lasts in which nothing happens but work: MINUTES, by default 10.
	Minutes int
	// Which picks scenarios by name: SCENARIOS, a regular expression.
	Which *regexp.Regexp
	// Out is a file for a line of JSON for each run: OUT. If it is empty, OpenLines makes one.
	Out string
	// Lab is the name of the lab: LAB. One that is up is used, and stays.
	Lab string
	// Root is the folder of the product's sources, with dist and manifests: ROOT.
	Root string
}

// ReadSettings reads the environment. Name is that of the lab, and runs how many there are, where it says
// nothing.
func ReadSettings(name string, runs int) (Settings, error) {
	s := Settings{
		Out:  os.Getenv("OUT"),
		Lab:  cmp.Or(os.Getenv("LAB"), name),
		Root: cmp.Or(os.Getenv("ROOT"), ".."),
	}
	var errs [3]error
	s.Runs, errs[0] = strconv.Atoi(cmp.Or(os.Getenv("RUNS"), strconv.Itoa(runs)))
	s.Which, errs[1] = regexp.Compile(os.Getenv("SCENARIOS"))
	s.Minutes, errs[2] = strconv.Atoi(cmp.Or(os.Getenv("MINUTES"), "10"))
	if err := errors.Join(errs[:]...); err != nil {
		return s, fmt.Errorf("RUNS, SCENARIOS or MINUTES: %w", err)
	}
	if s.Runs < 1 || s.Minutes < 1 {
		return s, errors.New("RUNS and MINUTES: want at least 1")
	}
	return s, nil
}
