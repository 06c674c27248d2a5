package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	gosync "sync"
	"time"
)

// Mapping is a local Lambda event source mapping: it calls a function with what is in a queue.
type Mapping struct {
	Queue       string // its name
	Batch       int    // messages of one call at most; default and most 10
	Concurrency int    // calls side by side; default 2, which is the service's least

	// Invoke calls the function with an SQS event of Lambda, and returns what the function answers: a JSON object with the
	// member batchItemFailures, or nothing. With an error the whole batch has failed.
	Invoke func(ctx context.Context, event []byte) ([]byte, error)
}

// Poll works off a queue until ctx ends, and returns when the calls under way have ended. What succeeds is deleted; what
// fails is left where it is, hidden until its visibility timeout has passed, and is counted by the queue.
func (s *Server) Poll(ctx context.Context, m Mapping) error {
	if m.Batch <= 0 || m.Batch > maxEntries {
		m.Batch = maxEntries
	}
	if m.Concurrency <= 0 {
		m.Concurrency = 2
	}
	if _, err := s.attributes(m.Queue); err != nil {
		return err
	}
	var running gosync.WaitGroup
	for range m.Concurrency {
		running.Go(func() {
			for ctx.Err() == nil {
				got, err := s.wait(ctx, m.Queue, m.Batch, -1, maxWait*time.Second)
				if err != nil {
					slog.ErrorContext(ctx, "sqs stand-in: the queue cannot be read", "queue", m.Queue, "error", err)
					return
				}
				if len(got) > 0 {
					s.call(ctx, m, got)
				}
			}
		})
	}
	running.Wait()
	return ctx.Err()
}

// wait receives messages, waiting for the first as long as it is told to: a long poll.
func (s *Server) wait(ctx context.Context, name string, n int, hide, patience time.Duration) ([]*message, error) {
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		got, next, changed, err := s.take(name, n, hide)
		if err != nil || len(got) > 0 || patience == 0 || ctx.Err() != nil {
			return got, err
		}
		due := time.NewTimer(patience)
		if !next.IsZero() {
			due.Reset(max(time.Millisecond, next.Sub(s.options.Now())))
		}
		select {
		case <-ctx.Done():
			due.Stop()
			return nil, nil
		case <-end.C:
			patience = 0
		case <-changed:
		case <-due.C:
		}
		due.Stop()
	}
}

// record is one message of an SQS event (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS").
type record struct {
	MessageID         string            `json:"messageId"`
	ReceiptHandle     string            `json:"receiptHandle"`
	Body              string            `json:"body"`
	Attributes        map[string]string `json:"attributes"`
	MessageAttributes struct{}          `json:"messageAttributes"`
	MD5OfBody         string            `json:"md5OfBody"`
	EventSource       string            `json:"eventSource"`
	EventSourceARN    string            `json:"eventSourceARN"`
	AWSRegion         string            `json:"awsRegion"`
}

func (s *Server) call(ctx context.Context, m Mapping, got []*message) {
	var event struct{ Records []record }
	for _, g := range got {
		event.Records = append(event.Records, record{
			MessageID: g.id, ReceiptHandle: g.receipt, Body: g.body, MD5OfBody: sum(g.body), Attributes: g.attributes(s.options.Account),
			EventSource: "aws:sqs", EventSourceARN: s.ARN(m.Queue), AWSRegion: s.options.Region,
		})
	}
	body, err := json.Marshal(event)
	if err != nil {
		panic(err) // strings only
	}
	answer, err := m.Invoke(ctx, body)
	if err != nil {
		slog.WarnContext(ctx, "sqs stand-in: a batch failed", "queue", m.Queue, "messages", len(got), "error", err)
		return
	}
	failed, err := failures(answer, got)
	if err != nil {
		slog.WarnContext(ctx, "sqs stand-in: a batch failed, by its answer", "queue", m.Queue, "messages", len(got), "error", err)
		return
	}
	for _, g := range got {
		if !failed[g.id] {
			_ = s.remove(m.Queue, g.receipt) // the queue is there, and so is the receipt
		}
	}
}

// failures reads which messages of a batch failed. No answer, null and an empty list are success; an answer that cannot be
// read, an empty id and one that is not of the batch are the failure of all of it, as with the service.
func failures(answer []byte, batch []*message) (map[string]bool, error) {
	var out struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(answer) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, m := range batch {
		ids[m.id] = true
	}
	failed := map[string]bool{}
	for _, f := range out.BatchItemFailures {
		if !ids[f.ItemIdentifier] {
			return nil, errors.New("itemIdentifier is not the id of a message of the batch")
		}
		failed[f.ItemIdentifier] = true
	}
	return failed, nil
}
