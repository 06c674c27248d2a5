package streams

import "testing"

// A function's answer to a batch.
func FuzzFailures(f *testing.F) {
	for _, s := range []string{``, `null`, `{}`, `{"batchItemFailures":null}`, `{"batchItemFailures":[{"itemIdentifier":"1"}]}`, `{"batchItemFailures":[{}]}`, `[]`, `"x"`, `{"batchItemFailures":[{"itemIdentifier":1}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		failed, err := failures(answer)
		for _, id := range failed {
			if id == "" || err != nil {
				t.Errorf("%q: %q and %v", answer, failed, err)
			}
		}
	})
}
