package firestore

import (
	"crypto/rand"
	"encoding/binary"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// A mark is written into every document that a commit puts. Each commit has a nonce of its own, for two reasons: a put that
// changes nothing would keep the document's old update time, and so its Version; and a commit whose answer was lost is known
// by it.
type mark struct {
	nonce   [16]byte
	expires bool  // the commit put something that expires
	follows int64 // the update time of the document that this one took the place of, in Unix microseconds; 0: there was none
}

const markSize = 16 + 1 + 8

func newNonce() (n [16]byte) {
	rand.Read(n[:]) // it never fails
	return n
}

func (m mark) bytes() []byte {
	b := append(make([]byte, 0, markSize), m.nonce[:]...)
	if m.expires {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(m.follows))
}

func parseMark(b []byte) (m mark, ok bool) {
	if len(b) != markSize {
		return m, false
	}
	copy(m.nonce[:], b)
	m.expires = b[16] != 0
	m.follows = int64(binary.BigEndian.Uint64(b[17:]))
	return m, true
}

// micros is an update time as a mark keeps it.
func micros(t *timestamppb.Timestamp) int64 {
	if t == nil {
		return 0
	}
	return t.AsTime().UnixMicro()
}
