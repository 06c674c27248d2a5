package directory

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

func TestParsePHC(t *testing.T) {
	ctx := context.Background()
	s, err := hashPassword(ctx, Cost{Memory: 64, Time: 1, Threads: 1}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePHC(s)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := p.matches(ctx, []byte("secret")); !ok || err != nil {
		t.Errorf("the password: %t, %v", ok, err)
	}
	if ok, err := p.matches(ctx, []byte("secre")); ok || err != nil {
		t.Errorf("another: %t, %v", ok, err)
	}
	for name, bad := range map[string]string{
		"empty":               "",
		"another algorithm":   strings.Replace(s, "argon2id", "argon2i", 1),
		"another version":     strings.Replace(s, "v=19", "v=16", 1),
		"no memory":           strings.Replace(s, "m=64", "m=0", 1),
		"all the memory":      strings.Replace(s, "m=64", "m=4000000000", 1),
		"endless":             strings.Replace(s, "t=1", "t=4000000000", 1),
		"no thread":           strings.Replace(s, "p=1", "p=0", 1),
		"a leading zero":      strings.Replace(s, "m=64", "m=064", 1),
		"something behind it": s + "$",
		"padding":             s + "=",
		"a short tag":         s[:len(s)-4],
	} {
		if _, err := parsePHC(bad); err == nil {
			t.Errorf("%s: accepted %s", name, bad)
		} else if strings.Contains(err.Error(), "$") {
			t.Errorf("%s: the error quotes the hash", name)
		}
	}
}

func TestDummyMatchesNothing(t *testing.T) {
	if ok, err := dummy(Cost{Memory: 64, Time: 1, Threads: 1}).matches(context.Background(), nil); ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
}

// A caller that has gone does not wait for its turn to hash.
func TestHashingIsBounded(t *testing.T) {
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	defer func() {
		for range cap(hashing) {
			<-hashing
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := hashPassword(ctx, Cost{Memory: 64, Time: 1, Threads: 1}, []byte("x")); err == nil {
		t.Error("a hash was computed beyond the bound")
	}
}

// The line before the hashes is of bounded length: who would wait behind it is told to come back, at once and before the
// attempt is counted, and who stands in it gets its turn.
func TestLineIsBounded(t *testing.T) {
	ctx, cheap := t.Context(), Cost{Memory: 64, Time: 1, Threads: 1}
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	var all sync.WaitGroup
	var made atomic.Int32
	for range maxLine {
		all.Go(func() {
			if _, err := hashPassword(ctx, cheap, []byte("x")); err != nil {
				t.Error(err)
			}
			made.Add(1)
		})
	}
	for !crowded() {
		runtime.Gosched()
	}
	soon, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if _, err := hashPassword(soon, cheap, []byte("x")); !errors.Is(err, core.Throttled) {
		t.Errorf("behind a full line: %v, want core.Throttled", err)
	}
	s := Service{} // it has no store to count in
	if _, err := s.Authenticate(ctx, core.Actor{Tenant: "acme"}, "ada@example.com", "correct horse battery", false); !errors.Is(err, core.Throttled) {
		t.Errorf("a sign-in behind a full line: %v, want core.Throttled", err)
	}
	for range cap(hashing) {
		<-hashing
	}
	all.Wait()
	if made.Load() != maxLine || crowded() {
		t.Errorf("%d of the line got their turn, crowded %v", made.Load(), crowded())
	}
	if _, err := hashPassword(ctx, cheap, []byte("x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parsePHC(s); err == nil && (p.String() != s || p.Memory > 256<<10 || p.Time > 16 || p.Threads > 4) {
			t.Errorf("accepted %q", s)
		}
	})
}

func TestCommonPasswords(t *testing.T) {
	n := 0
	for p := range common() {
		n++
		if p != strings.ToLower(p) || len([]rune(p)) < MinPassword {
			t.Errorf("%q is never looked up", p)
		}
	}
	if n < 500 {
		t.Errorf("%d passwords in the list", n)
	}
}
