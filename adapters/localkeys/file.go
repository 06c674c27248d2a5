package localkeys

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxFile is the size of the largest file of master keys, in bytes.
const maxFile = 64 << 10

// Open reads the master keys of a file: one in each line, in base64, the newest last; empty lines and those that begin
// with # are skipped. The file must be a regular one that nobody but its owner can read or write. If it is absent and
// create is set, it is made with one new key, whole or not at all; of several processes that make it at once, one does, and
// all of them use that key.
//
// To replace a master key, add a line to the file and restart; once everything is wrapped with the new one (Stale), remove
// the old line.
func Open(path string, create bool) (*Wrapper, error) {
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := make0600(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("localkeys: create master key file: %w", err)
		}
		data, err = read(path)
	}
	if err != nil {
		return nil, fmt.Errorf("localkeys: master key file: %w", err)
	}
	var list [][]byte
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(k) != KeySize { // the decoder's error would quote the key
			return nil, fmt.Errorf("localkeys: %s, line %d: not %d bytes in base64", path, n, KeySize)
		}
		list = append(list, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("localkeys: %s: %w", path, err)
	}
	w, err := New(list...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return w, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, not of what the path names by now
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case mode.Perm()&0o077 != 0 && runtime.GOOS != "windows": // which keeps no such modes
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it, and consider its keys known", path, mode.Perm())
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is over %d bytes", path, maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// make0600 makes the file under another name and links it into place, which fails if there is one: no reader ever sees
// half a file, and no file is ever replaced.
func make0600(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600, O_EXCL
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	k := make([]byte, KeySize)
	rand.Read(k)
	_, err = fmt.Fprintf(f, "# Fleetpass master keys: who reads this file and the store can sign for every tenant. The newest is last.\n%s\n",
		base64.StdEncoding.EncodeToString(k))
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
