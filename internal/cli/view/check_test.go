package view

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/berth-lb/berth/internal/cli/snapshot"
)

var kindLine = regexp.MustCompile(`(?m)^(apiVersion|kind): *(\S+)$`)

// TestInstallRightsAreThoseOfTheManifests: check --pre asks about a right for each kind of
// object that an installation creates, and about no other.
func TestInstallRightsAreThoseOfTheManifests(t *testing.T) {
	asked := map[string]bool{}
	for _, r := range installRights {
		asked[strings.TrimSuffix(r.Resource+"."+r.Group, ".")] = false
	}
	manifests := filepath.Join("..", "..", "..", "manifests")
	read := 0
	for _, pattern := range []string{"base/*.yaml", "base/*/*.yaml", "crds/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(manifests, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, document := range strings.Split(string(raw), "\n---\n") {
				resource := resourceIn(document)
				if _, is := asked[resource]; resource != "" && !is {
					t.Errorf("%s has %s, and nobody asks about a right to create it", file, resource)
				}
				asked[resource] = true
				read++
			}
		}
	}
	if read < 15 {
		t.Errorf("only %d objects found", read)
	}
	for resource, found := range asked {
		if !found {
			t.Errorf("no manifest has %s", resource)
		}
	}
}

// resourceIn returns the resource of the object in a document, "" for none.
func resourceIn(document string) string {
	head := map[string]string{}
	for _, m := range kindLine.FindAllStringSubmatch(document, -1) {
		head[m[1]] = m[2]
	}
	if head["kind"] == "" {
		return ""
	}
	gv, err := schema.ParseGroupVersion(head["apiVersion"])
	if err != nil {
		return err.Error()
	}
	plural, _ := meta.UnsafeGuessKindToResource(gv.WithKind(head["kind"]))
	return plural.GroupResource().String()
}

// TestTheNamespaceIsPutIn: rights in Berth's namespace are asked for where it is.
func TestTheNamespaceIsPutIn(t *testing.T) {
	around := LookAround(StageBefore, "elsewhere")
	if !slices.Contains(around.Rights, snapshot.Right{Verb: "create", Resource: "secrets",
		Namespace: "elsewhere"}) {
		t.Errorf("got %+v", around.Rights)
	}
	if len(LookAround(StageInstalled, "elsewhere").Rights) > 0 {
		t.Error("after the install nobody needs rights to install")
	}
}
