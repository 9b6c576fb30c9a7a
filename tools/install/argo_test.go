package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// health runs the health check as Argo CD does: with the object as the global obj, and no libraries but those
// that it opens.
func health(t *testing.T, script string, object any) (status, message string) {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName:   lua.OpenBase,
		lua.TabLibName:    lua.OpenTable,
		lua.StringLibName: lua.OpenString,
		lua.MathLibName:   lua.OpenMath,
	} {
		if err := state.CallByParam(lua.P{
			Fn:      state.NewFunction(open),
			NRet:    0,
			Protect: true,
		}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, is := state.Get(-1).(*lua.LTable)
	if !is {
		t.Fatalf("the script returns %v", state.Get(-1))
	}
	return result.RawGetString("status").String(), result.RawGetString("message").String()
}

// toLua returns a value of JSON as Lua has it.
func toLua(state *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case string:
		return lua.LString(v)
	case float64:
		return lua.LNumber(v)
	case bool:
		return lua.LBool(v)
	case []any:
		table := state.NewTable()
		for _, element := range v {
			table.Append(toLua(state, element))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, value := range v {
			table.RawSetString(key, toLua(state, value))
		}
		return table
	}
	return lua.LNil
}

// userKinds are the kinds that users write.
var userKinds = []string{
	"IPAddressPool", "L2Advertisement", "BGPPeer", "BGPAdvertisement", "BFDProfile", "Community",
}

// TestArgoSeesHowAnObjectFares: for every kind and state of an object. The states are those that
// TestToolsThatWaitSeeHowAnObjectFares has the controller produce for Flux and Helm.
func TestArgoSeesHowAnObjectFares(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(manifests, "argocd", "health.lua"))
	if err != nil {
		t.Fatal(err)
	}
	var states []struct {
		Story    string         `json:"story"`
		Metadata map[string]any `json:"metadata"`
		Status   map[string]any `json:"status"`
		Health   string         `json:"health"`
		Says     string         `json:"says"`
	}
	readYAML(t, filepath.Join("testdata", "argo.yaml"), &states)
	for _, kind := range userKinds {
		for _, s := range states {
			got, message := health(t, string(script), map[string]any{
				"apiVersion": "berth.io/v1beta1",
				"kind":       kind,
				"metadata":   s.Metadata,
				"status":     s.Status,
			})
			if got != s.Health || !strings.Contains(message, s.Says) {
				t.Errorf("%s: %s: %s, %q", kind, s.Story, got, message)
			}
		}
	}
	// A Speaker has a condition of another generation: nobody but Berth writes it.
	for status, want := range map[string]string{"True": "Healthy", "False": "Degraded"} {
		condition := map[string]any{
			"type":               "Ready",
			"status":             status,
			"reason":             "Why",
			"message":            "It is so.",
			"observedGeneration": 1.0,
		}
		got, message := health(t, string(script), map[string]any{
			"kind":     "Speaker",
			"metadata": map[string]any{"generation": 7.0},
			"status":   map[string]any{"conditions": []any{condition}},
		})
		if got != want {
			t.Errorf("a Speaker that is Ready %s is %s, %q", status, got, message)
		}
	}
}

// TestArgoIsGivenTheCheck: the patch for Argo's ConfigMap has the script that is tested, for all of Berth's
// kinds.
func TestArgoIsGivenTheCheck(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(manifests, "argocd", "health.lua"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(manifests, "argocd", "argocd-cm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var patch struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.UnmarshalStrict(text, &patch); err != nil {
		t.Fatal(err)
	}
	for _, kind := range append([]string{"Speaker"}, userKinds...) {
		key := "resource.customizations.health.berth.io_" + kind
		if got := patch.Data[key]; got != string(script) {
			t.Errorf("for %s the patch has\n%s", kind, got)
		}
		for _, wrong := range validation.IsConfigMapKey(key) {
			t.Errorf("%s cannot be a key: %s", key, wrong)
		}
	}
	if len(patch.Data) != len(userKinds)+1 {
		t.Errorf("the patch has %d keys", len(patch.Data))
	}
}
