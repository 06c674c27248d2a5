package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/transfer"
	"github.com/fleetpass/fleetpass/infra/stores"
)

// ask is what the flags of a command say.
type ask struct {
	from, to        string
	fromKey, toKey  string
	keepWrapped     bool
	tenant          string
	all             bool
	restart, dryRun bool
}

func (q *ask) keyFlags(c *cobra.Command) {
	c.Flags().StringVar(&q.fromKey, "from-key", "", "the `KEY-SERVICE` that wraps the keys at the source")
	c.Flags().StringVar(&q.toKey, "to-key", "", "the `KEY-SERVICE` to wrap them with; the same again: they are proved to open, and stay as they are")
}

func (q *ask) tenantFlags(c *cobra.Command) {
	c.Flags().StringVar(&q.tenant, "tenant", "", "the `TENANT` to move")
	c.Flags().BoolVar(&q.all, "all", false, "move every tenant, and the operators' own")
}

func (q *ask) targetFlags(c *cobra.Command) {
	c.Flags().StringVar(&q.to, "to", "", "the `STORE` to write to; a bolt file is made if need be")
	c.Flags().BoolVar(&q.keepWrapped, "keep-wrapped", false, "leave the keys unopened as they are: the target uses the same key service")
	c.Flags().BoolVar(&q.restart, "restart", false, "take over an unfinished copy of another source")
	c.Flags().BoolVar(&q.dryRun, "dry-run", false, "write nothing, and say what would be written")
}

// check refuses flags that do not fit together. which: one of --tenant and --all must be given.
func (q *ask) check(which, keysNeeded bool) error {
	switch {
	case q.tenant != "" && q.all:
		return errors.New("give --tenant TENANT or --all, not both")
	case which && q.tenant == "" && !q.all:
		return errors.New("give --tenant TENANT, or --all for every tenant")
	case (q.fromKey == "") != (q.toKey == ""):
		return errors.New("give both --from-key and --to-key, or neither")
	case q.keepWrapped && q.fromKey != "":
		return errors.New("give --keep-wrapped, or --from-key and --to-key, not both")
	case keysNeeded && q.fromKey == "" && !q.keepWrapped:
		return errors.New("the tenant's keys are wrapped by the source's key service: give --from-key and --to-key to wrap them anew for the target's " +
			"(the same for both, to prove that it opens them), or --keep-wrapped to carry them unopened")
	}
	if q.tenant != "" {
		_, err := core.ParseTenantID("--tenant", q.tenant)
		return err
	}
	return nil
}

// closers are ended in the end, and what they say then counts.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

func (c closers) close(err *error) {
	for _, f := range c {
		*err = errors.Join(*err, f())
	}
}

// nothing is the store that a dry run finds where a bolt file is still to be made.
type nothing struct{ store.DB }

func (nothing) Get(_ context.Context, keys ...store.Key) ([]store.Item, error) {
	items := make([]store.Item, len(keys))
	for i, k := range keys {
		items[i].Key = k
	}
	return items, nil
}

func (nothing) List(context.Context, store.Range) iter.Seq2[store.Item, error] {
	return func(func(store.Item, error) bool) {}
}

// openTarget opens the store that is written to. A dry run makes no file.
func openTarget(ctx context.Context, q *ask, c *closers) (*stores.Store, error) {
	s, err := openStore(ctx, "--to", q.to, stores.Options{Create: !q.dryRun}, c)
	if q.dryRun && errors.Is(err, core.NotFound) {
		return &stores.Store{DB: nothing{}, Name: q.to}, nil
	}
	return s, err
}

func openStore(ctx context.Context, flag, address string, o stores.Options, c *closers) (*stores.Store, error) {
	s, err := stores.Open(ctx, address, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	c.add(s.Close)
	return s, nil
}

// wrappers opens the key services of the flags.
func (q *ask) wrappers(ctx context.Context, c *closers) (w transfer.Wrappers, err error) {
	if q.fromKey == "" {
		return w, nil
	}
	from, err := stores.Keys(ctx, q.fromKey, stores.Options{})
	if err != nil {
		return w, fmt.Errorf("--from-key: %w", err)
	}
	c.add(from.Close)
	w.From = from
	to, err := stores.Keys(ctx, q.toKey, stores.Options{})
	if err != nil {
		return w, fmt.Errorf("--to-key: %w", err)
	}
	c.add(to.Close)
	if to.Name != from.Name {
		w.To = to
	}
	return w, nil
}

// report is what was done, for programs.
type report struct {
	From    string            `json:"from,omitempty"`
	To      string            `json:"to"`
	DryRun  bool              `json:"dryRun,omitempty"`
	Tenants []transfer.Result `json:"tenants"`
	Items   int               `json:"items,omitempty"`  // of a file
	SHA256  string            `json:"sha256,omitempty"` // likewise
}

func (a *app) copyCommand() *cobra.Command {
	q := &ask{}
	c := &cobra.Command{
		Use: "copy --from STORE --to STORE --tenant TENANT", Short: "Copy tenants from one store into another", Args: cobra.NoArgs,
		Example: `  fleetpass store copy --tenant acme \
    --from bolt:fleetpass.db --from-key file:master.key \
    --to dynamodb:fleetpass?region=eu-central-1 --to-key awskms:arn:aws:kms:eu-central-1:111122223333:key/ID`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := q.check(true, true); err != nil {
				return err
			}
			if q.from == "" || q.to == "" {
				return errors.New("give --from STORE and --to STORE")
			}
			if q.from == q.to {
				return errors.New("--from and --to are the same store")
			}
			a.began = true
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
			to, err := openTarget(c.Context(), q, &open)
			if err != nil {
				return err
			}
			if from.Name == to.Name {
				return fmt.Errorf("--from and --to are the same store: %w", core.Invalid)
			}
			return a.copy(c.Context(), q, &transfer.Copier{From: from, FromName: from.Name, To: to, Wrappers: w}, to.Name, report{})
		},
	}
	c.Flags().StringVar(&q.from, "from", "", "the `STORE` to read from")
	q.targetFlags(c)
	q.tenantFlags(c)
	q.keyFlags(c)
	return c
}

func (a *app) abandonCommand() *cobra.Command {
	q := &ask{}
	c := &cobra.Command{
		Use: "abandon --to STORE --tenant TENANT", Short: "Take away what an unfinished copy left", Args: cobra.NoArgs,
		Long: `Takes away what an unfinished copy or import left of a tenant in a store, and gives its id free again: for
a half copy that nobody wants any more. To go on with it, run the copy again instead.

Nothing else is touched: a tenant that is whole stays as it is, and so does the source. A copy that is
still under way stops. An id that belonged to a tenant that was erased in this store stays that one's.`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			switch {
			case q.to == "":
				return errors.New("give --to STORE")
			case q.tenant == "":
				return errors.New("give --tenant TENANT")
			}
			if err := q.check(true, false); err != nil {
				return err
			}
			a.began, a.writes = true, !q.dryRun
			var open closers
			defer open.close(&err)
			to, err := openStore(c.Context(), "--to", q.to, stores.Options{}, &open)
			if err != nil {
				return err
			}
			k := &transfer.Copier{To: to, Now: a.now, DryRun: q.dryRun, Progress: a.progress}
			r, err := k.Abandon(c.Context(), core.TenantID(q.tenant))
			if err != nil {
				return err
			}
			return a.print(report{To: to.Name, DryRun: q.dryRun, Tenants: []transfer.Result{r}}, func(w io.Writer) {
				if q.dryRun {
					fmt.Fprintf(w, "%s: an unfinished copy of %d items would be taken away\n", r.Tenant, r.Deleted)
					return
				}
				fmt.Fprintf(w, "%s: an unfinished copy of %d items was taken away\n", r.Tenant, r.Deleted)
			})
		},
	}
	c.Flags().StringVar(&q.to, "to", "", "the `STORE` that holds the unfinished copy")
	c.Flags().StringVar(&q.tenant, "tenant", "", "the `TENANT` that was being copied")
	c.Flags().BoolVar(&q.dryRun, "dry-run", false, "write nothing, and say what would be taken away")
	return c
}

// copy runs a copier, and says what it did.
func (a *app) copy(ctx context.Context, q *ask, k *transfer.Copier, to string, r report) error {
	k.Now, k.Restart, k.DryRun, k.Progress = a.now, q.restart, q.dryRun, a.progress
	a.writes = !q.dryRun
	r.From, r.To, r.DryRun = k.FromName, to, q.dryRun
	var err error
	if q.all {
		r.Tenants, err = k.All(ctx)
	} else {
		var one transfer.Result
		if one, err = k.Tenant(ctx, core.TenantID(q.tenant)); err == nil {
			r.Tenants = []transfer.Result{one}
		}
	}
	for _, t := range r.Tenants {
		if err != nil && a.output == "" {
			a.tell(a.err, t, q.dryRun)
		}
	}
	if err != nil {
		return err
	}
	return a.print(r, func(w io.Writer) {
		for _, t := range r.Tenants {
			a.tell(w, t, q.dryRun)
		}
	})
}

// tell says in a sentence what became of a tenant.
func (a *app) tell(w io.Writer, t transfer.Result, dry bool) {
	switch {
	case t.Already:
		fmt.Fprintf(w, "%s: was there already, the same\n", t.Tenant)
	case t.Erased && dry:
		fmt.Fprintf(w, "%s: was erased; its name would be kept\n", t.Tenant)
	case t.Erased:
		fmt.Fprintf(w, "%s: was erased; its name is kept\n", t.Tenant)
	case dry:
		fmt.Fprintf(w, "%s: %d items, %s; %d would be written, %d deleted\n", t.Tenant, t.Items+t.Due, amount(t.Bytes), t.Put, t.Deleted)
	default:
		fmt.Fprintf(w, "%s: %d items, %s, verified; %d written, %d deleted in %d rounds\n", t.Tenant, t.Items+t.Due, amount(t.Bytes), t.Put, t.Deleted, t.Rounds)
	}
}
