package transfer

import (
	"bytes"
	"context"
	"time"
)

// OpenWithin is Open with other bounds.
func OpenWithin(ctx context.Context, data []byte, now func() time.Time, partitions, shared int) (*File, error) {
	r := bytes.NewReader(data)
	return open(ctx, r, r, now, limits{partitions, shared})
}

// Within gives an Exporter other bounds.
func (e *Exporter) Within(partitions, shared int) { e.limits = limits{partitions, shared} }
