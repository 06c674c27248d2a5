//go:build race

package admin

// raceEnabled says that the race detector runs, which makes everything some ten times slower.
const raceEnabled = true
