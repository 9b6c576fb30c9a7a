// Package change reads what is to be changed in a cluster, as kubectl takes it, and says
// what the objects of a snapshot are once it is done. It changes nothing itself.
package change

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
)

// Files says where manifests are.
type Files struct {
	resource.FilenameOptions
	// In is what a file named "-" stands for.
	In io.Reader
}

// Document is one object of a manifest.
type Document struct {
	// Source is the file, and Number which document of it, from 1; empty ones do not count.
	Source string
	Number int
	Object *unstructured.Unstructured
}

// String says where an object is from.
func (d Document) String() string { return fmt.Sprintf("%s, document %d", d.Source, d.Number) }

// Read reads manifests: files, directories, URLs and standard input, and what kustomize
// makes of a directory.
func Read(files Files) ([]Document, error) {
	var out []Document
	if len(files.Filenames) > 0 {
		options := files.FilenameOptions
		options.Kustomize = ""
		options.Filenames = slices.DeleteFunc(slices.Clone(options.Filenames), isStdin)
		builder := resource.NewLocalBuilder().Unstructured()
		switch stdin := len(files.Filenames) - len(options.Filenames); {
		case stdin > 1:
			return nil, fmt.Errorf("-f -: standard input can be read once")
		case stdin == 1:
			builder = builder.Stream(files.In, "standard input")
		}
		read, err := documents(builder.FilenameParam(false, &options))
		if err != nil {
			return nil, err
		}
		out = read
	}
	if files.Kustomize != "" {
		options := resource.FilenameOptions{Kustomize: files.Kustomize}
		read, err := documents(resource.NewLocalBuilder().Unstructured().FilenameParam(false, &options))
		if err != nil {
			return nil, fmt.Errorf("-k %s: %w", files.Kustomize, err)
		}
		out = append(out, read...)
	}
	return out, nil
}

func isStdin(name string) bool { return name == "-" }

// documents returns the objects that a builder finds.
func documents(builder *resource.Builder) ([]Document, error) {
	var out []Document
	last := Document{} // whose source is being read, and how many documents of it were
	err := builder.Do().Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		if info.Source != last.Source {
			last = Document{Source: info.Source}
		}
		last.Number++
		return eachOf(info.Object, func(o *unstructured.Unstructured) {
			out = append(out, Document{Source: last.Source, Number: last.Number, Object: o})
		})
	})
	if err == nil {
		return out, nil
	}
	number := 1
	if last.Source != "" && strings.Contains(err.Error(), last.Source) {
		number += last.Number
	}
	return nil, fmt.Errorf("document %d: %w", number, err)
}

// eachOf calls take with an object, or with each of a list.
func eachOf(o runtime.Object, take func(*unstructured.Unstructured)) error {
	switch o := o.(type) {
	case *unstructured.Unstructured:
		take(o)
	case *unstructured.UnstructuredList:
		for i := range o.Items {
			take(&o.Items[i])
		}
	default:
		return fmt.Errorf("%T is no object", o)
	}
	return nil
}
