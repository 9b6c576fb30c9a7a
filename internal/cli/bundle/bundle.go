// Package bundle puts files into one archive of bounded size, with their checksums, and
// replaces addresses and names in them by tokens.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"time"
)

// File is one file of an archive.
type File struct {
	Name string
	Data []byte
}

// Sum returns the SHA-256 checksum of the file, in hexadecimal digits.
func (f File) Sum() string {
	sum := sha256.Sum256(f.Data)
	return hex.EncodeToString(sum[:])
}

// Cut says what did not fit into an archive.
type Cut struct {
	Name string
	// Kept and Of are bytes, or whole documents where Documents is set.
	Kept, Of  int64
	Documents bool
}

// Bundle gathers files up to a size. What does not fit is left out, and told by Cuts.
type Bundle struct {
	left  int64
	files []File
	cuts  []Cut
}

// New returns a Bundle for so many bytes, before they are compressed.
func New(limit int64) *Bundle { return &Bundle{left: limit} }

// Left returns how many bytes still fit.
func (b *Bundle) Left() int64 { return b.left }

// Files returns the files, in the order in which they were added.
func (b *Bundle) Files() []File { return b.files }

// Cuts returns what did not fit.
func (b *Bundle) Cuts() []Cut { return b.cuts }

func (b *Bundle) add(name string, data []byte) {
	b.left -= int64(len(data))
	b.files = append(b.files, File{name, data})
}

// separator parts documents of YAML.
const separator = "---\n"

// AddDocuments adds a file of documents, as many of them as fit.
func (b *Bundle) AddDocuments(name string, documents [][]byte) {
	var out bytes.Buffer
	kept := 0
	for ; kept < len(documents); kept++ {
		one := documents[kept]
		if int64(out.Len()+len(separator)+len(one)) > b.left {
			break
		}
		if kept > 0 {
			out.WriteString(separator)
		}
		out.Write(one)
	}
	if kept < len(documents) {
		b.cuts = append(b.cuts, Cut{name, int64(kept), int64(len(documents)), true})
	}
	if kept > 0 {
		b.add(name, out.Bytes())
	}
}

// AddText adds a file of lines. If not all fits, its last lines are kept. total is how long
// the text is, if data is only its end.
func (b *Bundle) AddText(name string, data []byte, total int64) {
	kept := data
	if int64(len(kept)) > b.left {
		kept = kept[int64(len(kept))-max(b.left, 0):]
		if i := bytes.IndexByte(kept, '\n'); i >= 0 {
			kept = kept[i+1:] // a line that begins in the middle says less than none
		} else {
			kept = nil
		}
	}
	if total = max(total, int64(len(data))); int64(len(kept)) < total {
		b.cuts = append(b.cuts, Cut{Name: name, Kept: int64(len(kept)), Of: total})
	}
	if len(kept) > 0 {
		b.add(name, kept)
	}
}

// sums is the name of the file that has the checksums of all others, as sha256sum writes it.
const sums = "SHA256SUMS"

// Write writes files as an archive, compressed, in a directory of a name. The last file has
// the checksums of the others.
func Write(w io.Writer, dir string, files []File, now time.Time) error {
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	var lines bytes.Buffer
	put := func(f File) error {
		err := archive.WriteHeader(&tar.Header{
			Name:    path.Join(dir, f.Name),
			Mode:    0o600,
			Size:    int64(len(f.Data)),
			ModTime: now,
		})
		if err == nil {
			_, err = archive.Write(f.Data)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
		return nil
	}
	for _, f := range files {
		if err := put(f); err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%s  %s\n", f.Sum(), f.Name)
	}
	if err := put(File{sums, lines.Bytes()}); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	if err := compressed.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}
