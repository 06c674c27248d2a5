//go:build race

package token_test

// The race detector makes a mutation ten times as dear and finds nothing in it that fewer would not.
func init() { mutations = 10_000 }
