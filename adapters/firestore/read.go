package firestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fleetpass/fleetpass/core/store"
)

// Get reads the keys with one BatchGetDocuments. No transaction is needed for one snapshot: if the documents of an answer have
// different read times, then those that came earlier are guaranteed not to have changed until the last one
// (google.firestore.v1 BatchGetDocumentsResponse.read_time), so all of them hold at the last.
func (db *DB) Get(ctx context.Context, keys ...store.Key) ([]store.Item, error) {
	if err := store.CheckGet(keys); err != nil {
		return nil, err
	}
	docs, err := db.documentsOf(ctx, "get", keys, nil)
	if err != nil {
		return nil, err
	}
	items, now := make([]store.Item, len(keys)), db.opts.Now()
	for i, k := range keys {
		items[i].Key = k
		e, err := db.read(k, docs[i])
		if err != nil {
			return nil, err
		}
		if e.live(now) {
			items[i] = item(k, e, docs[i])
		}
	}
	return items, nil
}

func item(k store.Key, e entry, doc *pb.Document) store.Item {
	return store.Item{Key: k, Version: e.version, Body: doc.Fields[BodyField].GetBytesValue(), Expires: e.expires}
}

// documentsOf reads the documents of keys, which are all different, in their order; nil is an absent one. mask: only these
// fields.
func (db *DB) documentsOf(ctx context.Context, what string, keys []store.Key, mask []string) (docs []*pb.Document, err error) {
	req := &pb.BatchGetDocumentsRequest{Database: db.database, Documents: make([]string, len(keys))}
	if mask != nil {
		req.Mask = &pb.DocumentMask{FieldPaths: mask}
	}
	place := make(map[string]int, len(keys))
	for i, k := range keys {
		req.Documents[i] = db.documents + document(k)
		place[req.Documents[i]] = i
	}
	err = db.reading(ctx, what, func(ctx context.Context) error {
		docs, err = db.batchGet(ctx, req, place)
		return err
	})
	return docs, err
}

// batchGet is one try. An answer that does not speak of every document is an error: nothing is absent that was not said to be.
func (db *DB) batchGet(ctx context.Context, req *pb.BatchGetDocumentsRequest, place map[string]int) ([]*pb.Document, error) {
	docs := make([]*pb.Document, len(req.Documents))
	told, n := make([]bool, len(req.Documents)), 0
	usage := Usage{RPC: "BatchGetDocuments"}
	defer func() { db.opts.Used(usage) }()
	stream, err := db.client.BatchGetDocuments(ctx, req, once...)
	if err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		name := m.GetMissing()
		if m.GetFound() != nil {
			name = m.GetFound().Name
		}
		if name == "" {
			continue // it speaks of no document
		}
		i, asked := place[name]
		if !asked || told[i] {
			return nil, fmt.Errorf("%w: it holds a document that was not asked for, or one twice", errCut)
		}
		told[i], docs[i] = true, m.GetFound()
		n++
	}
	if n != len(docs) {
		return nil, fmt.Errorf("%w: it holds %d of %d documents", errCut, n, len(docs))
	}
	usage.Reads = n
	return docs, nil
}

// The pages of a List, in documents: 16 MB at most.
const (
	firstPage = 128
	fullPage  = 500
)

// List reads the range in pages, each with one RunQuery.
func (db *DB) List(ctx context.Context, r store.Range) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		if err := store.CheckRange(r); err != nil {
			yield(store.Item{}, err)
			return
		}
		rest, left := r, r.Limit
		for size, most := firstPage, fullPage; ; size = most {
			if r.Limit > 0 && left < size {
				// With a little room for items that have expired.
				size = min(size, left+left/8)
			}
			page, err := db.page(ctx, rest, size)
			if page.size < size { // the line is slow, and no faster at the next page
				most = page.size
			}
			if err != nil {
				yield(store.Item{}, err)
				return
			}
			now := db.opts.Now()
			for _, doc := range page.docs {
				k := r.Key(string(doc.Fields[SortField].GetBytesValue()))
				e, err := db.read(k, doc)
				if err != nil {
					yield(store.Item{}, err)
					return
				}
				if !e.live(now) {
					continue
				}
				if !yield(item(k, e, doc), nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if page.last {
				return
			}
			rest = rest.After(string(page.docs[len(page.docs)-1].Fields[SortField].GetBytesValue()))
		}
	}
}

// page is the answer to one query: documents, expired ones among them. last: there are none behind them.
type page struct {
	docs []*pb.Document
	size int // how many were asked for
	last bool
}

// page reads up to size documents from the beginning of a range: half as many at each try after one that ran out of time, so
// that a line which is too slow for the page gets on all the same.
func (db *DB) page(ctx context.Context, r store.Range, size int) (p page, err error) {
	if r.To != "" && r.To <= r.From {
		return page{size: size, last: true}, db.ready(ctx, "list")
	}
	path := collection(r.Leading())
	query := &pb.StructuredQuery{
		From:    []*pb.StructuredQuery_CollectionSelector{{CollectionId: Group}},
		OrderBy: []*pb.StructuredQuery_Order{{Field: &pb.StructuredQuery_FieldReference{FieldPath: SortField}, Direction: pb.StructuredQuery_ASCENDING}},
		Where:   between(r.From, r.To),
	}
	if r.Descending {
		query.OrderBy[0].Direction = pb.StructuredQuery_DESCENDING
	}
	req := &pb.RunQueryRequest{
		Parent:    db.documents + path[:len(path)-len("/"+Group)],
		QueryType: &pb.RunQueryRequest_StructuredQuery{StructuredQuery: query},
	}
	err = db.reading(ctx, "list", func(ctx context.Context) error {
		query.Limit = wrapperspb.Int32(int32(size))
		if p, err = db.query(ctx, req, size); status.Code(err) == codes.DeadlineExceeded {
			size = max(1, size/2)
		}
		return err
	})
	return p, err
}

// query is one try. The answer's last message says that it is the last one ("done"). Where a server leaves that out, a short
// page proves nothing, and the next one is asked for: only an empty answer, which says when it was read, is the end then.
func (db *DB) query(ctx context.Context, req *pb.RunQueryRequest, size int) (p page, err error) {
	usage := Usage{RPC: "RunQuery"}
	defer func() { db.opts.Used(usage) }()
	stream, err := db.client.RunQuery(ctx, req, once...)
	if err != nil {
		return page{}, err
	}
	read, done := false, false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return page{}, err
		}
		read = read || m.ReadTime != nil
		done = done || m.GetDone()
		if m.Document != nil {
			p.docs = append(p.docs, m.Document)
		}
	}
	if !read || len(p.docs) > size {
		return page{}, fmt.Errorf("%w: a page of %d documents, and %d came", errCut, size, len(p.docs))
	}
	p.size, p.last = size, len(p.docs) == 0 || done && len(p.docs) < size
	usage.Reads = max(1, len(p.docs)) // an empty query is billed as one
	return p, nil
}

// between is the filter for From <= sort key < To; nil where neither bounds anything.
func between(from, to string) *pb.StructuredQuery_Filter {
	var filters []*pb.StructuredQuery_Filter
	if from != "" {
		filters = append(filters, compare(SortField, pb.StructuredQuery_FieldFilter_GREATER_THAN_OR_EQUAL, bytesValue([]byte(from))))
	}
	if to != "" {
		filters = append(filters, compare(SortField, pb.StructuredQuery_FieldFilter_LESS_THAN, bytesValue([]byte(to))))
	}
	return and(filters...)
}

func compare(field string, op pb.StructuredQuery_FieldFilter_Operator, v *pb.Value) *pb.StructuredQuery_Filter {
	return &pb.StructuredQuery_Filter{FilterType: &pb.StructuredQuery_Filter_FieldFilter{FieldFilter: &pb.StructuredQuery_FieldFilter{
		Field: &pb.StructuredQuery_FieldReference{FieldPath: field}, Op: op, Value: v,
	}}}
}

func and(filters ...*pb.StructuredQuery_Filter) *pb.StructuredQuery_Filter {
	switch len(filters) {
	case 0:
		return nil
	case 1:
		return filters[0]
	}
	return &pb.StructuredQuery_Filter{FilterType: &pb.StructuredQuery_Filter_CompositeFilter{CompositeFilter: &pb.StructuredQuery_CompositeFilter{
		Op: pb.StructuredQuery_CompositeFilter_AND, Filters: filters,
	}}}
}
