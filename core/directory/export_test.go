package directory

import "golang.org/x/crypto/argon2"

// Hashed notes the parameters of each hash that is computed while do runs.
func Hashed(do func()) (costs []Cost) {
	defer func() { idKey = argon2.IDKey }()
	idKey = func(password, salt []byte, time, memory uint32, threads uint8, size uint32) []byte {
		costs = append(costs, Cost{Memory: memory, Time: time, Threads: threads})
		return argon2.IDKey(password, salt, time, memory, threads, size)
	}
	do()
	return costs
}
