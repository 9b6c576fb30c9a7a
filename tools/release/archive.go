package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"time"
)

// A file is one file of an archive.
type file struct {
	Name string // with slashes, from the root
	Mode os.FileMode
	Data []byte
}

// tarOf returns a tar of the files, in their order. It has no owner, and one time for all.
func tarOf(files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     f.Name,
			Size:     int64(len(f.Data)),
			Mode:     int64(f.Mode.Perm()),
			ModTime:  at,
			Format:   tar.FormatUSTAR,
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// tarGzOf returns a compressed tar of the files.
func tarGzOf(files []file, at time.Time) ([]byte, error) {
	content, err := tarOf(files, at)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	// Its header has neither a name nor a time.
	archive, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := archive.Write(content); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// zipOf returns a zip of the files.
func zipOf(files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, f := range files {
		header := &zip.FileHeader{
			Name:     f.Name,
			Method:   zip.Deflate,
			Modified: at,
		}
		header.SetMode(f.Mode.Perm())
		w, err := archive.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
