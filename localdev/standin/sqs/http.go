package sqs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// The service's limits (Amazon SQS API Reference, SendMessageBatch and ReceiveMessage).
const (
	maxBytes   = 1 << 20 // of a message, and of a batch
	maxEntries = 10
	maxDelay   = 900 // seconds
	maxHide    = 12 * 60 * 60
	maxWait    = 20
)

// failure is an error of the service: the shape's name in the JSON protocol, and the older name that goes into a header for
// clients of the query protocol ("" : the same).
type failure struct{ code, query, message string }

func (f *failure) Error() string { return f.code + ": " + f.message }

var (
	noQueue     = &failure{"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist."}
	badReceipt  = &failure{"ReceiptHandleIsInvalid", "", "The input receipt handle is invalid."}
	notInFlight = &failure{"MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", "The message referred to isn't in flight."}
)

func badValue(format string, a ...any) error {
	return &failure{"InvalidParameterValue", "", fmt.Sprintf(format, a...)}
}

func badBatch(code, message string) error {
	return &failure{code, "AWS.SimpleQueueService." + code, message}
}

const contentType = "application/x-amz-json-1.0"

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("x-amzn-RequestId", core.NewID())
	out, err := s.serve(r)
	if err != nil {
		var f *failure
		if !errors.As(err, &f) {
			f = &failure{"SerializationException", "", err.Error()}
		}
		query := f.query
		if query == "" {
			query = f.code
		}
		w.Header().Set("x-amzn-query-error", query+";Sender")
		w.WriteHeader(http.StatusBadRequest)
		out = map[string]string{"__type": "com.amazonaws.sqs#" + f.code, "message": f.message}
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and numbers only
	}
	_, _ = w.Write(body)
}

func (s *Server) serve(r *http.Request) (any, error) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
	if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return nil, &failure{"UnknownOperationException", "", "not a request in AWS JSON 1.0 for AmazonSQS"}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 2*maxBytes))
	if err != nil {
		return nil, err
	}
	switch operation {
	case "SendMessage":
		return answer(body, s.sendMessage)
	case "SendMessageBatch":
		return answer(body, s.sendBatch)
	case "ReceiveMessage":
		return answer(body, func(in receiveInput) (any, error) { return s.receive(r, in) })
	case "DeleteMessage":
		return answer(body, func(in receiptInput) (any, error) { return struct{}{}, s.remove(name(in.QueueURL), in.ReceiptHandle) })
	case "DeleteMessageBatch":
		return answer(body, s.deleteBatch)
	case "ChangeMessageVisibility":
		return answer(body, s.changeVisibility)
	case "GetQueueAttributes":
		return answer(body, s.getAttributes)
	case "GetQueueUrl":
		return answer(body, func(in struct{ QueueName string }) (any, error) {
			if _, err := s.attributes(in.QueueName); err != nil {
				return nil, err
			}
			return map[string]string{"QueueUrl": s.URL("http://"+r.Host, in.QueueName)}, nil
		})
	}
	return nil, &failure{"UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", operation + " is not modelled."}
}

func answer[In any](body []byte, do func(In) (any, error)) (any, error) {
	var in In
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	return do(in)
}

// name is that of the queue that a URL is of: host and account are whatever the client was told.
func name(queueURL string) string { return path.Base(queueURL) }

type entry struct {
	ID           string `json:"Id"`
	MessageBody  string
	DelaySeconds *int
}

type sendInput struct {
	QueueURL     string `json:"QueueUrl"`
	MessageBody  string
	DelaySeconds *int
}

type sent struct {
	MessageID        string `json:"MessageId"`
	MD5OfMessageBody string
}

func (s *Server) sendMessage(in sendInput) (any, error) {
	return s.send(in.QueueURL, entry{MessageBody: in.MessageBody, DelaySeconds: in.DelaySeconds})
}

// send queues one message.
func (s *Server) send(queueURL string, e entry) (sent, error) {
	switch {
	case e.MessageBody == "":
		return sent{}, &failure{"MissingParameter", "", "The request must contain the parameter MessageBody."}
	case len(e.MessageBody) > maxBytes:
		return sent{}, badValue("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", maxBytes)
	case strings.ContainsFunc(e.MessageBody, forbidden) || !utf8.ValidString(e.MessageBody):
		return sent{}, &failure{"InvalidMessageContents", "", "The message contains characters outside the allowed set."}
	case e.DelaySeconds != nil && (*e.DelaySeconds < 0 || *e.DelaySeconds > maxDelay):
		return sent{}, badValue("Value %d for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= %d.", *e.DelaySeconds, maxDelay)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queues[name(queueURL)]
	if q == nil {
		return sent{}, noQueue
	}
	delay := q.Delay
	if e.DelaySeconds != nil {
		delay = time.Duration(*e.DelaySeconds) * time.Second
	}
	m := s.put(q, e.MessageBody, delay)
	return sent{m.id, sum(m.body)}, nil
}

// forbidden characters are those outside XML 1.0.
func forbidden(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
}

type batchSent struct {
	ID string `json:"Id"`
	sent
}

type batchFailed struct {
	ID          string `json:"Id"`
	Code        string
	Message     string
	SenderFault bool
}

var entryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// checkBatch refuses a batch as a whole.
func checkBatch(ids []string) error {
	switch {
	case len(ids) == 0:
		return badBatch("EmptyBatchRequest", "There should be at least one entry in the request.")
	case len(ids) > maxEntries:
		return badBatch("TooManyEntriesInBatchRequest", fmt.Sprintf("Maximum number of entries per request are %d. You have sent %d.", maxEntries, len(ids)))
	}
	for i, id := range ids {
		if !entryID.MatchString(id) {
			return badBatch("InvalidBatchEntryId", "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.")
		}
		if slices.Contains(ids[:i], id) {
			return badBatch("BatchEntryIdsNotDistinct", "Id "+id+" repeated.")
		}
	}
	return nil
}

func refused(id string, err error) batchFailed {
	var f *failure
	if !errors.As(err, &f) {
		return batchFailed{id, "InternalError", err.Error(), false}
	}
	return batchFailed{id, f.code, f.message, true}
}

type sendBatchInput struct {
	QueueURL string `json:"QueueUrl"`
	Entries  []entry
}

func (s *Server) sendBatch(in sendBatchInput) (any, error) {
	var ids []string
	size := 0
	for _, e := range in.Entries {
		ids = append(ids, e.ID)
		size += len(e.MessageBody)
	}
	if err := checkBatch(ids); err != nil {
		return nil, err
	}
	if size > maxBytes {
		return nil, badBatch("BatchRequestTooLong", fmt.Sprintf("Batch requests cannot be longer than %d bytes. You have sent %d bytes.", maxBytes, size))
	}
	out := struct {
		Successful []batchSent   `json:",omitempty"`
		Failed     []batchFailed `json:",omitempty"`
	}{}
	for _, e := range in.Entries {
		switch m, err := s.send(in.QueueURL, e); {
		case errors.Is(err, noQueue):
			return nil, err
		case err != nil:
			out.Failed = append(out.Failed, refused(e.ID, err))
		default:
			out.Successful = append(out.Successful, batchSent{e.ID, m})
		}
	}
	return out, nil
}

type receiveInput struct {
	QueueURL                    string `json:"QueueUrl"`
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             int
	AttributeNames              []string
	MessageSystemAttributeNames []string
}

type received struct {
	MessageID     string `json:"MessageId"`
	ReceiptHandle string
	MD5OfBody     string
	Body          string
	Attributes    map[string]string `json:",omitempty"`
}

func (s *Server) receive(r *http.Request, in receiveInput) (any, error) {
	n, hide := 1, time.Duration(-1)
	if in.MaxNumberOfMessages != nil {
		n = *in.MaxNumberOfMessages
	}
	if in.VisibilityTimeout != nil {
		hide = time.Duration(*in.VisibilityTimeout) * time.Second
	}
	if n < 1 || n > maxEntries || in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > maxWait || hide > maxHide*time.Second || in.VisibilityTimeout != nil && hide < 0 {
		return nil, badValue("MaxNumberOfMessages, WaitTimeSeconds or VisibilityTimeout is out of range.")
	}
	got, err := s.wait(r.Context(), name(in.QueueURL), n, hide, time.Duration(in.WaitTimeSeconds)*time.Second)
	if err != nil {
		return nil, err
	}
	out := struct {
		Messages []received `json:",omitempty"`
	}{}
	wanted := append(in.AttributeNames, in.MessageSystemAttributeNames...)
	for _, m := range got {
		attributes := m.attributes(s.options.Account)
		if !slices.Contains(wanted, "All") {
			maps.DeleteFunc(attributes, func(k, _ string) bool { return !slices.Contains(wanted, k) })
		}
		out.Messages = append(out.Messages, received{m.id, m.receipt, sum(m.body), m.body, attributes})
	}
	return out, nil
}

func (m *message) attributes(account string) map[string]string {
	return map[string]string{
		"ApproximateReceiveCount":          fmt.Sprint(m.receives),
		"ApproximateFirstReceiveTimestamp": millis(m.first),
		"SentTimestamp":                    millis(m.sent),
		"SenderId":                         account,
	}
}

type receiptInput struct {
	QueueURL      string `json:"QueueUrl"`
	ReceiptHandle string
}

func (s *Server) deleteBatch(in struct {
	QueueURL string `json:"QueueUrl"`
	Entries  []struct {
		ID            string `json:"Id"`
		ReceiptHandle string
	}
}) (any, error) {
	var ids []string
	for _, e := range in.Entries {
		ids = append(ids, e.ID)
	}
	if err := checkBatch(ids); err != nil {
		return nil, err
	}
	type deleted struct {
		ID string `json:"Id"`
	}
	out := struct {
		Successful []deleted     `json:",omitempty"`
		Failed     []batchFailed `json:",omitempty"`
	}{}
	for _, e := range in.Entries {
		switch err := s.remove(name(in.QueueURL), e.ReceiptHandle); {
		case errors.Is(err, noQueue):
			return nil, err
		case err != nil:
			out.Failed = append(out.Failed, refused(e.ID, err))
		default:
			out.Successful = append(out.Successful, deleted{e.ID})
		}
	}
	return out, nil
}

func (s *Server) changeVisibility(in struct {
	QueueURL          string `json:"QueueUrl"`
	ReceiptHandle     string
	VisibilityTimeout int
}) (any, error) {
	if in.VisibilityTimeout < 0 || in.VisibilityTimeout > maxHide {
		return nil, badValue("Value %d for parameter VisibilityTimeout is invalid. Reason: must be between 0 and %d.", in.VisibilityTimeout, maxHide)
	}
	return struct{}{}, s.hide(name(in.QueueURL), in.ReceiptHandle, time.Duration(in.VisibilityTimeout)*time.Second)
}

func (s *Server) getAttributes(in struct {
	QueueURL       string `json:"QueueUrl"`
	AttributeNames []string
}) (any, error) {
	all, err := s.attributes(name(in.QueueURL))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(in.AttributeNames, "All") {
		maps.DeleteFunc(all, func(k, _ string) bool { return !slices.Contains(in.AttributeNames, k) })
	}
	return struct {
		Attributes map[string]string `json:",omitempty"`
	}{all}, nil
}
