// Command conformance is the conformance suite of Gateway API, in one file. It takes the flags of that suite,
// and of controller-runtime and package testing. For each test it writes a line with four fields, separated
// by tabs: passed, failed or skipped; seconds; its name; the features that it needs, with commas. With the
// only argument "images" it prints the references of the images that the suite's pods run.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "images" {
		refs, err := images(conformance.Manifests)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(strings.Join(refs, "\n"))
		return
	}
	testing.Init()
	flag.Parse()
	every := func(string, string) (bool, error) { return true, nil }
	testing.Main(every, []testing.InternalTest{{Name: "GatewayAPI", F: run}}, nil, nil)
}

// run runs the suite, and tells at the end of the tests that it left out, also when it ends early.
func run(t *testing.T) {
	l := &log{told: map[string]bool{}}
	for i := range tests.ConformanceTests {
		l.watch(&tests.ConformanceTests[i])
	}
	// Tests that run beside others go on when this function has returned.
	t.Cleanup(func() {
		for _, test := range tests.ConformanceTests {
			l.tell(test, "skipped", 0)
		}
	})
	conformance.RunConformance(t)
}

// A log writes a line for each test.
type log struct {
	mu   sync.Mutex
	told map[string]bool // by name of the test
}

// watch has a test tell what becomes of it. One that needs a feature which is not there does not run, and
// tells nothing.
func (l *log) watch(test *suite.ConformanceTest) {
	unwatched := test.Test
	test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
		begun := time.Now()
		t.Cleanup(func() { // when all that it consists of has ended
			outcome := "passed"
			switch {
			case t.Failed():
				outcome = "failed"
			case t.Skipped():
				outcome = "skipped"
			}
			l.tell(*test, outcome, time.Since(begun))
		})
		unwatched(t, s)
	}
}

// tell writes the line of a test, if there is none yet.
func (l *log) tell(test suite.ConformanceTest, outcome string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[test.ShortName] {
		return
	}
	l.told[test.ShortName] = true
	var features []string
	for _, f := range test.Features {
		features = append(features, string(f))
	}
	fmt.Printf("%s\t%.1f\t%s\t%s\n", outcome, took.Seconds(), test.ShortName, strings.Join(features, ","))
}
