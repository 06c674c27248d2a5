// Command dist builds what is deployed: aws.zip, the Lambda binary, and gcp.zip, the source that Cloud Functions builds, with
// everything that it needs. The same source and the same Go give the same bytes, wherever and whenever they are built: paths
// are left out, times are fixed, entries are sorted.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	out := flag.String("out", "dist", "folder to write to")
	arch := flag.String("arch", "arm64", "processor of the Lambda functions: arm64 or amd64")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: dist [-out folder] [-arch arm64] [aws.zip] [gcp.zip]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *arch, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// run builds the archives of those names, or all of them.
func run(ctx context.Context, out, arch string, names []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, a := range []struct {
		name  string
		build func(context.Context, string) error
	}{{"aws.zip", lambda(arch)}, {"gcp.zip", source}} {
		if len(names) > 0 && !slices.Contains(names, a.name) {
			continue
		}
		dir, err := os.MkdirTemp("", "fleetpass-dist-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := a.build(ctx, dir); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		path := filepath.Join(out, a.name)
		if err := pack(dir, path); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %.1f MB\n", path, float64(info.Size())/1e6)
	}
	return nil
}

// lambda builds the one binary of all functions, under the name that provided.al2023 starts.
func lambda(arch string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		_, err := goTool(ctx, ".", []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}, "build", "-trimpath", "-buildvcs=false",
			"-tags", "lambda.norpc", "-ldflags", "-s -w -buildid=", "-o", filepath.Join(dir, "bootstrap"), module+"/infra/aws")
		return err
	}
}

const module = "github.com/fleetpass/fleetpass"

// root is the package that the buildpack looks for at the top. It takes the main that it generates from how this one begins:
// the import of functions says that functions register themselves, and funcframework must be among the vendored packages.
// https://github.com/GoogleCloudPlatform/buildpacks/blob/main/cmd/go/functions_framework/lib/lib.go
const root = `// Package fleetpass registers the function that FUNCTION_TARGET names: see infra/gcp.
package fleetpass

import (
	_ "github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	_ "github.com/GoogleCloudPlatform/functions-framework-go/functions"

	_ "github.com/fleetpass/fleetpass/infra/gcp"
)
`

// source gathers the packages of ours that infra/gcp needs, and vendors the others.
func source(ctx context.Context, dir string) error {
	out, err := goTool(ctx, ".", []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}, "list", "-deps",
		"-json=ImportPath,Dir,GoFiles,SFiles,EmbedFiles,Module", module+"/infra/gcp")
	if err != nil {
		return err
	}
	top := ""
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                         string
			GoFiles, SFiles, EmbedFiles []string
			Module                      *struct {
				Main bool
				Dir  string
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if p.Module == nil || !p.Module.Main {
			continue
		}
		top = p.Module.Dir
		rel, err := filepath.Rel(top, p.Dir)
		if err != nil {
			return err
		}
		for _, f := range slices.Concat(p.GoFiles, p.SFiles, p.EmbedFiles) {
			if err := copyFile(filepath.Join(p.Dir, f), filepath.Join(dir, rel, f)); err != nil {
				return err
			}
		}
	}
	for _, f := range []string{"go.mod", "go.sum", "LICENSE"} {
		if err := copyFile(filepath.Join(top, f), filepath.Join(dir, f)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "function.go"), []byte(root), 0o644); err != nil {
		return err
	}
	// A tool would be vendored with all that it needs.
	if err := dropTools(ctx, dir); err != nil {
		return err
	}
	_, err = goTool(ctx, dir, nil, "mod", "vendor")
	return err
}

func dropTools(ctx context.Context, dir string) error {
	out, err := goTool(ctx, dir, nil, "mod", "edit", "-json")
	if err != nil {
		return err
	}
	var mod struct{ Tool []struct{ Path string } }
	if err := json.Unmarshal(out, &mod); err != nil {
		return err
	}
	for _, t := range mod.Tool {
		if _, err := goTool(ctx, dir, nil, "mod", "edit", "-droptool="+t.Path); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// goTool runs the Go command that runs this one, in a folder. What it prints to standard error is part of the error.
func goTool(ctx context.Context, dir string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "GOWORK=off", "GOFLAGS="), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// then is every entry's time: the first that a zip file can hold.
var then = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// pack writes a folder's files into a zip file, in order of their names.
func pack(dir, to string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := zip.NewWriter(f)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	var names []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: then}
		h.SetMode(0o644)
		if name == "bootstrap" {
			h.SetMode(0o755)
		}
		entry, err := w.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := entry.Write(data); err != nil {
			return err
		}
	}
	return w.Close()
}
