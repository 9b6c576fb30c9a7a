package main

import (
	"bytes"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Where the rendered files belong, below the folder of all addons.
const (
	microk8sCRDs    = "microk8s/addons/berth/crds.yaml"
	microk8sObjects = "microk8s/addons/berth/berth.yaml"
	minikubeCRDs    = "minikube/deploy/addons/berth/berth-crds.yaml"
	minikubeObjects = "minikube/deploy/addons/berth/berth.yaml.tmpl"
)

// The images, by the names that minikube's templates have for them.
var images = map[string]string{
	"Controller": "ghcr.io/berth-lb/controller",
	"Speaker":    "ghcr.io/berth-lb/speaker",
}

// files returns the rendered files of all addons by their paths, from the YAML of everything that is
// installed. CRDs are files of their own, because they come first.
func files(base []byte) (map[string][]byte, error) {
	var crds, others []string
	for _, document := range strings.Split(string(base), "\n---\n") {
		var object struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, err
		}
		if object.Kind == "CustomResourceDefinition" {
			crds = append(crds, document)
		} else {
			others = append(others, document)
		}
	}
	if len(crds) == 0 || len(others) == 0 {
		return nil, fmt.Errorf("%d CRDs and %d other objects: something is missing", len(crds), len(others))
	}
	template, err := minikubeTemplate(joined(others))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		microk8sCRDs:    joined(crds),
		microk8sObjects: joined(others),
		minikubeCRDs:    joined(crds),
		minikubeObjects: template,
	}, nil
}

// joined returns documents as one stream.
func joined(documents []string) []byte {
	return []byte(strings.TrimRight(strings.Join(documents, "\n---\n"), "\n") + "\n")
}

// minikubeTemplate returns objects as a template of minikube's, which decides about images and registries.
func minikubeTemplate(objects []byte) ([]byte, error) {
	if bytes.Contains(objects, []byte("{{")) {
		return nil, fmt.Errorf("an object has {{, which a template would take for its own")
	}
	text := string(objects)
	for name, image := range images {
		before, after, found := strings.Cut(text, "image: "+image+":")
		if !found || strings.Contains(after, "image: "+image+":") {
			return nil, fmt.Errorf("the image %s is not there exactly once", image)
		}
		_, rest, _ := strings.Cut(after, "\n") // behind the tag
		registry := fmt.Sprintf(
			"{{.CustomRegistries.%s | default .ImageRepository | default .Registries.%s}}", name, name)
		text = before + "image: " + registry + "{{.Images." + name + "}}\n" + rest
	}
	return []byte(text), nil
}
