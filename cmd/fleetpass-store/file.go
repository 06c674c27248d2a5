package main

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/transfer"
	"github.com/fleetpass/fleetpass/infra/stores"
)

// exportTries is how often an export begins anew whose source changed meanwhile.
const exportTries = 5

func (a *app) exportCommand() *cobra.Command {
	q := &ask{}
	c := &cobra.Command{
		Use: "export --from STORE --tenant TENANT FILE", Short: "Write tenants into a file", Args: cobra.ExactArgs(1),
		Long: `Writes tenants into a file, compressed if its name ends in .gz, that only you can read.

The file holds personal data, password hashes, sessions and the tenant's signing keys. Keys stay wrapped
as they are in the store, so whoever has the file and the key service can sign for the tenant; with
--from-key and --to-key they are wrapped anew, for example for a master key that travels another way.`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := q.check(true, false); err != nil {
				return err
			}
			if q.from == "" {
				return errors.New("give --from STORE")
			}
			a.began = true
			if _, err := os.Lstat(args[0]); err == nil {
				return fmt.Errorf("%s is there already, and no file is replaced: %w", args[0], core.Exists)
			}
			var open closers
			defer open.close(&err)
			w, err := q.wrappers(c.Context(), &open)
			if err != nil {
				return err
			}
			from, err := openStore(c.Context(), "--from", q.from, stores.Options{}, &open)
			if err != nil {
				return err
			}
			tenants := []core.TenantID{core.TenantID(q.tenant)}
			if q.all {
				if tenants, err = transfer.Tenants(c.Context(), from); err != nil {
					return err
				}
				if len(tenants) == 0 {
					return fmt.Errorf("the source has no tenants: %w", core.NotFound)
				}
			}
			e := &transfer.Exporter{From: from, FromName: from.Name, Wrappers: w, Now: a.now, Progress: a.progress}
			results, err := writeFile(c.Context(), args[0], func(ctx context.Context, out io.Writer) ([]transfer.Result, error) {
				return e.Export(ctx, out, tenants...)
			})
			if err != nil {
				return err
			}
			return a.print(report{From: from.Name, To: args[0], Tenants: results}, func(w io.Writer) {
				for _, t := range results {
					fmt.Fprintf(w, "%s: %d items, %s\n", t.Tenant, t.Items+t.Due, amount(t.Bytes))
				}
				fmt.Fprintf(w, "%s holds personal data and signing keys: keep it as you would keep the store\n", args[0])
			})
		},
	}
	c.Flags().StringVar(&q.from, "from", "", "the `STORE` to read from")
	q.tenantFlags(c)
	q.keyFlags(c)
	return c
}

// writeFile writes under another name in the same folder, readable by its owner only, and gives the file its name when it is
// whole: nobody ever sees half of one, and none is replaced.
func writeFile(ctx context.Context, path string, export func(context.Context, io.Writer) ([]transfer.Result, error)) (results []transfer.Result, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ignore(os.Remove(f.Name()), fs.ErrNotExist)) }()
	defer f.Close() // a second time, where all went well
	for try := 1; ; try++ {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		results, err = fill(ctx, f, strings.HasSuffix(path, ".gz"), export)
		if err == nil {
			break
		}
		if !errors.Is(err, core.Conflict) || try == exportTries {
			return nil, err
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, err
	}
	return results, os.Link(f.Name(), path) // fails if there is one by now
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

func fill(ctx context.Context, f io.Writer, compressed bool, export func(context.Context, io.Writer) ([]transfer.Result, error)) ([]transfer.Result, error) {
	if !compressed {
		return export(ctx, f)
	}
	z := gzip.NewWriter(f)
	results, err := export(ctx, z)
	if err != nil {
		return nil, err
	}
	return results, z.Close()
}

func (a *app) importCommand() *cobra.Command {
	q := &ask{}
	c := &cobra.Command{
		Use: "import --to STORE FILE", Short: "Copy tenants out of a file into a store", Args: cobra.ExactArgs(1),
		Long: `Copies tenants out of a file that export wrote. The whole file is checked before anything is written.
Without --tenant and --all, the file must hold one tenant.

A file is a tenant as it was. Where its clusters went on meanwhile under another store, they hold later
revisions, and are left alone until the tenant's revision has passed theirs.`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := q.check(false, true); err != nil {
				return err
			}
			if q.to == "" {
				return errors.New("give --to STORE")
			}
			a.began = true
			var open closers
			defer open.close(&err)
			file, err := openFile(c.Context(), args[0], a.now, &open)
			if err != nil {
				return err
			}
			switch held := file.Tenants(); {
			case q.tenant != "" && !slices.Contains(held, core.TenantID(q.tenant)):
				return fmt.Errorf("%s does not hold tenant %s, but %s: %w", args[0], q.tenant, names(held), core.NotFound)
			case q.tenant == "" && !q.all && len(held) > 1:
				return fmt.Errorf("%s holds %s: give --tenant TENANT, or --all: %w", args[0], names(held), core.Invalid)
			case q.tenant == "" && !q.all:
				q.tenant = string(held[0])
			}
			w, err := q.wrappers(c.Context(), &open)
			if err != nil {
				return err
			}
			to, err := openTarget(c.Context(), q, &open)
			if err != nil {
				return err
			}
			k := &transfer.Copier{From: file, FromName: "an export with SHA-256 " + file.SHA256, To: to, Wrappers: w}
			return a.copy(c.Context(), q, k, to.Name, report{Items: file.Items, SHA256: file.SHA256})
		},
	}
	q.targetFlags(c)
	q.tenantFlags(c)
	q.keyFlags(c)
	return c
}

func names(list []core.TenantID) string {
	var b strings.Builder
	for i, t := range list {
		if i == 10 {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(t))
	}
	return b.String()
}

// A compressed file may unpack to maxRatio of its own size and a little more, and to maxUnpacked at most: an export comes to
// a tenth or a thirtieth, and one that was made to fill a disk to a thousandth.
const (
	maxUnpacked  = 256 << 30
	maxRatio     = 200
	freeToUnpack = 64 << 20
)

// openFile opens an export, and checks it. A compressed one is unpacked, as far as it is found right, into a file beside it
// that has no name any more, since it is read more than once and not from its beginning. What is no regular file is not even
// opened: opening a pipe waits for whoever writes into it.
func openFile(ctx context.Context, path string, now func() time.Time, c *closers) (*transfer.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", path, core.Invalid)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	c.add(f.Close)
	var file *transfer.File
	if strings.HasSuffix(path, ".gz") {
		file, err = unpack(ctx, f, min(freeToUnpack+maxRatio*info.Size(), maxUnpacked), now, c)
	} else {
		file, err = transfer.Open(ctx, f, info.Size(), now)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// unpack opens a compressed export that unpacks to at most limit bytes.
func unpack(ctx context.Context, f *os.File, limit int64, now func() time.Time, c *closers) (*transfer.File, error) {
	plain, err := os.CreateTemp(filepath.Dir(f.Name()), "."+filepath.Base(f.Name())+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	_ = os.Remove(plain.Name()) // at once where the system lets us, and in the end in any case
	c.add(func() error {
		err := plain.Close()
		_ = os.Remove(plain.Name())
		return err
	})
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("is not compressed, or damaged: %w", core.Invalid)
	}
	file, err := transfer.OpenStream(ctx, &reader{ctx, z, limit}, plain, now)
	var corrupt flate.CorruptInputError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &corrupt):
		return nil, fmt.Errorf("is damaged, or not whole: %w", core.Invalid)
	}
	return file, err
}

// reader ends with its context, and gives at most so many bytes.
type reader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	if r.left -= int64(n); r.left < 0 {
		return 0, fmt.Errorf("unpacks to more than an export of its size would: %w", core.TooLarge)
	}
	return n, err
}
