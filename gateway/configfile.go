package gateway

import (
	"errors"
	"io/fs"
	"os"
)

// refusedConfig is what is wrong with a configuration, and the files in which that
// may be.
type refusedConfig struct {
	error
	errs  []error
	files []File
}

func (e *refusedConfig) Unwrap() []error { return e.errs }

// File is a file that a configuration was read from, as it was just before.
type File struct {
	Path string
	Info fs.FileInfo // of what a link leads to; nil: it was not there
}

func lookAt(path string) File {
	info, err := os.Stat(path)
	if err != nil {
		info = nil
	}
	return File{path, info}
}

// Now is the file as it is now.
func (f File) Now() File { return lookAt(f.Path) }

// Same reports whether two looks at a file have found the same. Files that replaced
// one another are two, also where their times are those of a build, and their sizes
// those of any hash.
func (f File) Same(o File) bool {
	if f.Path != o.Path || f.Info == nil || o.Info == nil {
		return f.Path == o.Path && f.Info == nil && o.Info == nil
	}
	return f.Info.ModTime().Equal(o.Info.ModTime()) && f.Info.Size() == o.Info.Size() && os.SameFile(f.Info, o.Info)
}

// FilesOf returns the files of a configuration that [ReadConfig] refused: when one
// changes, try it again.
func FilesOf(err error) []File {
	if e, ok := errors.AsType[*refusedConfig](err); ok {
		return e.files
	}
	return nil
}

// reason is what the system says, without the path.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}
