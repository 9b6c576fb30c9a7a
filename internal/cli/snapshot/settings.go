package snapshot

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/settings"
)

// Settings are those of the running controller and speakers, as far as they decide
// anything, read from the pod templates of Deployment and DaemonSet.
type Settings struct {
	// Class is spec.loadBalancerClass of the Services that Berth handles.
	Class string
	// ClassUnknown says why Class is not known, and taken for the default; "" if it is known.
	ClassUnknown string
	// SpeakerClass is the class of the speakers, if it differs.
	SpeakerClass string
}

// labelComponent tells the parts of Berth apart.
const labelComponent = "app.kubernetes.io/component"

// podSpec returns the pod template of a part of Berth; nil if there is none.
func (s *Snapshot) podSpec(component string) *corev1.PodSpec {
	for i := range s.Deployments {
		if t := &s.Deployments[i].Spec.Template; t.Labels[labelComponent] == component {
			return &t.Spec
		}
	}
	for i := range s.DaemonSets {
		if t := &s.DaemonSets[i].Spec.Template; t.Labels[labelComponent] == component {
			return &t.Spec
		}
	}
	return nil
}

// flagClass is the setting that says which Services are handled.
const flagClass = "load-balancer-class"

func readSettings(s *Snapshot, request Request) Settings {
	if request.Class != nil {
		return Settings{Class: *request.Class}
	}
	out := Settings{}
	pod := s.podSpec("controller")
	switch {
	case pod == nil && !s.Has(Deployments):
		out.ClassUnknown = "the Deployment of the controller could not be read"
	case pod == nil:
		out.ClassUnknown = "there is no Deployment of the controller in namespace " + s.Berth
	default:
		out.Class, out.ClassUnknown = s.setting(pod, "controller", flagClass)
	}
	if speaker := s.podSpec("speaker"); speaker != nil {
		class, unknown := s.setting(speaker, "speaker", flagClass)
		if unknown == "" && out.ClassUnknown == "" && class != out.Class {
			out.SpeakerClass = class
		}
	}
	return out
}

// setting returns the value of a setting in a container: of the flag, or else of the
// environment, or else of the settings file. If it stands where it cannot be read, unknown
// says so. A setting that stands nowhere is "".
func (s *Snapshot) setting(pod *corev1.PodSpec, container, flag string) (value, unknown string) {
	for i := range pod.Containers {
		c := &pod.Containers[i]
		if c.Name != container {
			continue
		}
		if value, ok := flagOf(append(append([]string{}, c.Command...), c.Args...), flag); ok {
			return value, ""
		}
		env := settings.EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
		if value, found, unknown := s.variable(c, env); found || unknown != "" {
			return value, unknown
		}
		return s.fileSetting(pod, c, flag)
	}
	return "", "the pod template has no container " + container
}

// flagOf returns the value of a flag in a command line.
func flagOf(words []string, flag string) (string, bool) {
	for i, word := range words {
		name, value, inOne := strings.Cut(word, "=")
		switch {
		case name != "--"+flag:
		case inOne:
			return value, true
		case i+1 < len(words):
			return words[i+1], true
		}
	}
	return "", false
}

// variable returns the value of an environment variable of a container.
func (s *Snapshot) variable(c *corev1.Container, name string) (value string, found bool, unknown string) {
	for _, e := range c.Env {
		if e.Name != name {
			continue
		}
		if e.ValueFrom == nil {
			return e.Value, true, ""
		}
		ref := e.ValueFrom.ConfigMapKeyRef
		if ref == nil {
			return "", false, "the variable " + name + " comes from elsewhere than a ConfigMap"
		}
		if data, read := s.configMap(ref.Name); read {
			value, found := data[ref.Key]
			return value, found, ""
		}
		return "", false, "ConfigMap " + ref.Name + " could not be read"
	}
	for i := len(c.EnvFrom) - 1; i >= 0; i-- { // the last counts
		from := c.EnvFrom[i]
		key, begins := strings.CutPrefix(name, from.Prefix)
		if from.ConfigMapRef == nil || !begins {
			continue
		}
		data, read := s.configMap(from.ConfigMapRef.Name)
		if !read {
			return "", false, "ConfigMap " + from.ConfigMapRef.Name + " could not be read"
		}
		if value, found := data[key]; found {
			return value, true, ""
		}
	}
	return "", false, ""
}

// fileSetting returns a setting of the settings file, if one is mounted from a ConfigMap.
func (s *Snapshot) fileSetting(
	pod *corev1.PodSpec, c *corev1.Container, flag string,
) (value, unknown string) {
	path, named := flagOf(append(append([]string{}, c.Command...), c.Args...), settings.FileFlag)
	if !named {
		path, named, unknown = s.variable(c, settings.EnvPrefix+"_CONFIG")
	}
	if !named || unknown != "" {
		return "", unknown
	}
	name, key := mounted(pod, c, path)
	if name == "" {
		return "", "the settings file " + path + " is mounted from elsewhere than a ConfigMap"
	}
	data, read := s.configMap(name)
	if !read {
		return "", "ConfigMap " + name + " could not be read"
	}
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(data[key]), &values); err != nil {
		return "", "the settings file in ConfigMap " + name + " is no YAML"
	}
	text, _ := values[flag].(string)
	return text, ""
}

// mounted returns the ConfigMap that a file of a container is from, and the key there.
func mounted(pod *corev1.PodSpec, c *corev1.Container, path string) (name, key string) {
	for _, m := range c.VolumeMounts {
		file, below := strings.CutPrefix(path, strings.TrimSuffix(m.MountPath, "/")+"/")
		if path == m.MountPath && m.SubPath != "" {
			file, below = m.SubPath, true
		}
		if !below {
			continue
		}
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.ConfigMap != nil {
				for _, item := range v.ConfigMap.Items {
					if item.Path == file {
						return v.ConfigMap.Name, item.Key
					}
				}
				return v.ConfigMap.Name, file
			}
		}
	}
	return "", ""
}

// configMap returns the data of a ConfigMap in Berth's namespace; read is false if it could
// not be read.
func (s *Snapshot) configMap(name string) (data map[string]string, read bool) {
	for i := range s.ConfigMaps {
		if s.ConfigMaps[i].Name == name {
			return s.ConfigMaps[i].Data, true
		}
	}
	return nil, false
}

// readConfigMaps reads the ConfigMaps that have settings, and no others.
func (s *Snapshot) readConfigMaps(ctx context.Context, c *Client) {
	names := sets.New[string]()
	for _, component := range []string{"controller", "speaker"} {
		pod := s.podSpec(component)
		if pod == nil {
			continue
		}
		for _, c := range pod.Containers {
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
					names.Insert(e.ValueFrom.ConfigMapKeyRef.Name)
				}
			}
			for _, e := range c.EnvFrom {
				if e.ConfigMapRef != nil {
					names.Insert(e.ConfigMapRef.Name)
				}
			}
		}
		for _, v := range pod.Volumes {
			if v.ConfigMap != nil {
				names.Insert(v.ConfigMap.Name)
			}
		}
	}
	for _, name := range sets.List(names) {
		var read corev1.ConfigMap
		err := c.get(ConfigMaps, s.Berth).Name(name).Do(ctx).Into(&read)
		if err != nil {
			continue // the setting that stands in it says that it is not known
		}
		s.ConfigMaps = append(s.ConfigMaps, read)
	}
}
