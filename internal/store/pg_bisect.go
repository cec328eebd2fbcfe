package store

import "context"

// bisection looks for rows that the database refuses for good, by halves, in a
// transaction that it undoes.
type bisection struct {
	try   func(ctx context.Context, c *pgConn, from, to int) error
	found func(i int, reason error)
	any   bool
}

// culprits runs a bisection over n rows. When it finds none it returns the error
// that set it on.
func (p *Postgres) culprits(ctx context.Context, n int, cause error, b bisection) error {
	err := p.writing(ctx, func(ctx context.Context, c *pgConn) error {
		defer c.rollback(ctx)
		if _, err := c.Exec(ctx, "BEGIN"); err != nil {
			return err
		}
		return b.search(ctx, c, 0, n)
	})
	if err == nil && !b.any {
		return cause
	}
	return err
}

func (b *bisection) search(ctx context.Context, c *pgConn, from, to int) error {
	if from == to {
		return nil
	}
	if _, err := c.Exec(ctx, "SAVEPOINT trial"); err != nil {
		return err
	}
	failure := b.try(ctx, c, from, to)
	if failure != nil && !refusedByPostgres(failure) {
		return failure
	}
	for _, s := range []string{"ROLLBACK TO SAVEPOINT trial", "RELEASE SAVEPOINT trial"} {
		if _, err := c.Exec(ctx, s); err != nil {
			return err
		}
	}
	switch {
	case failure == nil:
		return nil
	case to-from == 1:
		b.any = true
		b.found(from, failure)
		return nil
	}
	middle := (from + to) / 2
	if err := b.search(ctx, c, from, middle); err != nil {
		return err
	}
	return b.search(ctx, c, middle, to)
}
