package api

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
)

// AuditLog yields the records that the query asks for, page by page.
func (c *Client) AuditLog(ctx context.Context, query url.Values) iter.Seq2[AuditRecord, error] {
	return func(yield func(AuditRecord, error) bool) {
		q := maps.Clone(query)
		if q == nil {
			q = url.Values{}
		}
		q.Set("cursor", "") // from the beginning, in steps
		for {
			var page AuditLog
			if _, err := c.Do(ctx, http.MethodGet, "/api/v1/audit/log", q, nil, &page); err != nil {
				yield(AuditRecord{}, err)
				return
			}
			for _, r := range page.Records {
				if !yield(r, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

// AuditFile returns a part of the audit log as a file, and the cursor of the next part; empty: that was the last.
func (c *Client) AuditFile(ctx context.Context, query url.Values) (file []byte, next string, err error) {
	header, err := c.Do(ctx, http.MethodGet, "/api/v1/audit/log/file", query, nil, &file)
	return file, header.Get(HeaderNext), err
}

// AuditChain returns links of the hash chain from behind a number, as they are stored.
func (c *Client) AuditChain(ctx context.Context, after uint64) (page AuditChain, err error) {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(MaxLimit)}}
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/audit/chain", query, nil, &page)
	return page, err
}

// AuditPlaces returns places at which the log holds sealed records, from where a cursor says; empty: from the first.
func (c *Client) AuditPlaces(ctx context.Context, cursor string) (page AuditPlaces, err error) {
	query := url.Values{}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/audit/chain/places", query, nil, &page)
	return page, err
}
